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

from cowrie_enrich_dagster.cache import CacheEntry, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.knowledge import answers_for, unanswered
from cowrie_enrich_dagster.enrichment.queue import LookupQueue, Outcome
from cowrie_enrich_dagster.services import ALL, Answer, Facts, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS, fetch_feed
from cowrie_enrich_dagster.storage.bulk import upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import Observation, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus

MAX_LISTS = 31
"""Lists of past days that one run fetches at most, newest first: at one in ten seconds, five minutes."""
OPEN_TTL = timedelta(hours=12)
SETTLED_TTL = timedelta(days=30)
_OBSERVATIONS = table_of(Observation)
_COLUMNS = ("service", "key", "fetched_at", "status", "payload", "feed")


@dataclass
class FeedReport:
    """What one feed came to.

    `requests` were sent for `lists` (those at hand included) with `entries`; of the `wanted` addresses of
    ours, which no answer covers yet, they answered `answered`. `problem`: why a list is missing, if one is.
    """

    feed: str
    service: str
    requests: int = 0
    lists: int = 0
    entries: int = 0
    wanted: int = 0
    answered: int = 0
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, with the share of the wanted addresses that needs no call any more."""
        share = self.answered / self.wanted if self.wanted else None
        return {**vars(self), "share_answered": share}


class FeedService:
    """A feed as a service: a key is a day (YYYY-MM-DD), its answer the list as of then. See `Service`.

    A `settled` list is of a day that is over, and does not change any more; others are worth another look
    after half a day (https://isc.sans.edu/diary/27824 asks for no more than that).
    """

    batch_size = 1

    def __init__(self, name: str, *, settled: bool) -> None:
        source = FEEDS[name]
        base = ALL[source.service]
        self.name = name
        self.rank, self.subject, self.default_url = base.rank, base.subject, base.default_url
        self.needs_key = base.needs_key
        self.limits = source.limits
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

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """A list says nothing as a whole."""
        return Facts()


Fetch = Callable[[Service, Mapping[str, int]], FetchReport]
"""Asks a service about keys (key -> priority), as `Fetcher.fetch` does."""


def read_feed(
    name: str,
    days: Days,
    *,
    database: Database,
    cache: HybridEnrichmentCache,
    queue: LookupQueue,
    fetch: Fetch,
) -> FeedReport:
    """Let a feed answer for the addresses of `days` that nothing answers for yet.

    What is at hand is not fetched again, and nothing at all is where no address is in need. A feed that
    fails, refuses or must be waited for too long is a `problem` in the report, never an error.
    """
    service = ALL[FEEDS[name].service]
    missing = unanswered(database, service, days)
    report = FeedReport(name, service.name, wanted=len(set().union(*missing.values())))
    with database.read() as connection:
        now = database.now(connection)
    wanted = _lists_for(name, service, missing, now)
    held = cache.database.get_many(name, wanted)
    for settled in (True, False):
        due = {
            day: date.fromisoformat(day).toordinal()
            for day in wanted
            if _is_settled(name, day, now) is settled and not (day in held and held[day].is_fresh(now))
        }
        if due:
            _fetch_lists(FeedService(name, settled=settled), due, fetch, queue, database, report)
    lists = cache.database.get_many(name, wanted).values()
    rows = [row for entry in lists for row in _observations(name, service, entry, missing, report)]
    with database.write() as connection:
        upsert_rows(connection, _OBSERVATIONS, _COLUMNS, rows, key=_COLUMNS[:3], keep=_COLUMNS[3:])
    report.answered = len({key for _, key, *_ in rows})
    return report


def _lists_for(name: str, service: Service, missing: Mapping[date, set[str]], now: datetime) -> list[str]:
    """Which lists may answer: of each day in need, newest first; of a feed without days, only today's."""
    if FEEDS[name].is_dated:
        past = sorted((day for day in missing if day <= now.date()), reverse=True)
        return [day.isoformat() for day in past[:MAX_LISTS]]
    useful = any(answers_for(service.ttl, now, day) for day in missing)
    return [now.date().isoformat()] if useful else []


def _is_settled(name: str, day: str, now: datetime) -> bool:
    return FEEDS[name].is_dated and day < now.date().isoformat()


def _fetch_lists(
    feed: FeedService,
    due: Mapping[str, int],
    fetch: Fetch,
    queue: LookupQueue,
    database: Database,
    report: FeedReport,
) -> None:
    fetched = fetch(feed, due)
    report.requests += fetched.api_calls
    failed = {
        day: status for day, status in queue.statuses(feed.name, list(due)).items() if not status.is_answer
    }
    if not failed:
        return
    why = fetched.stopped_because or ", ".join(sorted({status.value for status in failed.values()}))
    report.problem = f"{len(failed)} of {len(due)} lists are missing: {why}"
    # No backlog: whoever needs the list next asks for it anew, and asks about the addresses meanwhile.
    with database.write() as connection:
        queue.finish(connection, feed.name, [Outcome(day, status) for day, status in failed.items()])


def _observations(
    name: str,
    service: Service,
    entry: CacheEntry,
    missing: Mapping[date, set[str]],
    report: FeedReport,
) -> Iterator[tuple[Any, ...]]:
    payload = entry.payload or {}
    entries: Mapping[str, Any] = payload["entries"]
    report.lists += 1
    report.entries += len(entries)
    end_of_day = datetime.combine(date.fromisoformat(payload["as_of"]), time(23, 59, 59), timezone.utc)
    known_at = min(end_of_day, entry.fetched_at)
    useful = [ips for day, ips in missing.items() if answers_for(service.ttl, known_at, day)]
    for ip in set().union(*useful) & entries.keys():
        yield service.name, ip, known_at, LookupStatus.FOUND.value, entries[ip], name
