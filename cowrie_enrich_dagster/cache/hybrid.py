"""The cache as a whole: Redis, then the database, then the old files, then the service itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cowrie_enrich_dagster.cache.database_tier import DatabaseCache
from cowrie_enrich_dagster.cache.entry import CacheEntry
from cowrie_enrich_dagster.cache.filesystem_tier import FilesystemCache
from cowrie_enrich_dagster.cache.flights import SingleFlight
from cowrie_enrich_dagster.cache.given import GivenToRedis
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.redis_tier import RedisCache
from cowrie_enrich_dagster.cache.tiers import CacheTier, storable
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

API = "api"
UNSURE_AT_ONCE = 1_000
_MAX_SEEN = 1_000_000

Fetch = Callable[[str, Sequence[str]], Mapping[str, CacheEntry]]
"""Asks a service about keys: (service, keys) -> the entries of those that it answered.

What is left out (limited, failed, deferred) is not cached. Across processes it is the function's business
that a key is asked once; within this process no two calls for the same key are under way at a time.
"""


Vouch = Callable[[CacheEntry], bool]
"""Whether the service itself would have said this about the key: of what stands in Redis alone."""


class Hit(NamedTuple):
    """An entry, the `tier` that had it (redis, database, filesystem or api), and whether it is `stale`."""

    entry: CacheEntry
    tier: str
    stale: bool = False


class HybridEnrichmentCache:
    """Asks the tiers in order, and copies what a lower one had into those above it, its age kept.

    Lookups take many keys at once: each tier is asked once, about what the tiers above did not have. What
    Redis has and the database lacks is written there too (see `settle`), if `vouch` says that it is an
    answer; if not, it is none. The file tier is only read. Errors of the database are raised; Redis and the
    files cannot fail, only be missed. The tiers count into `metrics` from now on. Thread-safe.
    """

    def __init__(
        self,
        redis: RedisCache | None,
        database: DatabaseCache,
        filesystem: FilesystemCache | None = None,
        *,
        fetch: Fetch | None = None,
        vouch: Vouch = lambda entry: True,
        clock: Clock = utc_now,
    ) -> None:
        self.redis = redis
        self.database = database
        self.given = GivenToRedis(database.database, redis, clock) if redis else None
        self.filesystem = filesystem
        self.metrics = CacheMetrics()
        self._fetch = fetch
        self._vouch = vouch
        self._clock = clock
        self._in_database: set[tuple[str, str]] = set()
        self._unsure: dict[tuple[str, str], CacheEntry] = {}
        self._lock = threading.Lock()
        self._flights: SingleFlight[Hit] = SingleFlight()
        self._tiers: list[CacheTier] = [tier for tier in (redis, database, filesystem) if tier is not None]
        for tier in self._tiers:
            tier.metrics = self.metrics

    def get(self, service: str, key: str, *, allow_stale: bool = False) -> Hit | None:
        """What is known about one key; see `get_many`."""
        return self.get_many(service, [key], allow_stale=allow_stale).get(key)

    def get_many(self, service: str, keys: Collection[str], *, allow_stale: bool = False) -> dict[str, Hit]:
        """What is known about `keys`, in their order; one that no tier has is absent.

        With `allow_stale`, the latest expired answer is given, and marked, where there is no fresh one
        (stale-if-error, RFC 5861).
        """
        wanted = storable(keys)
        fresh, stale = self._look_up(service, wanted)
        self._count(service, keys, fresh, fresh)
        return _in_order(wanted, fresh, stale if allow_stale else {})

    def get_or_fetch(self, service: str, key: str, *, allow_stale: bool = False) -> Hit | None:
        """What is known about one key, else what the service says now; see `get_or_fetch_many`."""
        return self.get_or_fetch_many(service, [key], allow_stale=allow_stale).get(key)

    def get_or_fetch_many(
        self, service: str, keys: Collection[str], *, allow_stale: bool = False
    ) -> dict[str, Hit]:
        """What is known about `keys`, and for the others what `fetch` gets, which is stored.

        A key that another thread is fetching is waited for. Without an answer, a key is absent, or with
        `allow_stale` given by its latest expired answer. What `fetch` raises is raised here and in the
        threads that wait for the same keys.
        """
        if self._fetch is None:
            return self.get_many(service, keys, allow_stale=allow_stale)
        wanted = storable(keys)
        landings = self._flights.landings
        fresh, stale = self._look_up(service, wanted)
        answered = dict(fresh)
        mine, others = self._flights.claim(service, [key for key in wanted if key not in fresh])
        if mine:
            try:
                answered |= self._fetch_claimed(service, mine, again=self._flights.landings != landings)
            except BaseException as error:
                self._flights.fail(service, mine, error)
                raise
            self._flights.land(service, mine, answered)
        for key, flight in others.items():
            hit = flight.result()
            if hit is not None:
                answered[key] = hit
        self._count(service, keys, fresh, answered)
        return _in_order(wanted, answered, stale if allow_stale else {})

    def _fetch_claimed(self, service: str, keys: list[str], *, again: bool) -> dict[str, Hit]:
        # `again`: another thread may have stored some of these keys between our lookup and our claim.
        hits = self._look_up(service, keys)[0] if again else {}
        asked = [key for key in keys if key not in hits]
        if not asked or self._fetch is None:
            return hits
        started = time.perf_counter()
        entries = self._fetch(service, asked)
        elapsed = time.perf_counter() - started
        now = self._clock()
        answers = {
            key: Hit(entries[key], API, stale=not entries[key].is_fresh(now))
            for key in asked
            if key in entries
        }
        self.set_many(hit.entry for hit in answers.values())
        self.metrics.looked_up(
            API, service, hits=len(answers), misses=len(asked) - len(answers), seconds=elapsed
        )
        return {**hits, **answers}

    def set(self, entry: CacheEntry) -> None:
        """Keep one entry, as `set_many` does."""
        self.set_many([entry])

    def set_many(self, entries: Iterable[CacheEntry]) -> None:
        """Keep entries in the database and in Redis, each only where no newer one is held."""
        entries = list(entries)
        self.database.set_many(entries)
        self.remember(entries)

    def remember(self, entries: Iterable[CacheEntry]) -> None:
        """Keep entries in Redis alone: for those that the caller has stored in the database itself."""
        entries = list(entries)
        if self.redis is not None:
            self._saw_in_database((entry.service, entry.key) for entry in entries)
            self.redis.replace_many(entries)

    def purge(self, service: str | None = None, keys: Collection[str] | None = None) -> dict[str, int]:
        """Delete these keys, or the whole service, or everything, from every tier; how many went, by tier.

        Raises `ValueError` for keys without a service.
        """
        with self._lock:
            self._in_database.clear()
            self._unsure.clear()
        # From the bottom up: what is gone below cannot be copied up again by a lookup meanwhile. A lookup may
        # have written through what Redis still had.
        gone = {tier.name: tier.delete(service, keys) for tier in reversed(self._tiers)}
        if self.redis is not None:
            self.database.delete(service, keys)
        return gone

    def _look_up(self, service: str, keys: list[str]) -> tuple[dict[str, Hit], dict[str, Hit]]:
        """The fresh answers, and for the other keys the latest expired ones."""
        fresh: dict[str, Hit] = {}
        stale: dict[str, Hit] = {}
        missing = keys
        for depth, tier in enumerate(self._tiers):
            if not missing:
                break
            if tier is self.redis and not self.redis.available:
                continue
            started = time.perf_counter()
            entries = tier.get_many(service, missing)
            elapsed = time.perf_counter() - started
            now = self._clock()
            succeeded = tier is not self.redis or self.redis.available
            if tier is self.redis:
                self._write_through(service, entries)
            hits = {key: Hit(entry, tier.name) for key, entry in entries.items() if entry.is_fresh(now)}
            if succeeded:  # a call that failed is an error of the tier, and has told nothing of the keys
                self.metrics.looked_up(
                    tier.name, service, hits=len(hits), misses=len(missing) - len(hits), seconds=elapsed
                )
            for key, entry in entries.items():
                held = stale.get(key)
                if key not in hits and (held is None or held.entry.fetched_at < entry.fetched_at):
                    stale[key] = Hit(entry, tier.name, stale=True)
            if hits and depth:
                for above in reversed(self._tiers[:depth]):
                    above.set_many(hit.entry for hit in hits.values())
            fresh |= hits
            missing = [key for key in missing if key not in fresh]
        return fresh, stale

    def _write_through(self, service: str, entries: dict[str, CacheEntry]) -> None:
        """Take out what is no answer of the service, and note the rest: the database may lack it."""
        unsure = {key: entry for key, entry in entries.items() if (service, key) not in self._in_database}
        refused = [key for key, entry in unsure.items() if not self._vouch(entry)]
        for key in refused:
            del entries[key], unsure[key]
        if refused and self.redis is not None:
            self.metrics.dropped(self.redis.name, service, len(refused))
            self.redis.delete(service, refused)
        with self._lock:
            for key, entry in unsure.items():
                self._unsure[service, key] = entry
            self._saw_in_database((service, key) for key in unsure)
            is_much = len(self._unsure) >= UNSURE_AT_ONCE
        if is_much:
            self.settle()

    def settle(self) -> None:
        """Store what Redis answered and the database lacks, or holds an older answer of: not at each lookup,
        which would cost a query."""
        with self._lock:
            noted, self._unsure = self._unsure, {}
        by_service: dict[str, dict[str, CacheEntry]] = {}
        for (service, key), entry in noted.items():
            by_service.setdefault(service, {})[key] = entry
        for service, entries in by_service.items():
            held = self.database.fetched_at(service, entries)
            self.database.set_many(
                entry for key, entry in entries.items() if key not in held or held[key] < entry.fetched_at
            )

    def _saw_in_database(self, identities: Iterable[tuple[str, str]]) -> None:
        if len(self._in_database) < _MAX_SEEN:
            self._in_database.update(identities)

    def flush(self) -> None:
        """Write down what was counted, given, and found in Redis alone: for the end of a run."""
        self.settle()
        self.database.flush_hits()
        if self.given is not None:
            self.given.flush()

    def _count(
        self, service: str, keys: Collection[str], cached: Mapping[str, Hit], answered: Mapping[str, Hit]
    ) -> None:
        self.metrics.asked(service, keys, cached=cached.keys(), answered=answered.keys())


def _in_order(keys: list[str], answered: Mapping[str, Hit], stale: Mapping[str, Hit]) -> dict[str, Hit]:
    if not (answered or stale):
        return {}
    return {key: hit for key in keys if (hit := answered.get(key) or stale.get(key))}
