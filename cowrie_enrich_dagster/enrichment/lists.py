"""Keeping lists fresh: one request when its time has come, and the last good one where that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.list_book import ListBook
from cowrie_enrich_dagster.enrichment.list_store import FAILED, GOOD, REFUSED, UNCHANGED, ListState, Look
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import Answer, Facts, Limits, Service, ServiceConfig
from cowrie_enrich_dagster.services.lists import (
    MAX_BYTES,
    ListForm,
    ListPlace,
    ListRefused,
    ReadList,
    fetch_list,
    list_service_name,
    read_list,
    refuse_shrunken,
)
from cowrie_enrich_dagster.settings import ListSettings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

RETRY_AFTER = timedelta(hours=1)
"""A list that could not be had, or was refused, is not asked for again before."""
SHRINKS_AFTER = timedelta(days=7)
"""A last good one that is older than this does not keep a much smaller one out."""
OVERDUE = 2
"""A list is late when its last good look is older than so many times its refresh hours."""
MIN_ADDRESSES = 20
"""Of fewer addresses a share says nothing."""
_TTL = timedelta(minutes=1)
_LIMITS = Limits(
    rate=1 / 60, source="ours: a list is looked at once in its refresh hours, of an hour or more"
)

Fetch = Callable[[Service, Sequence[Wanted]], FetchReport]


@dataclass(frozen=True)
class ListReport:
    """Where a list stands: `status` of this look (`fresh`: it was not its time), and what holds.

    `held`: why a scanners' list, though it is there, spares nothing. `age_s`: since the last good look (None:
    there was none).
    """

    list: str
    says: str
    status: str
    reason: str = ""
    held: str = ""
    requests: int = 0
    entries: int | None = None
    entries_before: int | None = None
    came: int = 0
    went: int = 0
    bad_lines: int = 0
    unroutable: int = 0
    good_at: datetime | None = None
    age_s: float | None = None
    is_late: bool = False

    @property
    def problem(self) -> str:
        """What an operator should know, in a sentence; empty for nothing."""
        if self.held:
            return self.held
        if self.status in (REFUSED, FAILED):
            kept = f"; the one of {self.good_at:%Y-%m-%d %H:%M} UTC is kept" if self.good_at else ""
            return f"{self.status}: {self.reason}{kept}"
        return "it was not looked at for too long" if self.is_late else ""

    @property
    def is_of_other_size(self) -> bool:
        """Whether it has less than half, or more than twice, the entries of the time before."""
        if not self.entries or not self.entries_before or self.entries_before < MIN_ADDRESSES:
            return False
        return not 0.5 <= self.entries / self.entries_before <= 2

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        good_at = self.good_at.isoformat() if self.good_at else None
        return {**asdict(self), "good_at": good_at, "problem": self.problem}


class ListService:
    """A list as a service that knows one key: its name. See `Service`.

    What it reads goes to `keep` before its lookup is closed, so that nothing is lost between the two.
    """

    rank = 0
    subject = Subject.IP
    ttl = not_found_ttl = _TTL
    limits = _LIMITS
    needs_key = False
    limit_statuses = frozenset({429})
    auth_statuses: frozenset[int] = frozenset()
    batch_size = 1
    is_free = False
    own_moment: tuple[str, ...] = ()
    tells: frozenset[str] = frozenset()

    def __init__(
        self, settings: ListSettings, place: ListPlace, keep: Callable[[bytes | None, ListPlace], Look]
    ) -> None:
        self.name = list_service_name(settings.name)
        self.default_url = place.url
        self._place, self._keep = place, keep
        self.look: Look | None = None

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """Fetch it, and keep it. See `Service.fetch`."""
        (key,) = keys
        try:
            got = fetch_list(self._place, http)
            self.look = self._keep(got.body, ListPlace(self._place.url, got.etag, got.last_modified))
        except ListRefused as problem:
            return {key: Answer(LookupStatus.INVALID_RESPONSE, detail=str(problem))}
        return {key: Answer(LookupStatus.FOUND, {"entries": self.look.entries})}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """A list is kept in its own tables."""
        return Answer(LookupStatus.FOUND, dict(payload))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """A list says nothing as a whole."""
        return Facts()


def refresh_list(
    settings: ListSettings, *, database: Database, queue: LookupQueue, book: ListBook, fetch: Fetch
) -> ListReport:
    """Look at a list if its time has come; whatever goes wrong is told in the report and never an error."""
    state = list_store.states(database).get(settings.name, ListState())
    now = database.moment()
    if not is_due(settings, state, now):
        return _report(settings, database, "fresh", state, now)
    if settings.file is not None:
        look, sent = _of_file(settings, database, book, state, now), 0
    else:
        look, sent = _of_url(settings, database, queue, book, state, fetch, now)
    if look is None:
        return _report(
            settings, database, "fresh", list_store.states(database).get(settings.name, state), now
        )
    after = list_store.states(database)[settings.name]
    return _report(settings, database, look.status, after, database.moment(), look, sent)


def is_due(settings: ListSettings, state: ListState, now: datetime) -> bool:
    """Whether its time has come: its hours are over, or its file is another than the last time."""
    if state.last is None or (settings.file is not None and _mark_of(settings.file) != state.last.etag):
        return True
    refresh = timedelta(hours=settings.refresh_hours)
    return now >= state.last.fetched_at + (
        refresh if state.last.status in GOOD else min(RETRY_AFTER, refresh)
    )


def _mark_of(file: Path) -> str | None:
    """What tells one version of a file from another; None: it cannot be had."""
    try:
        return _mark(file.stat())
    except OSError:
        return None


def _mark(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def _of_file(
    settings: ListSettings, database: Database, book: ListBook, state: ListState, now: datetime
) -> Look | None:
    path = settings.file
    assert path is not None  # noqa: S101 (of a list in a file)
    refresh = timedelta(hours=settings.refresh_hours)
    try:
        stat = path.stat()
        mark = _mark(stat)
        if state.last and state.last.etag == mark:
            if state.last.status in GOOD and now >= state.last.fetched_at + refresh:
                return _unchanged(database, settings, state, mark)
            return None
        if stat.st_size > MAX_BYTES:
            raise ListRefused(f"it has more than {MAX_BYTES // 2**20} MiB")
        return _taken(settings, database, book, state, path.read_bytes(), ListPlace("", mark), now)
    except ListRefused as problem:
        return _not_taken(database, settings, REFUSED, str(problem), etag=mark)
    except OSError as problem:
        why = problem.strerror or type(problem).__name__
        if state.last and state.last.status == FAILED and state.last.reason == why:
            return state.last
        return _not_taken(database, settings, FAILED, why)


def _of_url(
    settings: ListSettings, database: Database, queue: LookupQueue, book: ListBook, state: ListState,
    fetch: Fetch, now: datetime,
) -> tuple[Look | None, int]:  # fmt: skip
    held = state.taken is not None and state.taken.entries
    newest = state.good if held else None  # without entries of ours, "not changed" would tell nothing
    place = ListPlace(
        str(settings.url), newest.etag if newest else None, newest.last_modified if newest else None
    )

    def keep(body: bytes | None, at: ListPlace) -> Look:
        if body is None:
            return _unchanged(database, settings, state, at.etag, at.last_modified)
        return _taken(settings, database, book, state, body, at, now)

    service = ListService(settings, place, keep)
    report = fetch(service, [Wanted(settings.name, last_day=now.date())])
    if service.look is not None:
        return service.look, report.api_calls
    last = queue.statuses(service.name, [settings.name]).get(settings.name)
    if not report.api_calls and not report.stopped_because:  # another process has just looked
        return None, 0
    status = REFUSED if report.statuses[LookupStatus.INVALID_RESPONSE.value] else FAILED
    return (
        _not_taken(database, settings, status, _why(queue, service.name, settings.name, report, last)),
        report.api_calls,
    )


def _why(queue: LookupQueue, service: str, key: str, report: FetchReport, last: Any) -> str:
    among = queue.why_open(service, queue.keys([key]))
    told = (among.detail if among else None) or (last.detail if last else None)
    return str(told or report.stopped_because or (last.status if last else "it was not asked for"))


def _unchanged(
    database: Database, settings: ListSettings, state: ListState, etag: str | None,
    last_modified: str | None = None,
) -> Look:  # fmt: skip
    entries = state.taken.entries if state.taken else None
    told = {"entries": entries, "etag": etag, "last_modified": last_modified}
    return list_store.note(database, settings.name, settings.says, UNCHANGED, **told)


def _not_taken(database: Database, settings: ListSettings, status: str, reason: str, **told: Any) -> Look:
    return list_store.note(database, settings.name, settings.says, status, reason=reason, **told)


def _taken(
    settings: ListSettings, database: Database, book: ListBook, state: ListState, body: bytes,
    place: ListPlace, now: datetime,
) -> Look:  # fmt: skip
    form = ListForm(settings.format, settings.column)
    read = read_list(body, form, keeps_unroutable=settings.says == "own")
    good = state.good
    if good is not None and good.entries and settings.says != "own" and now - good.fetched_at < SHRINKS_AFTER:
        refuse_shrunken(len(read.networks), good.entries)
    if settings.says == "scanner":
        _refuse_greedy(database, settings, read)
    return list_store.take(
        database, settings.name, settings.says, read,
        size=len(body), etag=place.etag, last_modified=place.last_modified,
    )  # fmt: skip


def _refuse_greedy(database: Database, settings: ListSettings, read: ReadList) -> None:
    from cowrie_enrich_dagster.services.lists.matching import NetworkTable  # numpy takes its time

    addresses = addresses_to_ask(database)
    spared = len(NetworkTable.of(list(read.networks)).rows_of(addresses))
    if why := greed(settings, spared, len(addresses)):
        raise ListRefused(why)


def greed(settings: ListSettings, spared: int, addresses: int) -> str:
    """Why a scanners' list that holds so many of our addresses is not believed; empty where it is."""
    if addresses < MIN_ADDRESSES or spared <= settings.allowed_share * addresses:
        return ""
    return (
        f"it would spare {spared / addresses:.0%} of our {addresses} addresses from being asked about: "
        f"allowed_share = {spared / addresses:.2f} in [[enrichment.lists]] would allow it"
    )


@survives_outage
def addresses_to_ask(database: Database) -> list[str]:
    """Every address of ours that may be sent, but for lists."""
    query = text("SELECT DISTINCT src_ip FROM session_ips WHERE scope = 'global' AND NOT known_scanner")
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def _report(
    settings: ListSettings, database: Database, status: str, state: ListState, now: datetime,
    look: Look | None = None, sent: int = 0,
) -> ListReport:  # fmt: skip
    if look is None and state.last is not None and state.last.status not in GOOD:
        status, look = state.last.status, state.last
    good = state.good
    age = now - good.fetched_at if good else None
    before = list_store.looks(database, settings.name, 2)[1:]
    return ListReport(
        settings.name,
        settings.says,
        status,
        reason=(look.reason if look else None) or "",
        requests=sent,
        entries=good.entries if good else None,
        entries_before=before[0].entries if before else None,
        came=look.came if look else 0,
        went=look.went if look else 0,
        bad_lines=look.bad_lines if look else 0,
        unroutable=look.unroutable if look else 0,
        good_at=good.fetched_at if good else None,
        age_s=age.total_seconds() if age is not None else None,
        is_late=age is None or age > OVERDUE * timedelta(hours=settings.refresh_hours),
    )


def list_reports(database: Database, lists: Collection[ListSettings]) -> list[ListReport]:
    """Where every list stands; nothing is looked at."""
    now, states = database.moment(), list_store.states(database)
    reports = []
    for settings in lists:
        state = states.get(settings.name, ListState())
        last = state.last
        status = last.status if last else "never"
        reports.append(_report(settings, database, status, state, now, last))
    return reports
