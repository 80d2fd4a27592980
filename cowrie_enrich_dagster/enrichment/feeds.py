"""Feeds before calls: one list answers for many addresses, as of its day, before any is asked about alone.

A feed goes the way of every lookup (queue, limiter, cache), as a service whose keys are days: so each list is
fetched once, whoever needs it. Its entries for our addresses then become observations of the service itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import requests
from sqlalchemy import select

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.enrichment.by_day import count_by_day
from cowrie_enrich_dagster.enrichment.told_days import answers_for, unanswered
from cowrie_enrich_dagster.enrichment.written_days import forget_written, has_rows_of
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import ALL, Answer, Facts, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS, fetch_feed
from cowrie_enrich_dagster.storage.bulk import upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import Observation, SessionIp, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus

MAX_LISTS = 31
"""Lists that one run fetches at most, newest first; the next run goes on with those before them."""
SETTLED_AFTER = timedelta(days=2)
"""A day's list may still grow on the day after: reports come late."""
OPEN_TTL = timedelta(hours=12)
SETTLED_TTL = timedelta(days=30)
_OBSERVATIONS = table_of(Observation)
_ADDRESSES = table_of(SessionIp)
_COLUMNS = ("service", "key", "fetched_at", "status", "payload", "feed")

OpenDays = dict[str, set[date]]
"""Addresses, each with the days of it that no answer is about."""


@dataclass
class FeedReport:
    """What one feed came to.

    `requests` were sent for `lists` (those at hand included) with `entries`, and `dropped` that were none; of
    the `wanted` addresses of ours, which no answer covers yet, they answered `answered`. `left` lists are for
    the next run to fetch. `problem`: why a list is missing, if one is.
    """

    feed: str
    service: str
    requests: int = 0
    lists: int = 0
    entries: int = 0
    dropped: int = 0
    wanted: int = 0
    answered: int = 0
    left: int = 0
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, with the share of the wanted addresses that needs no call any more."""
        share = self.answered / self.wanted if self.wanted else None
        return {**vars(self), "share_answered": share}


class FeedService:
    """A feed as a service: a key is a day (YYYY-MM-DD), its answer the list as of then. See `Service`.

    A `settled` list does not change any more; others are worth another look after half a day
    (https://isc.sans.edu/diary/27824 asks for no more than that).
    """

    batch_size = 1
    is_free = False
    own_moment: tuple[str, ...] = ()
    tells: frozenset[str] = frozenset()

    def __init__(self, name: str, *, settled: bool) -> None:
        source = FEEDS[name]
        base = ALL[source.service]
        self.name = name
        self.rank, self.subject, self.default_url = base.rank, base.subject, base.default_url
        self.needs_key = base.needs_key
        self.limits = source.limits or base.limits
        self.limit_statuses, self.auth_statuses = base.limit_statuses, base.auth_statuses
        self.ttl = self.not_found_ttl = SETTLED_TTL if settled else OPEN_TTL

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """The list as of the day, or the current one where the feed is not dated. Raises as `fetch_feed`."""
        (key,) = keys
        feed = fetch_feed(self.name, date.fromisoformat(key), http, config)
        payload = {"as_of": feed.as_of.isoformat(), "dropped": feed.dropped, "entries": feed.entries}
        return {key: Answer(LookupStatus.FOUND, payload)}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """A list is kept nowhere but in our own tables."""
        return Answer(LookupStatus.FOUND, dict(payload))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """A list says nothing as a whole."""
        return Facts()


Fetch = Callable[[Service, Sequence[Wanted]], FetchReport]
"""Asks a service about keys, as `Fetcher.fetch` does."""


def read_feed(
    name: str, days: Days, *, database: Database, cache: DatabaseCache, queue: LookupQueue, fetch: Fetch
) -> FeedReport:
    """Let a feed answer for the addresses of `days` that nothing answers for yet, newest list first.

    What is at hand is not fetched again, and nothing at all is where no address is in need. After the first
    list that fails, is refused or must be waited for too long, which is a `problem` and never an error, only
    those at hand are read.
    """
    service = ALL[FEEDS[name].service]
    left = unanswered(database, service, days)
    report = FeedReport(name, service.name, wanted=len(left))
    answered: set[str] = set()
    missing = 0
    now = database.moment()
    for day in _lists_for(name, left, now):
        if not _may_help(service, min(_end_of(day), now), now, left):
            continue
        entry = cache.get_many(name, [str(day)]).get(str(day))
        if entry is None or not entry.is_fresh(now):
            if report.problem:
                missing += 1
            elif report.requests >= MAX_LISTS:
                report.left += 1
            else:
                settled = FEEDS[name].is_dated and now.date() - day >= SETTLED_AFTER
                fetched = fetch(FeedService(name, settled=settled), [Wanted(str(day), last_day=day)])
                report.requests += fetched.api_calls
                entry = cache.get_many(name, [str(day)]).get(str(day))
                if entry is None or not entry.is_fresh(now):
                    last = queue.statuses(name, [str(day)]).get(str(day))
                    why = fetched.stopped_because or (last.status if last else LookupStatus.DEFERRED)
                    report.problem = f"the list of {day}: {why}"
        if entry is None:
            continue
        rows = list(_told(name, service, entry, left, now, report))
        keys = [key for _, key, *_ in rows]
        answered.update(keys)
        _keep(database, queue, service.name, rows, [key for key in keys if key not in left])
    report.answered = len(answered)
    if missing:
        report.problem += f"; {missing} more not asked for"
    return report


@survives_outage
def _keep(
    database: Database, queue: LookupQueue, service: str, rows: Sequence[tuple[Any, ...]], done: Sequence[str]
) -> None:
    with database.write() as connection:
        upsert_rows(connection, _OBSERVATIONS, _COLUMNS, rows, key=_COLUMNS[:3], keep=_COLUMNS[3:])
        queue.close(connection, done, LookupStatus.FOUND, service=service)
        told = [row[1] for row in rows]
        if told:
            forget_written(database, connection, has_rows_of(database), told)


def _lists_for(name: str, left: OpenDays, now: datetime) -> list[date]:
    """Which lists may answer: of each day in need, newest first; of a feed without days, only the current."""
    if not FEEDS[name].is_dated:
        return [now.date()] if left else []
    return sorted((day for day in set().union(*left.values()) if day <= now.date()), reverse=True)


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(23, 59, 59), timezone.utc)


def _may_help(service: Service, known_at: datetime, now: datetime, left: OpenDays) -> bool:
    return any(answers_for(service.ttl, known_at, day, now) for days in left.values() for day in days)


def _told(
    name: str, service: Service, entry: CacheEntry, left: OpenDays, now: datetime, report: FeedReport
) -> Iterator[tuple[Any, ...]]:
    """The rows of `observations` that a list gives; what it answers is taken out of `left`."""
    payload = entry.payload or {}
    entries: Mapping[str, Any] = payload["entries"]
    report.lists += 1
    report.entries += len(entries)
    report.dropped += payload["dropped"]
    known_at = min(_end_of(date.fromisoformat(payload["as_of"])), entry.fetched_at)
    for ip in sorted(left.keys() & entries.keys()):
        told = {day for day in left[ip] if answers_for(service.ttl, known_at, day, now)}
        if told:
            left[ip] -= told
            if not left[ip]:
                del left[ip]
            yield service.name, ip, known_at, LookupStatus.FOUND.value, entries[ip], name


def told_by_feed(database: Database, feed: str, days: Days) -> dict[date, int]:
    """About how many addresses of each day a feed has told."""
    told = select(_OBSERVATIONS.c.key).where(_OBSERVATIONS.c.feed == feed)
    return count_by_day(database, _ADDRESSES.c.day, days, _ADDRESSES.c.src_ip.in_(told))
