"""The whole pipeline without Dagster: settings in, steps to call in order, each safe to repeat.

logs -> `ingest` -> `summarise_addresses` -> `fetch_feeds` -> `plan` -> `enrich` (rows at once, with what is
known) -> `ask` (per service, while the run has time) -> `write_news` (what was learned, where it belongs).
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import func, select

from cowrie_enrich_dagster import services as service_registry
from cowrie_enrich_dagster.cache import (
    CacheEntry,
    DatabaseCache,
    HybridEnrichmentCache,
    ImportReport,
    RedisCache,
    archive_expired,
    import_directory,
    import_records,
)
from cowrie_enrich_dagster.cowrie import ReadReport
from cowrie_enrich_dagster.enrichment.addresses import (
    AddressReport,
    days_of_other_lists,
    summarise_addresses,
)
from cowrie_enrich_dagster.enrichment.campaigns import FoundCampaigns, find_campaigns
from cowrie_enrich_dagster.enrichment.campaigns_of_days import DayOfCampaigns, campaigns_of_days
from cowrie_enrich_dagster.enrichment.feeds import FeedReport, FeedService, read_feed
from cowrie_enrich_dagster.enrichment.forget import Forgotten, forget_days_before
from cowrie_enrich_dagster.enrichment.hit_rates import AnswersOfDay, SessionsWithoutCall, Tally
from cowrie_enrich_dagster.enrichment.ingest import IngestReport, LogDays, ingest_days, log_days
from cowrie_enrich_dagster.enrichment.join import JoinReport, enrich_sessions
from cowrie_enrich_dagster.enrichment.keys import (
    EVERY_SESSION,
    Chosen,
    Key,
    keys_of,
    occurring,
    password_hashes,
)
from cowrie_enrich_dagster.enrichment.knowledge import (
    AskedService,
    Knowledge,
    ever_told,
    forget,
    gather,
    told_in_time,
)
from cowrie_enrich_dagster.enrichment.learned import Learned, note_changed, write_news
from cowrie_enrich_dagster.enrichment.moving import reference_files, reference_table
from cowrie_enrich_dagster.enrichment.nat import ask_about_nat
from cowrie_enrich_dagster.enrichment.pieces import followed, moved_days
from cowrie_enrich_dagster.enrichment.plan import KEYS_AT_ONCE, Plan, ServicePlan, Take, plan_service
from cowrie_enrich_dagster.enrichment.report import DrainReport, RunReport
from cowrie_enrich_dagster.lookups.fetch import Fetcher
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.lookups.model import Among, OpenLookups, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport, Source
from cowrie_enrich_dagster.lookups.stop import Stop
from cowrie_enrich_dagster.pacing import (
    AdaptiveRateLimiter,
    Pace,
    Policy,
    QuotaStatus,
    Reason,
    SlowerRateLimiter,
    fingerprint,
)
from cowrie_enrich_dagster.services import InvalidAnswer, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.settings import ConfigError, RedisSettings, ServiceSettings, Settings
from cowrie_enrich_dagster.settings.values import Network
from cowrie_enrich_dagster.storage.engine import Database, repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.migrate import require_current
from cowrie_enrich_dagster.storage.tables import (
    EnrichedSession,
    EnrichmentCache,
    EnrichmentRun,
    Observation,
    SessionIp,
    SessionRecord,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import LAST_DAY, Days, Progress, Subject

logger = logging.getLogger(__name__)

ANONYMOUS = "DSHIELD_EMAIL is not set: DShield's operators refuse anonymous clients"

_LOOK_UP_SECONDS = 0.5

_RUNS = table_of(EnrichmentRun)
_SESSIONS = table_of(SessionRecord)
_ENRICHED = table_of(EnrichedSession)
_ADDRESSES = table_of(SessionIp)
_CACHE = table_of(EnrichmentCache)
_OBSERVATIONS = table_of(Observation)


class Enricher:
    """The composition root. Use as a context manager, which checks the schema first.

    `paces` hold services below their configured rate or burst for as long as this is open. With
    `makes_database` a SQLite file is made or upgraded where need be; whoever only looks does not.

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

    def __enter__(self) -> Enricher:
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
        self.fetch(service, map(Wanted, keys))
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

    def _feed_source(self, name: str, feed: Service, until: float = math.inf) -> Source:
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

    def fetch_feeds(self, days: Days, *, until: float = math.inf) -> list[FeedReport]:
        """Let every feed answer what it can for `days`; a feed that fails is told in its report."""
        return [self.fetch_feed(name, days, until=until) for name in self.feeds]

    def fetch_feed(self, name: str, days: Days, *, until: float = math.inf) -> FeedReport:
        """Let one feed answer what it can for `days`."""
        tier = self.cache.database
        whole_lists = HybridEnrichmentCache(None, tier)  # too large for Redis, where nobody would read them

        def fetch(feed: Service, wanted: Sequence[Wanted]) -> FetchReport:
            return self._fetcher(self._feed_source(name, feed, until), None, whole_lists).fetch(wanted)

        return read_feed(name, days, database=self.database, cache=tier, queue=self.queue, fetch=fetch)

    def ingest(self, days: Days, progress: Progress | None = None) -> IngestReport:
        """Logs -> `sessions`, and all that follows of other days whose sessions these logs move.

        Raises `ConfigError` when no log folder is set or it does not exist.

        Days older than ENRICH_KEEP_DAYS keeps are not read: that is a warning.
        """
        root, keep_from = self._log_dir(), self._first_kept_day()
        if keep_from is not None and days.first < keep_from:
            old = Days(days.first, min(days.last, keep_from - timedelta(days=1)))
            keep_days = self.settings.keep_days
            logger.warning("%s: older than ENRICH_KEEP_DAYS (%d) keeps, not read", old, keep_days)
            if days.last < keep_from:
                return IngestReport(ReadReport())
            days = Days(keep_from, days.last)
        report = ingest_days(self.database, root, days, progress)
        report.moved_days = self._follow_moved()
        for question in ask_about_nat(self.database, days):
            logger.warning("%s", question)
        return report

    @repeats_after_outage
    def _follow_moved(self) -> list[date]:
        """Let addresses, lookups and enriched rows follow sessions that the logs of other days moved."""
        moved = moved_days(self.database)
        for day, moved_at in moved.items():
            span = Days(day, day)
            self.summarise_addresses(span)
            self.plan_and_open(span)
            self.enrich(span)
            with self.database.write() as connection:
                note_changed(self.database, connection, [day])
                followed(connection, day, moved_at)
        return list(moved)

    def _first_kept_day(self) -> date | None:
        return self.settings.first_kept_day(self.database.moment().date())

    def forget_old_days(self, *, dry_run: bool) -> Forgotten:
        """Delete the days that ENRICH_KEEP_DAYS does not keep; with `dry_run` count what would go."""
        keep_from = self._first_kept_day()
        if keep_from is None:
            return Forgotten(None, dry_run)
        return forget_days_before(self.database, keep_from, dry_run=dry_run)

    def log_days(
        self, seconds: float = math.inf, progress: Callable[[int, int], None] | None = None
    ) -> LogDays:
        """The days in the logs, after about `seconds` of reading what is not known yet; see `log_days`."""
        return log_days(self.database, self._log_dir(), seconds, progress)

    def _log_dir(self) -> Path:
        root = self.settings.log_dir
        if root is None or not root.is_dir():
            where = "is not set" if root is None else f"names {root}, which is not a folder"
            raise ConfigError(f"COWRIE_LOG_DIR {where}: set it to the folder with Cowrie's JSON logs")
        return root

    def summarise_addresses(self, days: Days) -> AddressReport:
        """`sessions` -> `session_ips`."""
        return summarise_addresses(self.database, days, *self._lists)

    @survives_outage
    def days_of_other_lists(self) -> list[date]:
        """The days whose rows do not follow the present lists of our own networks and of scanners yet."""
        return days_of_other_lists(self.database, *self._lists)

    @property
    def _lists(self) -> tuple[Sequence[Network], Sequence[Network]]:
        listed = self.settings.scanners_file
        return self.settings.all_own_networks(), listed.networks if listed else ()

    @repeats_after_outage
    def plan(self, days: Days, take: Take | None = None, *, by_day: bool = False) -> Plan:
        """What would be asked for `days`; spends nothing. `take` is given the keys, lot by lot.

        With `by_day` the hit rates of each day are told, too.
        """

        def told_then(service: Service, addresses: Sequence[str]) -> Mapping[str, str]:
            return told_in_time(self.database, service, addresses, days)

        plans, tallies = {}, {name: Tally(self.database, self.cache, name) for name in self.services}
        for name, service in self.services.items():
            with self.database.read() as connection:
                plans[name] = plan_service(
                    service,
                    keys_of(self.database, connection, Chosen.of_days(days), service.subject),
                    self.cache,
                    told_then,
                    self.source(name).limiter.snapshot(),
                    has_key=self.has_key(name),
                    take=take,
                    count=tallies[name].count,
                )
            plans[name].rates = tallies[name].rates
        if by_day:
            self._rates_by_day(days, plans, tallies)
        return Plan(days, self._count_addresses(days), plans)

    def _rates_by_day(
        self, days: Days, plans: Mapping[str, ServicePlan], tallies: Mapping[str, Tally]
    ) -> None:
        for day in days:
            for subject, keys in self._keys_of_days(Days(day, day)).items():
                sent = [key.value for key in keys if key.may_be_sent]
                for name, service in self.services.items():
                    if service.subject is subject:
                        plans[name].rates_by_day[day] = tallies[name].of_some(sent)

    @survives_outage
    def _keys_of_days(self, days: Days) -> dict[Subject, list[Key]]:
        chosen = Chosen.of_days(days)
        with self.database.read() as connection:
            return {s: list(keys_of(self.database, connection, chosen, s)) for s in self._subjects}

    def plan_and_open(self, days: Days, *, by_day: bool = False) -> Plan:
        """Plan `days`, and open a lookup for all that is wanted."""
        plan = self.plan(days, self.open, by_day=by_day)
        self.queue.counts.fold()
        return plan

    def open(self, name: str, wanted: Sequence[Wanted]) -> None:
        """Open lookups of one service (see `LookupQueue.open`)."""
        self._fetcher(self.source(name), None).open(wanted)

    @survives_outage
    def _count_addresses(self, days: Days) -> int:
        query = select(func.count(func.distinct(_ADDRESSES.c.src_ip)))
        with self.database.read() as connection:
            return connection.execute(query.where(_ADDRESSES.c.day.between(*days.ends))).scalar_one()

    def fetch(self, name: str, wanted: Iterable[Wanted], progress: Progress | None = None) -> FetchReport:
        """Ask one service about these keys and no others."""
        return self._fetcher(self.source(name), progress).fetch(wanted)

    def ask(
        self, name: str, days: Days, until: float = math.inf, progress: Progress | None = None
    ) -> FetchReport:
        """Ask one service, in the order of asking over all days, until the keys of `days` are closed.

        Or until the moment `until` (of `time.monotonic`). Their lookups have been opened (`plan_and_open`).
        """
        return self._fetcher(self.source(name, until), progress).drain(self._goal(name, days))

    def _goal(self, name: str, days: Days) -> Among:
        return occurring(self.database, days, self.services[name].subject)

    def _fetcher(
        self,
        source: Source,
        progress: Progress | None,
        cache: HybridEnrichmentCache | None = None,
    ) -> Fetcher:
        return Fetcher(
            source,
            self.database,
            self.queue,
            cache or self.cache,
            max_wait_s=self.settings.max_wait_s,
            progress=progress,
        )

    def backlog(self) -> dict[str, OpenLookups]:
        """The open lookups of every service that has any; a missing list is none, who needs it asks anew."""
        return {name: left for name, left in self.queue.backlog().items() if name in self.services}

    def askable(self, *, at_once: bool = False) -> dict[str, int]:
        """The services that have something due and may be asked within the patience; how much is due.

        With `at_once` only those that wait for nothing but their pace.
        """
        patience = self.settings.max_wait_s
        return {
            status.service: left.due
            for _, status, left in self._limits_and_backlog()
            if left
            and left.due
            and self.has_key(status.service)
            and status.wait_s <= (min(patience, status.spacing_s + 1) if at_once else patience)
        }

    @staticmethod
    def _all_at_once(work: Mapping[Fetcher, Among | None]) -> list[FetchReport]:
        """Let every fetcher drain the queue until its goal is reached."""
        with ThreadPoolExecutor(max(1, len(work))) as pool:
            try:
                futures = [pool.submit(fetcher.drain, goal) for fetcher, goal in work.items()]
                under_way = set(futures)
                while under_way:
                    # A signal may be delivered to any thread: one that waits without end would not notice.
                    ended, under_way = wait(under_way, _LOOK_UP_SECONDS, FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                return [future.result() for future in futures]
            except BaseException:  # an interrupt reaches this thread alone
                for fetcher in work:
                    fetcher.stop()
                raise

    @repeats_after_outage
    def enrich(self, days: Days, by_day: dict[date, JoinReport] | None = None) -> JoinReport:
        """Everything known -> `enriched_sessions`. `by_day` is given the same report for each day alone."""
        keys = self._keys_of_days(days)
        with self.database.read() as connection:
            chosen = Chosen.of_days(days)
            passwords = password_hashes(self.database, connection, chosen) if self._asks_passwords else []
        knowledge = self._knowledge_of(keys)
        report = enrich_sessions(self.database, days, keys[Subject.IP], knowledge, passwords)
        if by_day is not None:
            by_day.update(self._reports_by_day(days, knowledge))
        return report

    def find_campaigns(self, days: Days | None = None) -> FoundCampaigns:
        """Sessions -> campaigns, wherever sessions changed since; of `days` in any case."""
        return find_campaigns(self.database, days)

    def campaigns_of_days(self, days: Days) -> dict[date, DayOfCampaigns]:
        """What the campaigns of each of the days come to."""
        return campaigns_of_days(self.database, days)

    def reports_by_day(self, days: Days) -> dict[date, JoinReport]:
        """What the rows of each day say: sessions, and how many of them each service has answered."""
        return self._reports_by_day(days, self._knowledge_of(self._keys_of_days(days)))

    def _reports_by_day(self, days: Days, knowledge: Sequence[Knowledge]) -> dict[date, JoinReport]:
        sessions = self.sessions_by_day(days)
        reports = {day: JoinReport(sessions=sessions.get(day, 0)) for day in days}
        for day, report in reports.items():
            keys = self._keys_of_days(Days(day, day))
            for known in knowledge:
                report.count(replace(known, keys=keys[known.asked.service.subject], tiers=Counter()))
        return reports

    def write_news(self) -> Learned:
        """Write what was learned since into the rows it concerns, whatever their day."""
        return write_news(self.database, self.queue, self.services, self._knowledge_of)

    @property
    def _subjects(self) -> set[Subject]:
        return {Subject.IP, *(service.subject for service in self.services.values())}

    @property
    def _asks_passwords(self) -> bool:
        return Subject.PASSWORD_SHA1_PREFIX in self._subjects

    def _knowledge_of(self, keys: Mapping[Subject, Sequence[Key]]) -> list[Knowledge]:
        return [self._knowledge(name, keys[service.subject]) for name, service in self.services.items()]

    def _knowledge(self, name: str, keys: Sequence[Key]) -> Knowledge:
        has_key = self.has_key(name)
        held_by = self.source(name).limiter.snapshot().cooldown_reason if has_key else None
        asked = AskedService(self.services[name], has_key, is_refused=held_by is Reason.AUTH_FAILED)
        return gather(self.database, self.cache, self.queue, asked, keys)

    def _recount(self, report: JoinReport, days: Days) -> None:
        """Bring the statuses in the report up to date: what was asked meanwhile, and how it ended."""
        for known in self._knowledge_of(self._keys_of_days(days)):
            report.recount(known)

    def cleanup(self, *, dry_run: bool = False) -> dict[str, int]:
        """Take expired answers out of the cache into `observations`; returns how many, by service."""
        if not dry_run:
            archive_expired(self.database, service_registry.OWN_MOMENTS, FEEDS)
        return self.cache.database.cleanup_expired(dry_run=dry_run)

    @survives_outage
    def count_sessions(self, days: Days) -> int:
        """How many sessions started on `days`."""
        query = (
            select(func.count()).select_from(_SESSIONS).where(_SESSIONS.c.day.between(days.first, days.last))
        )
        with self.database.read() as connection:
            return connection.execute(query).scalar_one()

    def sessions_by_day(self, days: Days) -> dict[date, int]:
        """How many sessions started on each of the days that have any."""
        return self._by_day(_SESSIONS.c.day, days)

    def addresses_by_day(self, days: Days) -> dict[date, int]:
        """How many addresses were seen on each of the days that have any."""
        return self._by_day(_ADDRESSES.c.day, days)

    def told_by_feed(self, feed: str, days: Days) -> dict[date, int]:
        """About how many addresses of each day a feed has told."""
        told = select(_OBSERVATIONS.c.key).where(_OBSERVATIONS.c.feed == feed)
        return self._by_day(_ADDRESSES.c.day, days, _ADDRESSES.c.src_ip.in_(told))

    @survives_outage
    def _by_day(self, day: Any, days: Days, *conditions: Any) -> dict[date, int]:
        query = select(day, func.count()).where(day.between(*days.ends), *conditions).group_by(day)
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    @survives_outage
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

    def run(self, days: Days, progress: Progress | None = None, *, wait: bool = False) -> RunReport:
        """All steps, in order; every service is asked at the same time as the others.

        Every session has its row before anything is asked. Then the run asks for what is left of its time
        (ENRICH_MAX_RUN_SECONDS); with `wait`, unless that is set, while there is something it may ask.
        """
        started = time.monotonic()
        endless = wait and self.settings.max_run_s is None
        until = math.inf if endless else started + self.settings.run_s
        report = RunReport.for_services(self.services, days)
        run_id = self.begin_run("run", days)
        ingested = self.ingest(days, progress)
        report.events, report.quarantined = ingested.read.events, ingested.read.lines_quarantined
        report.passed_over = ingested.read.passed_over
        report.moved_days = ingested.moved_days
        report.has_logs = bool(ingested.sessions_by_day) or not ingested.empty_days
        report.ips = self.summarise_addresses(days).distinct
        report.feeds = {feed.feed: feed.as_dict() for feed in self.fetch_feeds(days, until=until)}
        plan = self.plan_and_open(days)
        report.hits.update(plan.hits())
        report.rates = plan.rates()
        joined = self.enrich(days)
        self.find_campaigns()
        goals = {name: self._goal(name, days) for name, service in plan.services.items() if service.wanted}
        if goals:
            fetched = self._ask_in_slices(goals, until, progress)
            report.add_fetches(fetched)
            if any(part.is_refused for part in fetched):  # which is said of every key, asked or not
                joined = self.enrich(days)
            else:
                self._recount(joined, days)
        report.add_join(joined)
        if report.pending:
            report.foresee(self.ledger())
        report.days_of_other_lists = self.days_of_other_lists()
        report.cache = self.cache.metrics.as_dict()
        report.elapsed_s = time.monotonic() - started
        self.end_run(run_id, report)
        return report

    def drain(self, progress: Progress | None = None, *, until: float = math.inf) -> DrainReport:
        """Ask what is due in the queue, all services at once, and write what is learned into its rows.

        Ends when nothing is due that may be asked within the patience, or at `until`.
        """
        started = time.monotonic()
        run_id = self.begin_run("drain", None)
        report = RunReport.for_services(self.services, None)
        goals: dict[str, Among | None] = dict.fromkeys(self.askable())
        learned = self.write_news()  # what a killed drain left
        self.find_campaigns()  # of days that a killed run left, or an older version
        fetched = self._ask_in_slices(goals, until, progress, learned)
        report.add_fetches(fetched)
        backlog = self.backlog()
        report.pending_by_service = {name: left.total for name, left in backlog.items()}
        report.foresee(self.ledger())
        report.sessions = learned.sessions
        report.days_of_other_lists = self.days_of_other_lists()
        report.elapsed_s = time.monotonic() - started
        self.end_run(run_id, report)
        return DrainReport(report, fetched, sorted(learned.days))

    def _ask_in_slices(
        self,
        goals: Mapping[str, Among | None],
        until: float,
        progress: Progress | None,
        learned: Learned | None = None,
    ) -> list[FetchReport]:
        """Ask until every goal is reached, writing what was learned at least every `run_s` seconds."""
        reports: dict[str, FetchReport] = {}
        learned = Learned() if learned is None else learned
        left = dict(goals)
        while left:
            end = min(until, time.monotonic() + self.settings.run_s)
            work = {self._fetcher(self.source(name, end), progress): goal for name, goal in left.items()}
            fetched = self._all_at_once(work)
            learned.add(self.write_news())
            self.queue.counts.fold()
            for part in fetched:
                reports[part.service] = part.after(reports.get(part.service))
            left = {part.service: left[part.service] for part in fetched if part.is_out_of_time}
            if left:
                # A slot after the slice's end ends it before its time: nothing can be asked until then.
                slot = min(self.source(name).limiter.snapshot().wait_s for name in left)
                if time.monotonic() + slot >= until:
                    break
                time.sleep(max(0.0, min(slot, end - time.monotonic())))
            if time.monotonic() >= until:
                break
            if not left and until == math.inf:
                left = self._after_backoff(goals)
        return list(reports.values())

    def _after_backoff(self, goals: Mapping[str, Among | None]) -> dict[str, Among | None]:
        """Wait for what failed and is tried again within the patience; the goals of its services."""
        now = self.database.moment()
        open_ = {
            name: self.queue.backlog_of(name) if goal is None else self.queue.open_among(name, goal)
            for name, goal in goals.items()
        }
        waits = {
            name: (left.next_attempt_at - now).total_seconds()
            for name, left in open_.items()
            if left.next_attempt_at is not None and not left.due
        }
        soon = {name: wait for name, wait in waits.items() if wait <= self.settings.max_wait_s}
        if soon:
            time.sleep(max(0.0, *soon.values()))
        return {name: goals[name] for name in soon}

    def refresh(
        self,
        ahead: timedelta,
        active: timedelta,
        *,
        service: str | None = None,
        limit: int | None = None,
        until: float = math.inf,
        progress: Progress | None = None,
    ) -> DrainReport:
        """Open what a service was never asked, and again what expires; then drain.

        Answers about addresses seen within `active` that expire within `ahead` are asked again, after all
        first answers of their class; a service or key that came later gets its turn for past days. At most
        `limit` of either for each service. What nobody has seen for long leaves the queue.
        """
        self.queue.leave()
        names = [service] if service else [name for name in self.services if self.has_key(name)]
        for name in names:
            self._open_never_asked(name, limit)
            expiring = self._expiring(name, ahead, active, limit)
            for start in range(0, len(expiring), KEYS_AT_ONCE):
                lot = expiring[start : start + KEYS_AT_ONCE]
                self.queue.reopen(name, [want.key for want in lot], is_refresh=True)
                self.queue.open(name, lot)  # as it is worth now
        return self.drain(progress, until=until)

    @repeats_after_outage
    def _open_never_asked(self, name: str, limit: int | None) -> None:
        subject, left = self.services[name].subject, math.inf if limit is None else limit
        with self.database.read() as connection:
            keys = keys_of(self.database, connection, EVERY_SESSION, subject)
            while left > 0 and (lot := list(islice(keys, KEYS_AT_ONCE))):
                sent = {key.value: key.wanted for key in lot if key.may_be_sent}
                known = self.queue.statuses(name, list(sent)).keys() | ever_told(
                    self.database, name, list(sent)
                )
                never = [want for key, want in sent.items() if key not in known]
                self.open(name, never if left == math.inf else never[: int(left)])
                left -= len(never)

    @survives_outage
    def _expiring(self, name: str, ahead: timedelta, active: timedelta, limit: int | None) -> list[Wanted]:
        """The keys seen within `active` whose answers expire within `ahead`, in the order of asking."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            since = Chosen.of_days(Days((now - active).date(), LAST_DAY))
            query = select(_CACHE.c.cache_key).where(
                _CACHE.c.service == name, _CACHE.c.expires_at <= now + ahead
            )
            expiring = set(connection.execute(query).scalars())
            keys = keys_of(self.database, connection, since, self.services[name].subject)
            return list(islice((k.wanted for k in keys if k.may_be_sent and k.value in expiring), limit))

    def import_files(self, folder: Path) -> ImportReport:
        """Move a filesystem cache of the reference implementation into the database, ages kept."""
        return import_directory(reference_files(folder, self.database), self.cache.database)

    def import_table(self, url: str) -> ImportReport:
        """Move the table `enrichment_cache` of its database, which is only read; see `reference_table`."""
        return import_records(reference_table(url), self.cache.database)

    def purge(self, service: str | None = None, keys: Sequence[str] | None = None) -> dict[str, int]:
        """Delete answers whatever their age, those of old days too; how many went, by tier and history.

        `service` may be the name of a feed: then its lists go, and what was read off them.
        """
        return {**self.cache.purge(service, keys), "history": forget(self.database, service, keys)}

    def ledger(self) -> list[LedgerEntry]:
        """Limits and backlog of every service, and of every feed with limits of its own, side by side."""
        volumes = self.queue.counts.volumes()
        return [
            LedgerEntry.of(
                source.service,
                status,
                left,
                volumes[status.service].per_day if status.service in volumes else 0.0,
            )
            for source, status, left in self._limits_and_backlog()
        ]

    def _limits_and_backlog(self) -> list[tuple[Source, QuotaStatus, OpenLookups | None]]:
        backlog = self.backlog()
        apart = [name for name in self.feeds if FEEDS[name].limits]
        sources = [self.source(name) for name in self.services]
        sources += [self._feed_source(name, FeedService(name, settled=False)) for name in apart]
        return [(source, source.limiter.snapshot(), backlog.get(source.service.name)) for source in sources]

    @survives_outage
    def begin_run(self, kind: str, days: Days | None, run_id: str | None = None) -> str:
        """Write a row into `enrichment_runs`; returns its id. One that is given may be begun again."""
        again, run_id = run_id is not None, run_id or uuid.uuid4().hex
        with self.database.write() as connection:
            if again:
                connection.execute(_RUNS.delete().where(_RUNS.c.run_id == run_id))
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

    @survives_outage
    def complete_run(self, run_id: str, joined: JoinReport) -> dict[str, SessionsWithoutCall]:
        """Add what the rows came to, to the report of a run that ended before; what its calls spared."""
        with self.database.write() as connection:
            of_run = _RUNS.c.run_id == run_id
            before = connection.execute(select(_RUNS.c.report).where(of_run)).scalar_one_or_none()
            report = RunReport.for_services(self.services, None)
            report.api_calls.update((before or {}).get("api_calls", {}))
            report.add_join(joined)
            if before is not None:
                after = report.as_dict()
                rates = {
                    **before["hit_rates"],
                    "sessions_without_call": after["hit_rates"]["sessions_without_call"],
                }
                told = {name: after[name] for name in ("sessions", "lookups", "coverage")}
                connection.execute(
                    _RUNS.update().where(of_run), {"report": {**before, **told, "hit_rates": rates}}
                )
        return report.without_call

    @survives_outage
    def newest_session(self) -> tuple[datetime | None, datetime]:
        """When the newest session began (None: there is none), and what time it is now."""
        with self.database.read() as connection:
            return connection.execute(
                select(func.max(_SESSIONS.c.started_at))
            ).scalar_one(), self.database.now(connection)

    def answers_by_day(self, days: Days) -> dict[date, AnswersOfDay]:
        """For each day how many answers about its keys the cache has, and the sessions that they cover."""
        sessions = self.sessions_by_day(days)
        told = {}
        for day in days:
            keys = self._keys_of_days(Days(day, day))
            answers = AnswersOfDay(sessions.get(day, 0))
            for name, service in self.services.items():
                sent = [key for key in keys[service.subject] if key.may_be_sent]
                held = self.cache.database.fetched_at(name, [key.value for key in sent])
                answers.count(name, sent, held.keys())
            told[day] = answers
        return told

    @survives_outage
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
