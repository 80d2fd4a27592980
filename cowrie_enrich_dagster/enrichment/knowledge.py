"""What is known about keys, and what was known when: the latest answers and those before them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from sqlalchemy import BindParameter, Date, bindparam, text

from cowrie_enrich_dagster.cache import Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.keys import Key, rows_that_may_be_sent
from cowrie_enrich_dagster.enrichment.networks_told import NetworkTold
from cowrie_enrich_dagster.enrichment.spending import Spending
from cowrie_enrich_dagster.lookups.model import LastStatus
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Scope

FEED, HISTORY = "feed", "history"
"""What answers without a call beside the cache's tiers: a list; an answer of the time, expired since."""


@dataclass(frozen=True)
class AskedService:
    """A service that takes part in this run, whether we have what it takes to ask it, and are refused."""

    service: Service
    has_key: bool
    is_refused: bool = False


@dataclass(frozen=True)
class Observed:
    """One answer. `stale`: expired, or replaced by a newer lookup's. `feed`: the list it was read off."""

    status: LookupStatus
    payload: Mapping[str, Any] | None
    fetched_at: datetime
    expires_at: datetime
    stale: bool
    feed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel`; the answer itself stands in `answers`.

        It stands in every session of the address: what is usual is left out, and so are fractions.
        """
        moment = f"{self.fetched_at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        told: dict[str, Any] = {"status": self.status.value, "fetched_at": moment}
        if self.stale:
            told["stale"] = True
        return {**told, "feed": self.feed} if self.feed else told


@dataclass
class Knowledge:
    """All that one service had told about some keys by `gathered_at`; what not, `statuses` explains.

    `networks`: what it told of the networks of addresses that it has not answered; `spared`: why keys are not
    worth a call of it.
    """

    asked: AskedService
    keys: Sequence[Key]
    history: Mapping[str, list[Observed]]
    statuses: Mapping[str, LastStatus]
    gathered_at: datetime
    tiers: Counter[str] = field(default_factory=Counter)
    networks: Mapping[str, NetworkTold] = field(default_factory=dict)
    spared: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.asked.service.name

    def changes(self, key: str) -> list[datetime]:
        """The moments at which another answer may be the one that was known (see `as_of`)."""
        history = self.history.get(key, [])
        if len(history) < 2:
            return []
        return [moment for told in history for moment in (told.fetched_at, told.expires_at)]

    def as_of(self, key: str, moment: datetime) -> Observed | None:
        """The answer that was known at the moment and still held, else the first that came later.

        Where none came later, the last one before, stale though it was.
        """
        history = self.history.get(key, [])
        place = bisect_right(history, moment, key=lambda observed: observed.fetched_at)
        earlier = history[place - 1] if place else None
        later = history[place] if place < len(history) else None
        held = earlier is not None and moment < earlier.expires_at
        return earlier if held else later or earlier

    def latest(self, key: str) -> Observed | None:
        """The newest answer there is."""
        history = self.history.get(key)
        return history[-1] if history else None

    def facts(self, observed: Observed) -> Facts:
        """An answer in the columns that all services share."""
        return self.asked.service.facts(observed.payload) if observed.payload else Facts()

    def status(self, key: Key) -> LookupStatus:
        """How the latest lookup ended, or why there was none."""
        if latest := self.latest(key.value):
            return latest.status
        if not key.may_be_sent_to(self.asked.service):
            return LookupStatus.SKIPPED_POLICY
        if not self.asked.has_key:
            return LookupStatus.SKIPPED_NO_KEY
        if key.value in self.spared and key.value not in self.statuses:
            return LookupStatus.SKIPPED_POLICY
        status = self._last(key).status
        if status.is_answer or status is LookupStatus.DEFERRED:  # an answer was purged since
            return LookupStatus.AUTH_FAILED if self.asked.is_refused else LookupStatus.DEFERRED
        return status

    def _last(self, key: Key) -> LastStatus:
        return self.statuses.get(key.value) or LastStatus(LookupStatus.DEFERRED)

    def without_answer(self, key: Key) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel` where nothing is known: why not."""
        spared = None
        if not key.may_be_sent_to(self.asked.service):
            spared = "listed as a known scanner" if key.known_scanner else key.scanner_list
        of_network = self.networks.get(key.value)
        known = f"known of {of_network.network}" if of_network else self.spared.get(key.value)
        detail = spared or self._last(key).detail or known
        told = {"status": self.status(key).value}
        return {**told, "detail": detail} if detail else told


@repeats_after_outage
def gather(
    database: Database,
    cache: HybridEnrichmentCache,
    queue: LookupQueue,
    asked: AskedService,
    keys: Sequence[Key],
    spending: Spending | None = None,
) -> Knowledge:
    """Everything one service has told about the keys, by one query per tier and one for the history.

    An expired answer counts, marked stale, where there is no newer one (stale-if-error, RFC 5861).
    """
    name = asked.service.name
    gathered_at = database.moment()
    sent = [key.value for key in keys if key.scope is Scope.GLOBAL]
    hits = cache.get_many(name, sent, allow_stale=True)
    history = _history(database, asked.service, sent)
    tiers = Counter(FEED if told[-1].feed else HISTORY for key, told in history.items() if key not in hits)
    tiers.update(hit.tier for hit in hits.values())
    for key, hit in hits.items():
        history.setdefault(key, []).append(_observed(hit))
        history[key].sort(key=lambda observed: observed.fetched_at)  # a feed may tell later than a lookup
    missing = [key for key in sent if key not in history]
    statuses = queue.statuses(name, missing) if missing and asked.has_key else {}
    networks: dict[str, NetworkTold] = {}
    spared: dict[str, str] = {}
    if spending is not None and spending.want is not None:
        if "network" in asked.service.tells:
            networks = spending.networks(asked.service).of(missing)
        _, spared = spending.open_facts(asked.service, missing)
    return Knowledge(asked, keys, history, statuses, gathered_at, tiers, networks, spared)


def _observed(hit: Hit) -> Observed:
    entry = hit.entry
    return Observed(entry.status, entry.payload, entry.fetched_at, entry.expires_at, hit.stale)


def _history(database: Database, service: Service, keys: Sequence[str]) -> dict[str, list[Observed]]:
    query = text(
        "SELECT key, status, payload, fetched_at, told_at, feed FROM observations "
        f"WHERE service = :service AND {database.among('key')} ORDER BY key, fetched_at"
    ).columns(fetched_at=UtcDateTime(), payload=Json, told_at=Json)
    history: dict[str, list[Observed]] = {}
    with database.read() as connection:
        now = database.now(connection)
        for row in connection.execute(query, {"service": service.name, "keys": to_json(list(keys))}):
            status = LookupStatus(row.status)
            of_key = history.setdefault(row.key, [])
            for moment in (row.fetched_at, *map(_moment, row.told_at or ())):
                expires_at = moment + _ttl(service, status)
                stale = row.feed is None or expires_at <= now
                of_key.append(Observed(status, row.payload, moment, expires_at, stale, row.feed))
    for of_key in history.values():
        of_key.sort(key=lambda observed: observed.fetched_at)
    return history


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def _ttl(service: Service, status: LookupStatus) -> timedelta:
    return service.ttl if status is LookupStatus.FOUND else service.not_found_ttl


def answers_for(ttl: timedelta, moment: datetime, day: date, now: datetime) -> bool:
    """Whether an answer of the moment, which holds for `ttl`, is one about the day.

    It is if it held at some time of the day, or came no later than `ttl` after it: asking now would tell
    about now, not about then. A fresh one does for any day, as in the cache.
    """
    if moment + ttl > now:
        return True
    begin = datetime.combine(day, time(), timezone.utc)
    return moment + ttl > begin and moment < begin + timedelta(days=1) + ttl


@repeats_after_outage
def unanswered(database: Database, service: Service, days: Days) -> dict[str, set[date]]:
    """The addresses that may be sent and have no fresh answer, each with its days that no answer is about."""
    query = text(f"""
        SELECT a.src_ip FROM session_ips AS a
        WHERE a.day BETWEEN :first AND :last AND {rows_that_may_be_sent(service)}
          AND NOT EXISTS (SELECT 1 FROM enrichment_cache AS c WHERE c.service = :service
                          AND c.cache_key = a.src_ip AND c.expires_at > :now)
        GROUP BY a.src_ip
    """).bindparams(*_span(days), bindparam("now", type_=UtcDateTime()))
    with database.read() as connection:
        values = {"service": service.name, "now": database.now(connection)}
        keys = list(connection.execute(query, values).scalars())
    told = _told_by_day(database, service, keys, days)
    return {key: open_days for key, (_, open_days) in told.items() if open_days}


def ever_told(database: Database, service: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys of which the service, or a list of it, has ever told."""
    query = text(f"""
        SELECT key FROM observations WHERE service = :service AND {database.among("key")}
        UNION SELECT cache_key FROM enrichment_cache
        WHERE service = :service AND {database.among("cache_key")}
    """)
    with database.read() as connection:
        values = {"service": service, "keys": to_json(list(keys))}
        return set(connection.execute(query, values).scalars())


def told_in_time(database: Database, service: Service, keys: Sequence[str], days: Days) -> dict[str, str]:
    """The addresses for whose every day of `days` there is an answer, fresh or of that time; what had it.

    That is a feed, or the history: an answer that has expired or been replaced since.
    """
    told = _told_by_day(database, service, keys, days)
    return {key: FEED if by_feed else HISTORY for key, (by_feed, open_days) in told.items() if not open_days}


def _told_by_day(
    database: Database, service: Service, keys: Sequence[str], days: Days
) -> dict[str, tuple[bool, set[date]]]:
    """For each address whether a feed answers for a day of it, and the days that nothing answers for."""
    seen = text(
        "SELECT src_ip, day FROM session_ips "
        f"WHERE day BETWEEN :first AND :last AND {database.among('src_ip')}"
    ).bindparams(*_span(days)).columns(day=Date())  # fmt: skip
    answers = text(f"""
        SELECT key, fetched_at, told_at, status, feed FROM observations
        WHERE service = :service AND {database.among("key")}
        UNION ALL SELECT cache_key, fetched_at, NULL, status, NULL FROM enrichment_cache
        WHERE service = :service AND {database.among("cache_key")}
    """).columns(fetched_at=UtcDateTime(), told_at=Json)
    wanted = to_json(list(keys))
    moments: dict[str, list[tuple[timedelta, datetime, bool]]] = {}
    told: dict[str, tuple[bool, set[date]]] = {}
    with database.read() as connection:
        now = database.now(connection)
        for row in connection.execute(answers, {"service": service.name, "keys": wanted}):
            ttl = _ttl(service, LookupStatus(row.status))
            moments.setdefault(row.key, []).extend(
                (ttl, at, row.feed is not None) for at in (row.fetched_at, *map(_moment, row.told_at or ()))
            )
        for row in connection.execute(seen, {"keys": wanted}):
            by_feed, open_days = told.get(row.src_ip, (False, set()))
            answering = [
                feed for ttl, at, feed in moments.get(row.src_ip, ()) if answers_for(ttl, at, row.day, now)
            ]
            told[row.src_ip] = (by_feed or any(answering), open_days if answering else open_days | {row.day})
    return told


def _span(days: Days) -> tuple[BindParameter[date], BindParameter[date]]:
    return bindparam("first", days.first, Date), bindparam("last", days.last, Date)


def forget(database: Database, service: str | None, keys: Sequence[str] | None) -> int:
    """Delete from `observations` what a service, or a feed of that name, told (of some keys); how many rows.

    Everything, where no service is named.
    """
    conditions = ["(service = :service OR feed = :service)"] if service else []
    conditions += [database.among("key")] if keys else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    values = {"service": service} if service else {}
    with database.write() as connection:
        parameters = {**values, **({"keys": to_json(list(keys))} if keys else {})}
        return connection.execute(text(f"DELETE FROM observations{where}"), parameters).rowcount
