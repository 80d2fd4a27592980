"""How the parts are put together: settings -> database, services, cache tiers, limiters, feeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TypeVar

from cowrie_enrich_dagster import services as service_registry
from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache, HybridEnrichmentCache, RedisCache
from cowrie_enrich_dagster.enrichment.moving import reference_files
from cowrie_enrich_dagster.enrichment.notices import Notices
from cowrie_enrich_dagster.lookups.fetch import Fetcher
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import Source
from cowrie_enrich_dagster.lookups.stop import Stop
from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, Pace, Policy, SlowerRateLimiter, fingerprint
from cowrie_enrich_dagster.services import InvalidAnswer, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.settings import ConfigError, RedisSettings, ServiceSettings, Settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import require_current
from cowrie_enrich_dagster.vocabulary import Progress

ANONYMOUS = "DSHIELD_EMAIL is not set: DShield's operators refuse anonymous clients"

S = TypeVar("S", bound="Wiring")


class Wiring:
    """The parts that settings ask for, made when they are needed first.

    Use as a context manager, which checks the schema first. `paces` hold services below their configured
    rate or burst for as long as this is open. With `makes_database` a SQLite file is made or upgraded where
    need be; whoever only looks does not.

    Raises `ConfigError` for settings that cannot work, `SchemaOutdated` for a database to be upgraded and
    `DatabaseUnusable` for a SQLite file that is not there or cannot be.
    """

    def __init__(
        self,
        settings: Settings,
        paces: Mapping[str, Pace] | None = None,
        *,
        makes_database: bool = True,
    ) -> None:
        self.settings = settings
        self.paces = paces or {}
        self.makes_database = makes_database
        self.database = Database(settings.database_url.get_secret_value(), makes_file=makes_database)
        self.queue = LookupQueue(self.database)
        self.notices = Notices(self.database, settings)

    def __enter__(self: S) -> S:
        try:
            require_current(self.database, makes=self.makes_database)
        except BaseException:
            self.database.close()  # a file that stays open leaves its -wal and -shm behind
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write down what the cache counted and close every connection."""
        with suppress(Exception):  # statistics must not hide the error that ends the run
            self.cache.flush()
        self.database.close()

    @cached_property
    def services(self) -> dict[str, Service]:
        """The services that take part, in order of trust."""
        known = service_registry.ALL
        names = self.settings.services_to_ask(known)
        if strangers := set(names) - set(known):
            raise ConfigError(
                f"ENRICH_SERVICES names {sorted(strangers)}; this version has {', '.join(known)}"
            )
        return {name: known[name] for name in known if name in names}

    @cached_property
    def cache(self) -> HybridEnrichmentCache:
        """All tiers that the settings turn on; the database tier always is."""
        redis, folder = self.settings.redis, self.settings.cache_dir
        return HybridEnrichmentCache(
            open_redis(redis),
            DatabaseCache(self.database),
            reference_files(folder, self.database) if folder else None,
            fetch=self._fetch_entries,
            vouch=self._vouch,
        )

    @staticmethod
    def _vouch(entry: CacheEntry) -> bool:
        """Whether the service itself would take what stands in Redis alone for its answer about the key."""
        service = service_registry.ALL.get(entry.service)
        if service is None or entry.payload is None:
            return service is not None
        try:
            return service.check(entry.key, entry.payload).status is entry.status
        except (InvalidAnswer, ValueError):
            return False

    def _fetch_entries(self, service: str, keys: Sequence[str]) -> dict[str, CacheEntry]:
        self.fetcher(self.source(service)).fetch(map(Wanted, keys))
        return self.cache.database.get_many(service, keys)

    @property
    def is_anonymous(self) -> bool:
        """Whether DShield is to be asked without saying who asks (see `ANONYMOUS`)."""
        return "dshield" in self.services and not self.settings.services["dshield"].email

    def has_key(self, name: str) -> bool:
        """Whether we hold what this service demands of those who ask: a key, or its database file."""
        service, own = self.services[name], self.settings.services[name]
        return not service.needs_key or own.api_key is not None or own.database is not None

    def source(self, name: str, until: float = math.inf) -> Source:
        """A service with its configuration and its limiter, asked until a moment of `time.monotonic`."""
        service, own = self.services[name], self.settings.services[name]
        most = configured_pace(self.settings, name)
        policy = _policy(
            service,
            own,
            rate=most.rate or service.limits.rate,
            burst=most.burst or service.limits.burst,
            windows=own.windows(service.limits.by_window()),
        )
        return self._source(service, own, policy, self.paces.get(name), until)

    def feed_source(self, name: str, feed: Service, until: float = math.inf) -> Source:
        """A feed with its service's configuration, and its limiter too where it is not counted apart."""
        base, limits = FEEDS[name].service, FEEDS[name].limits
        own = self.settings.services[base]
        if limits:
            windows = limits.by_window()
            policy = _policy(feed, own, rate=limits.rate, burst=limits.burst, windows=windows)
            policy = replace(policy, capped=frozenset())
        else:
            # One client, one budget, one stop. But a list that is refused must not stop the lookups.
            policy = replace(self.source(base).limiter.policy, blocks_refused=False)
        return self._source(feed, own, policy, self.paces.get(base), until)

    def plain_source(self, service: Service, own: ServiceSettings, until: float = math.inf) -> Source:
        """What is asked with its own limits and nothing of a service's settings."""
        windows = service.limits.by_window()
        policy = _policy(service, own, rate=service.limits.rate, burst=service.limits.burst, windows=windows)
        return self._source(service, own, policy, None, until)

    def _source(
        self, service: Service, own: ServiceSettings, policy: Policy, pace: Pace | None, until: float
    ) -> Source:
        stop = Stop(until)
        key = own.api_key.get_secret_value() if own.api_key else None
        asker = fingerprint(key or own.email)
        limiter = (
            SlowerRateLimiter(self.database, policy, pace, credential_fingerprint=asker, sleep=stop.sleep)
            if pace
            else AdaptiveRateLimiter(self.database, policy, credential_fingerprint=asker, sleep=stop.sleep)
        )
        config = ServiceConfig(own.api_url or service.default_url, key, own.email, database=own.database)
        return Source(service, config, limiter, policy.rate, stop)

    @cached_property
    def feeds(self) -> tuple[str, ...]:
        """The feeds that are read: those of ENRICH_FEEDS whose service takes part and has its key.

        When that is not set: AbuseIPDB's; DShield's too where another service tells the network and country
        of an address, for its list, unlike its lookups, does not.
        """
        chosen = self.settings.feeds
        if chosen is None:
            # Cymru does not: the country it has is the registry's.
            tells_country = "maxmind" in self.services and self.has_key("maxmind")
            chosen = ("abuseipdb", "dshield") if tells_country else ("abuseipdb",)
        on = set(chosen) & set(self.services)
        return tuple(
            name for name, feed in FEEDS.items() if feed.service in on and self.has_key(feed.service)
        )

    def fetcher(
        self,
        source: Source,
        progress: Progress | None = None,
        cache: HybridEnrichmentCache | None = None,
    ) -> Fetcher:
        """What asks a source, and stores its answers in `cache` (None: in all tiers)."""
        return Fetcher(
            source,
            self.database,
            self.queue,
            cache or self.cache,
            max_wait_s=self.settings.max_wait_s,
            progress=progress,
        )


def open_redis(settings: RedisSettings) -> RedisCache | None:
    """The first tier as it is set; None where it is off."""
    if not settings.enabled:
        return None
    return RedisCache(
        host=settings.host,
        port=settings.port,
        password=settings.password.get_secret_value() if settings.password else None,
        db=settings.db,
        tls=settings.tls,
        ttl_s=settings.ttl_seconds,
    )


def configured_pace(settings: Settings, name: str) -> Pace:
    """The rate and burst that a service is asked with at most: as set, else its own."""
    own, limits = settings.services[name], service_registry.ALL[name].limits
    return Pace(own.rate or limits.rate, own.burst or limits.burst)


def _policy(
    service: Service, own: ServiceSettings, *, rate: float, burst: int, windows: Mapping[str, int]
) -> Policy:
    return Policy(
        service=service.name,
        rate=rate,
        burst=burst,
        windows=windows,
        limit_statuses=service.limit_statuses,
        auth_statuses=service.auth_statuses,
        capped=own.capped & windows.keys(),
        used_up=service.limits.used_up,
        respect_retry_after=own.respect_retry_after,
        first_cooldown=own.first_cooldown,
    )
