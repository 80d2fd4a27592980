"""The whole pipeline without Dagster: settings in, steps to call in order, each safe to repeat.

logs -> `ingest` -> `summarise_addresses` -> `fetch_feeds` -> `plan` -> `fetch` (per service) -> `enrich`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType

from sqlalchemy import func, select

from cowrie_enrich_dagster import services as service_registry
from cowrie_enrich_dagster.cache import (
    CacheEntry,
    DatabaseCache,
    FilesystemCache,
    HybridEnrichmentCache,
    ImportReport,
    RedisCache,
    import_directory,
)
from cowrie_enrich_dagster.enrichment.addresses import AddressReport, summarise_addresses
from cowrie_enrich_dagster.enrichment.feeds import FeedReport, FeedService, read_feed
from cowrie_enrich_dagster.enrichment.fetch import Fetcher, FetchReport, Progress, Source, Stop
from cowrie_enrich_dagster.enrichment.ingest import IngestReport, day_marks, ingest_days
from cowrie_enrich_dagster.enrichment.join import JoinReport, enrich_sessions
from cowrie_enrich_dagster.enrichment.keys import Key, days_answered_since, keys_of, password_hashes
from cowrie_enrich_dagster.enrichment.knowledge import (
    AskedService,
    archive_expired,
    forget,
    gather,
    told_in_time,
)
from cowrie_enrich_dagster.enrichment.ledger import LedgerEntry
from cowrie_enrich_dagster.enrichment.nat import ask_about_nat
from cowrie_enrich_dagster.enrichment.plan import Plan, plan_service
from cowrie_enrich_dagster.enrichment.queue import LookupQueue, OpenLookups
from cowrie_enrich_dagster.enrichment.report import RunReport
from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, Policy, fingerprint
from cowrie_enrich_dagster.services import Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.settings import ConfigError, ServiceSettings, Settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import require_current
from cowrie_enrich_dagster.storage.tables import (
    EnrichedSession,
    EnrichmentCache,
    EnrichmentRun,
    Lookup,
    SessionIp,
    SessionRecord,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import Days, Scope, Subject

logger = logging.getLogger(__name__)
_RUNS = table_of(EnrichmentRun)
_SESSIONS = table_of(SessionRecord)
_ENRICHED = table_of(EnrichedSession)
_ADDRESSES = table_of(SessionIp)
_LOOKUPS = table_of(Lookup)
_CACHE = table_of(EnrichmentCache)
_TTLS = {name: service.ttl for name, service in service_registry.ALL.items()}


class Enricher:
    """The composition root. Use as a context manager; `open` checks the schema first.

    Raises `ConfigError` for settings that cannot work and `SchemaOutdated` for a database to be upgraded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url.get_secret_value())
        self.queue = LookupQueue(self.database)

    def __enter__(self) -> Enricher:
        require_current(self.database, embedded=self.settings.embedded_database)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write down what the cache counted and close every connection."""
        with suppress(Exception):  # statistics must not hide the error that ends the run
            self.cache.database.flush_hits()
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
            RedisCache(
                host=redis.host,
                port=redis.port,
                password=redis.password.get_secret_value() if redis.password else None,
                db=redis.db,
                tls=redis.tls,
                ttl_s=redis.ttl_seconds,
            )
            if redis.enabled
            else None,
            DatabaseCache(self.database),
            FilesystemCache(folder, _TTLS) if folder else None,
            fetch=self._fetch_entries,
        )

    def _fetch_entries(self, service: str, keys: Sequence[str]) -> dict[str, CacheEntry]:
        self.fetch(service, dict.fromkeys(keys, 0))
        return self.cache.database.get_many(service, keys)

    def has_key(self, name: str) -> bool:
        """Whether we hold what this service demands of those who ask: a key, or its database file."""
        service, own = self.services[name], self.settings.services[name]
        return not service.needs_key or own.api_key is not None or own.database is not None

    def source(self, name: str) -> Source:
        """A service with its configuration and its limiter."""
        service, own = self.services[name], self.settings.services[name]
        limits = service.limits
        policy = _policy(
            service,
            own,
            rate=own.rate or limits.rate,
            burst=own.burst or limits.burst,
            windows=own.windows(limits.by_window()),
        )
        return self._source(service, own, policy)

    def _feed_source(self, name: str, feed: Service) -> Source:
        base, limits = FEEDS[name].service, FEEDS[name].limits
        own = self.settings.services[base]
        if limits:
            windows = limits.by_window()
            policy = _policy(feed, own, rate=limits.rate, burst=limits.burst, windows=windows)
        else:
            # One client, one budget, one stop. But a list that is refused must not stop the lookups.
            policy = replace(self.source(base).limiter.policy, auth_statuses=frozenset())
        return self._source(feed, own, policy)

    def _source(self, service: Service, own: ServiceSettings, policy: Policy) -> Source:
        stop = Stop()
        key = own.api_key.get_secret_value() if own.api_key else None
        limiter = AdaptiveRateLimiter(
            self.database, policy, credential_fingerprint=fingerprint(key or own.email), sleep=stop.sleep
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
            tells_country = any(n in self.services and self.has_key(n) for n in ("cymru", "maxmind"))
            chosen = ("abuseipdb", "dshield") if tells_country else ("abuseipdb",)
        on = set(chosen) & set(self.services)
        return tuple(
            name for name, feed in FEEDS.items() if feed.service in on and self.has_key(feed.service)
        )

    def fetch_feeds(self, days: Days) -> list[FeedReport]:
        """Let every feed answer what it can for `days`; a feed that fails is told in its report."""
        return [self.fetch_feed(name, days) for name in self.feeds]

    def fetch_feed(self, name: str, days: Days) -> FeedReport:
        """Let one feed answer what it can for `days`."""
        tier = self.cache.database
        whole_lists = HybridEnrichmentCache(None, tier)  # too large for Redis, where nobody would read them

        def fetch(feed: Service, wanted: Mapping[str, int]) -> FetchReport:
            return self._fetcher(self._feed_source(name, feed), None, whole_lists).fetch(wanted)

        return read_feed(name, days, database=self.database, cache=tier, queue=self.queue, fetch=fetch)

    def ingest(self, days: Days, progress: Progress | None = None) -> IngestReport:
        """Logs -> `sessions`. Raises `ConfigError` when no log folder is set or it does not exist."""
        report = ingest_days(self.database, self._log_dir(), days, progress)
        for question in ask_about_nat(self.database, days):
            logger.warning("%s", question)
        return report

    def log_days(self) -> dict[date, str]:
        """The days in the logs, each with a fingerprint that changes when there is more of it."""
        return day_marks(self.database, self._log_dir())

    def _log_dir(self) -> Path:
        root = self.settings.log_dir
        if root is None or not root.is_dir():
            where = "is not set" if root is None else f"names {root}, which is not a folder"
            raise ConfigError(f"COWRIE_LOG_DIR {where}: set it to the folder with Cowrie's JSON logs")
        return root

    def summarise_addresses(self, days: Days) -> AddressReport:
        """`sessions` -> `session_ips`."""
        listed = self.settings.scanners_file
        return summarise_addresses(
            self.database, days, self.settings.all_own_networks(), listed.networks if listed else ()
        )

    def plan(self, days: Days) -> Plan:
        """What would be asked for `days`; spends nothing."""
        keys = self._keys(days)

        def told_then(service: Service, addresses: Sequence[str]) -> Mapping[str, str]:
            return told_in_time(self.database, service, addresses, days)

        plans = {
            name: plan_service(
                service,
                keys[service.subject],
                self.cache,
                told_then,
                self.source(name).limiter.snapshot(),
                has_key=self.has_key(name),
            )
            for name, service in self.services.items()
        }
        return Plan(days, len(keys[Subject.IP]), plans)

    def _keys(self, days: Days) -> dict[Subject, list[Key]]:
        subjects = {Subject.IP, *(service.subject for service in self.services.values())}
        return {subject: keys_of(self.database, days, subject) for subject in subjects}

    def fetch(self, name: str, wanted: Mapping[str, int], progress: Progress | None = None) -> FetchReport:
        """Ask one service about `wanted` (key -> priority)."""
        return self._fetcher_of(name, progress).fetch(wanted)

    def _fetcher_of(self, name: str, progress: Progress | None) -> Fetcher:
        return self._fetcher(self.source(name), progress)

    def _fetcher(
        self, source: Source, progress: Progress | None, cache: HybridEnrichmentCache | None = None
    ) -> Fetcher:
        return Fetcher(
            source,
            self.database,
            self.queue,
            cache or self.cache,
            max_wait_s=self.settings.max_wait_s,
            respect_retry_after=source.limiter.policy.respect_retry_after,
            progress=progress,
        )

    def drain(self, progress: Progress | None = None) -> list[FetchReport]:
        """Ask whatever is due in the queue, all services at once."""
        due = [name for name, left in self.backlog().items() if left.due]
        return self._all_at_once({self._fetcher_of(name, progress): Fetcher.drain for name in due})

    def backlog(self) -> dict[str, OpenLookups]:
        """The open lookups of every service that has any; a missing list is none, who needs it asks anew."""
        return {name: left for name, left in self.queue.backlog().items() if name in self.services}

    @staticmethod
    def _all_at_once(work: Mapping[Fetcher, Callable[[Fetcher], FetchReport]]) -> list[FetchReport]:
        with ThreadPoolExecutor(max(1, len(work))) as pool:
            try:
                futures = [pool.submit(task, fetcher) for fetcher, task in work.items()]
                return [future.result() for future in futures]
            except BaseException:  # an interrupt reaches this thread alone
                for fetcher in work:
                    fetcher.stop()
                raise

    def enrich(self, days: Days) -> JoinReport:
        """Everything known -> `enriched_sessions`."""
        keys = self._keys(days)
        knowledge = [
            gather(
                self.database,
                self.cache,
                self.queue,
                AskedService(service, self.has_key(name)),
                keys[service.subject],
            )
            for name, service in self.services.items()
        ]
        passwords = password_hashes(self.database, days) if Subject.PASSWORD_SHA1_PREFIX in keys else []
        return enrich_sessions(self.database, days, keys[Subject.IP], knowledge, passwords)

    def cleanup(self, *, dry_run: bool = False) -> dict[str, int]:
        """Take expired answers out of the cache into `observations`; returns how many, by service."""
        if not dry_run:
            archive_expired(self.database)
        return self.cache.database.cleanup_expired(dry_run=dry_run)

    def count_sessions(self, days: Days) -> int:
        """How many sessions started on `days`."""
        query = (
            select(func.count()).select_from(_SESSIONS).where(_SESSIONS.c.day.between(days.first, days.last))
        )
        with self.database.read() as connection:
            return connection.execute(query).scalar_one()

    def top_sources(self, days: Days) -> tuple[list[tuple[int, str, int]], list[tuple[str, int]]]:
        """The ten networks (AS number, organization, sessions) and ten countries with the most sessions."""
        span = _ENRICHED.c.day.between(days.first, days.last)
        number, name = _ENRICHED.c.source_as_number, _ENRICHED.c.source_as_organization_name
        country, sessions = _ENRICHED.c.source_geo_country_iso_code, func.count().label("sessions")
        networks = select(number, name, sessions).where(span, number.is_not(None)).group_by(number, name)
        countries = select(country, sessions).where(span, country.is_not(None)).group_by(country)
        with self.database.read() as connection:
            return (
                [
                    tuple(row)
                    for row in connection.execute(networks.order_by(sessions.desc(), number).limit(10))
                ],
                [
                    tuple(row)
                    for row in connection.execute(countries.order_by(sessions.desc(), country).limit(10))
                ],
            )

    def run(self, days: Days, progress: Progress | None = None) -> RunReport:
        """All steps, in order; every service is asked at the same time as the others."""
        started = time.monotonic()
        report = RunReport.for_services(self.services, days)
        run_id = self.begin_run("run", days)
        ingested = self.ingest(days, progress)
        report.events, report.quarantined = ingested.read.events, ingested.read.lines_quarantined
        report.passed_over, report.has_logs = ingested.read.passed_over, bool(ingested.sessions_by_day)
        report.ips = self.summarise_addresses(days).distinct
        report.feeds = {feed.feed: feed.as_dict() for feed in self.fetch_feeds(days)}
        plan = self.plan(days)
        report.hits.update(plan.hits())
        wanted = {name: service.wanted for name, service in plan.services.items()}
        for fetched in self._fetch_all(wanted, progress):
            report.add_fetch(fetched)
        report.add_join(self.enrich(days))
        report.cache = self.cache.metrics.as_dict()
        report.elapsed_s = time.monotonic() - started
        self.end_run(run_id, report)
        return report

    def _fetch_all(
        self, wanted: Mapping[str, Mapping[str, int]], progress: Progress | None
    ) -> list[FetchReport]:
        return self._all_at_once(
            {
                self._fetcher_of(name, progress): partial(Fetcher.fetch, wanted=keys)
                for name, keys in wanted.items()
                if keys
            }
        )

    def drain_and_enrich(self, progress: Progress | None = None) -> tuple[list[FetchReport], list[date]]:
        """Drain the queue, then enrich again every day for which a new answer came in; returns both."""
        with self.database.read() as connection:
            since = self.database.now(connection)
        reports = self.drain(progress)
        days = days_answered_since(self.database, since, self.services.values())
        for day in days:
            self.enrich(Days(day, day))
        return reports, days

    def refresh(self, ahead: timedelta, active: timedelta) -> list[FetchReport]:
        """Ask again about the addresses seen within `active` whose answers expire within `ahead`."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            seen = func.max(_ADDRESSES.c.last_seen)
            recent = (
                select(_ADDRESSES.c.src_ip, func.max(_ADDRESSES.c.priority).label("priority"))
                .where(_ADDRESSES.c.scope == Scope.GLOBAL.value, ~_ADDRESSES.c.known_scanner)
                .group_by(_ADDRESSES.c.src_ip)
                .having(seen >= now - active)
                .subquery()
            )
            query = (
                select(_CACHE.c.service, _CACHE.c.cache_key, recent.c.priority)
                .join(recent, recent.c.src_ip == _CACHE.c.cache_key)
                .where(_CACHE.c.expires_at <= now + ahead, _CACHE.c.service.in_(self.services))
            )
            wanted: dict[str, dict[str, int]] = {}
            for row in connection.execute(query):
                wanted.setdefault(row.service, {})[row.cache_key] = row.priority
        for name, keys in wanted.items():
            self.queue.reopen(name, keys)
        return self._fetch_all(wanted, None)

    def import_files(self, folder: Path) -> ImportReport:
        """Move a filesystem cache of the reference implementation into the database, ages kept."""
        return import_directory(folder, self.cache.database, _TTLS)

    def purge(self, service: str | None = None, keys: Sequence[str] | None = None) -> dict[str, int]:
        """Delete answers whatever their age, those of old days too; how many went, by tier and history.

        `service` may be the name of a feed: then its lists go, and what was read off them.
        """
        return {**self.cache.purge(service, keys), "history": forget(self.database, service, keys)}

    def ledger(self) -> list[LedgerEntry]:
        """Limits and backlog of every service, and of every feed with limits of its own, side by side."""
        backlog = self.backlog()
        apart = [name for name in self.feeds if FEEDS[name].limits]
        sources = [self.source(name) for name in self.services]
        sources += [self._feed_source(name, FeedService(name, settled=False)) for name in apart]
        return [
            LedgerEntry.of(source.service, source.limiter.snapshot(), backlog.get(source.service.name))
            for source in sources
        ]

    def begin_run(self, kind: str, days: Days | None) -> str:
        """Write a row into `enrichment_runs`; returns its id."""
        run_id = uuid.uuid4().hex
        with self.database.write() as connection:
            row = {
                "run_id": run_id,
                "kind": kind,
                "status": "running",
                "started_at": self.database.now(connection),
                "first_day": days.first if days else None,
                "last_day": days.last if days else None,
            }
            connection.execute(_RUNS.insert(), row)
        return run_id

    def end_run(self, run_id: str, report: RunReport) -> None:
        """Complete the row with the report."""
        with self.database.write() as connection:
            connection.execute(
                _RUNS.update().where(_RUNS.c.run_id == run_id),
                {
                    "status": report.status,
                    "finished_at": self.database.now(connection),
                    "report": report.as_dict(),
                },
            )


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
        respect_retry_after=own.respect_retry_after,
    )
