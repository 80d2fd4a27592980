"""Keeping lists fresh: one request when its time has come, and the last good one where that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import Any

from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.list_book import ListBook
from cowrie_enrich_dagster.enrichment.list_service import ListService
from cowrie_enrich_dagster.enrichment.list_store import FAILED, GOOD, REFUSED, UNCHANGED, ListState, Look
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.services.lists import (
    MAX_BYTES,
    ListForm,
    ListPlace,
    ListRefused,
    ReadList,
    read_list,
    refuse_shrunken,
)
from cowrie_enrich_dagster.settings import ListSettings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus

RETRY_AFTER = timedelta(hours=1)
"""A list that could not be had, or was refused, is not asked for again before."""
SHRINKS_AFTER = timedelta(days=7)
"""A last good one that is older than this does not keep a much smaller one out."""
OVERDUE = 2
"""A list is late when its last good look is older than so many times its refresh hours."""
MIN_ADDRESSES = 20
"""Of fewer addresses a share says nothing."""

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
    """Whether its time has come: its hours are over, or its settings or its file are others than the last
    time."""
    if state.last is None or state.last.read_as != settings.read_as:
        return True
    if settings.file is not None and _mark_of(settings.file) != state.last.etag:
        return True
    return _hours_are_over(settings, state.last, now)


def _hours_are_over(settings: ListSettings, last: Look, now: datetime) -> bool:
    refresh = timedelta(hours=settings.refresh_hours)
    return now >= last.fetched_at + (refresh if last.status in GOOD else min(RETRY_AFTER, refresh))


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
    last = state.last
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):  # a pipe may have no writer, a device no end
            raise OSError("it is no file")
        mark = _mark(stat)
        if last and (last.etag, last.read_as) == (mark, settings.read_as):
            if not _hours_are_over(settings, last, now):
                return None
            if last.status in GOOD:
                return _unchanged(database, settings, state, mark)
        if stat.st_size > MAX_BYTES:
            raise ListRefused(f"it has more than {MAX_BYTES // 2**20} MiB")
        return _taken(settings, database, book, state, path.read_bytes(), ListPlace("", mark), now)
    except ListRefused as problem:
        return _not_taken(database, settings, REFUSED, str(problem), etag=mark)
    except OSError as problem:
        why = problem.strerror or str(problem)
        return _not_taken(database, settings, FAILED, why)


def _of_url(
    settings: ListSettings, database: Database, queue: LookupQueue, book: ListBook, state: ListState,
    fetch: Fetch, now: datetime,
) -> tuple[Look | None, int]:  # fmt: skip
    held = state.taken is not None and state.taken.entries
    # Without entries of ours, or with some read otherwise, "not changed" would tell nothing.
    newest = state.good if held and state.good and state.good.read_as == settings.read_as else None
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
    return list_store.note(
        database, settings.name, settings.says, UNCHANGED, read_as=settings.read_as, **told
    )


def _not_taken(database: Database, settings: ListSettings, status: str, reason: str, **told: Any) -> Look:
    return list_store.note(
        database, settings.name, settings.says, status, reason=reason, read_as=settings.read_as, **told
    )


def _taken(
    settings: ListSettings, database: Database, book: ListBook, state: ListState, body: bytes,
    place: ListPlace, now: datetime,
) -> Look:  # fmt: skip
    form = ListForm(settings.format, settings.column)
    read = read_list(body, form, keeps_unroutable=settings.says == "own")
    good = state.good
    is_recent = good is not None and now - good.fetched_at < SHRINKS_AFTER
    if good and good.entries and settings.says != "own" and is_recent and good.read_as == settings.read_as:
        refuse_shrunken(len(read.networks), good.entries)
    if settings.says == "scanner":
        _refuse_greedy(database, settings, read)
    return list_store.take(
        database, settings.name, settings.says, read,
        size=len(body), etag=place.etag, last_modified=place.last_modified, read_as=settings.read_as,
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
