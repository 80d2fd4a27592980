"""A run, step by step; each step is safe to repeat.

logs -> `ingest` -> `summarise_addresses` -> `look_at_lists` -> `fetch_feeds` -> `plan_and_open` -> `enrich`
(rows at once, with what is known) -> asking (per service, while the run has time) -> `write_news` (what was
learned, where it belongs). `run` is all of them; Dagster's assets call them one by one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from cowrie_enrich_dagster.cache import HybridEnrichmentCache
from cowrie_enrich_dagster.cowrie import ReadReport, few_collections
from cowrie_enrich_dagster.enrichment.campaigns import FoundCampaigns, find_campaigns
from cowrie_enrich_dagster.enrichment.campaigns_of_days import DayOfCampaigns, campaigns_of_days
from cowrie_enrich_dagster.enrichment.column_course import ColumnCourse
from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.feeds import FeedReport, read_feed
from cowrie_enrich_dagster.enrichment.hit_rates import AnswersOfDay, Tally
from cowrie_enrich_dagster.enrichment.ingest import (
    IngestReport,
    LogDays,
    ingest_days,
    log_days,
    sessions_by_day,
)
from cowrie_enrich_dagster.enrichment.keys import that_may_be_sent
from cowrie_enrich_dagster.enrichment.learned import note_changed
from cowrie_enrich_dagster.enrichment.lists import ListReport
from cowrie_enrich_dagster.enrichment.nat import ask_about_nat
from cowrie_enrich_dagster.enrichment.pieces import followed, moved_days
from cowrie_enrich_dagster.enrichment.plan import Plan, ServicePlan, Take, all_wanted, plan_service
from cowrie_enrich_dagster.enrichment.row_writing import RowWriting
from cowrie_enrich_dagster.enrichment.run_report import RunReport
from cowrie_enrich_dagster.enrichment.runs import begin_run, end_run
from cowrie_enrich_dagster.enrichment.session_ips import (
    AddressReport,
    count_addresses,
    days_of_other_lists,
    summarise_addresses,
)
from cowrie_enrich_dagster.enrichment.told_days import told_in_time
from cowrie_enrich_dagster.lookups.model import Among, Wanted
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.settings import ConfigError
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.vocabulary import Days, Progress, Subject

logger = logging.getLogger(__name__)


class Pipeline(RowWriting):
    """The steps of a range of days."""

    def run(self, days: Days, progress: Progress | None = None, *, wait: bool = False) -> RunReport:
        """All steps, in order; every service is asked at the same time as the others.

        Every session has its row before anything is asked. Then the run asks for what is left of its time
        (ENRICH_MAX_RUN_SECONDS); with `wait`, unless that is set, while there is something it may ask.
        """
        started = time.monotonic()
        endless = wait and self.settings.max_run_s is None
        until = math.inf if endless else started + self.settings.run_s
        report = RunReport.for_services(self.services, days)
        run_id = begin_run(self.database, "run", days)

        report.add_ingest(self.ingest(days, progress))
        report.ips = self.summarise_addresses(days).distinct
        report.add_lists(self.look_at_lists(until=until))
        report.add_feeds(self.fetch_feeds(days, until=until))
        plan = self.plan_and_open(days)
        report.add_plan(plan)
        joined = self.enrich(days)
        self.find_campaigns()
        if plan.wanted:
            joined = self._ask_for(plan, report, joined, until, progress)
        report.add_join(joined)

        if report.pending:
            report.foresee(self.ledger())
        report.days_of_other_lists = self.days_of_other_lists()
        report.cache = self.cache.metrics.as_dict()
        report.elapsed_s = time.monotonic() - started
        end_run(self, run_id, report)
        return report

    def _ask_for(
        self, plan: Plan, report: RunReport, joined: JoinReport, until: float, progress: Progress | None
    ) -> JoinReport:
        """Ask for what the plan wants; where calls are weighed, what is told decides what else is."""
        fetched = self.ask_in_slices(self._goals(plan), until, progress, self.write_news)
        fetched = self.ask_on(plan.days, fetched, until, progress)
        report.add_fetches(fetched)
        if self.settings.want is not None or any(part.is_refused for part in fetched):
            return self.enrich(plan.days)  # both are said of every key, asked or not
        self._recount(joined, plan.days)
        return joined

    def ask_on(
        self, days: Days, fetched: Sequence[FetchReport], until: float, progress: Progress | None = None
    ) -> list[FetchReport]:
        """After what was `fetched`: where calls are weighed, what answers made worth asking; all together."""
        if self.settings.want is None:
            return list(fetched)
        together = {part.service: part for part in fetched}
        while time.monotonic() < until and any(part.answered for part in fetched):
            goals = self._goals(self.plan_and_open(days))
            fetched = self.ask_in_slices(goals, until, progress, self.write_news)
            together |= {part.service: part.after(together.get(part.service)) for part in fetched}
        return [self.as_pending_now(part, days) for part in together.values()]

    def _goals(self, plan: Plan) -> dict[str, Among]:
        return {name: self.goal(name, plan.days) for name in plan.wanted}

    def ingest(self, days: Days, progress: Progress | None = None) -> IngestReport:
        """Logs -> `sessions`, and all that follows of other days whose sessions these logs move.

        Raises `ConfigError` when no log folder is set or it does not exist.

        Days older than ENRICH_KEEP_DAYS keeps are not read: that is a warning.
        """
        root, keep_from = self.log_dir(), self.first_kept_day()
        if keep_from is not None and days.first < keep_from:
            old = Days(days.first, min(days.last, keep_from - timedelta(days=1)))
            keep_days = self.settings.keep_days
            logger.warning("%s: older than ENRICH_KEEP_DAYS (%d) keeps, not read", old, keep_days)
            if days.last < keep_from:
                return IngestReport(ReadReport(), ReadReport())
            days = Days(keep_from, days.last)
        report = ingest_days(self.database, root, days, progress, self.settings.readers)
        report.moved_days = self._follow_moved()
        for question in ask_about_nat(self.database, days):
            logger.warning("%s", question)
        return report

    @repeats_after_outage
    def _follow_moved(self) -> list[date]:
        """Let addresses, lookups and enriched rows follow sessions that the logs of other days moved."""
        moved = moved_days(self.database)
        for day, moved_at in moved.items():
            self._follow(Days(day, day))
            with self.database.write() as connection:
                note_changed(self.database, connection, [day])
                followed(connection, day, moved_at)
        return list(moved)

    def _follow(self, days: Days) -> None:
        self.summarise_addresses(days)
        self.plan_and_open(days)
        self.write_rows(days)

    def first_kept_day(self) -> date | None:
        """The oldest day that ENRICH_KEEP_DAYS keeps; None: all are."""
        return self.settings.first_kept_day(self.database.moment().date())

    def log_days(
        self, seconds: float = math.inf, progress: Callable[[int, int], None] | None = None
    ) -> LogDays:
        """The days in the logs, after about `seconds` of reading what is not known yet; see `log_days`."""
        return log_days(self.database, self.log_dir(), seconds, progress)

    def log_dir(self) -> Path:
        root = self.settings.log_dir
        if root is None or not root.is_dir():
            where = "is not set" if root is None else f"names {root}, which is not a folder"
            raise ConfigError(f"COWRIE_LOG_DIR {where}: set it to the folder with Cowrie's JSON logs")
        return root

    def summarise_addresses(self, days: Days) -> AddressReport:
        """`sessions` -> `session_ips`."""
        return summarise_addresses(self.database, days, *self.own_and_scanners(), self.scanner_lists)

    @survives_outage
    def days_of_other_lists(self) -> list[date]:
        """The days whose rows do not follow the present lists of our own networks and of scanners yet."""
        return days_of_other_lists(self.database, *self.own_and_scanners())

    def look_at_lists(self, *, until: float = math.inf) -> list[ListReport]:
        """Look at every list whose time has come; days of addresses that such a list makes ours follow."""
        reports = self.refresh_lists(until=until)
        if any(report.says == "own" and (report.came or report.went) for report in reports):
            for day in self.days_of_other_lists():
                self._follow(Days(day, day))
        return reports

    def fetch_feeds(self, days: Days, *, until: float = math.inf) -> list[FeedReport]:
        """Let every feed answer what it can for `days`; a feed that fails is told in its report."""
        return [self.fetch_feed(name, days, until=until) for name in self.feeds]

    def fetch_feed(self, name: str, days: Days, *, until: float = math.inf) -> FeedReport:
        """Let one feed answer what it can for `days`."""
        tier = self.cache.database
        whole_lists = HybridEnrichmentCache(None, tier)  # too large for Redis, where nobody would read them

        def fetch(feed: Service, wanted: Sequence[Wanted]) -> FetchReport:
            return self.fetcher(self.feed_source(name, feed, until), cache=whole_lists).fetch(wanted)

        return read_feed(name, days, database=self.database, cache=tier, queue=self.queue, fetch=fetch)

    @repeats_after_outage
    @few_collections()
    def plan(self, days: Days, take: Take | None = None, *, by_day: bool = False) -> Plan:
        """What would be asked for `days`; spends nothing. `take` is given the keys, lot by lot.

        With `by_day` the hit rates of each day are told, too.
        """

        def told_then(service: Service, addresses: Sequence[str]) -> Mapping[str, str]:
            return told_in_time(self.database, service, addresses, days)

        course, keys = ColumnCourse(self.spending()), self._keys_of_days(days)
        weigh = course.weigh if self.settings.want else all_wanted()
        plans, tallies = {}, {name: Tally(self.database, self.cache, name) for name in self.services}
        for name, service in self.services.items():
            plans[name] = plan_service(
                service,
                keys[service.subject],
                self.cache,
                told_then,
                self.source(name).limiter.snapshot(),
                has_key=self.has_key(name),
                take=take,
                count=tallies[name].count,
                weigh=weigh,
                release=self.release if take else None,
            )
            plans[name].rates = tallies[name].rates
        if by_day:
            self._rates_by_day(days, plans, tallies)
        columns = course.shares(keys[Subject.IP]) if self.settings.want else []
        return Plan(days, count_addresses(self.database, days), plans, columns)

    def _rates_by_day(
        self, days: Days, plans: Mapping[str, ServicePlan], tallies: Mapping[str, Tally]
    ) -> None:
        if days.first == days.last:  # all that was counted is of this day
            for plan in plans.values():
                plan.rates_by_day[days.first] = plan.rates
            return
        for day in days:
            for subject, keys in self._keys_of_days(Days(day, day)).items():
                for name, service in self.services.items():
                    if service.subject is subject:
                        sent = [key.value for key in that_may_be_sent(keys, service)]
                        plans[name].rates_by_day[day] = tallies[name].of_some(sent)

    def plan_and_open(self, days: Days, *, by_day: bool = False) -> Plan:
        """Plan `days`, and open a lookup for all that is wanted. Raises as `require_own_lists`."""
        self.require_own_lists()
        plan = self.plan(days, self.open, by_day=by_day)
        self.queue.counts.fold()
        return plan

    @few_collections()
    def answers_by_day(self, days: Days) -> dict[date, AnswersOfDay]:
        """For each day how many answers about its keys the cache has, and the sessions that they cover."""
        sessions = sessions_by_day(self.database, days)
        told = {}
        for day in days:
            keys = self._keys_of_days(Days(day, day))
            answers = AnswersOfDay(sessions.get(day, 0))
            for name, service in self.services.items():
                sent = that_may_be_sent(keys[service.subject], service)
                held = self.cache.database.fetched_at(name, [key.value for key in sent])
                answers.count(name, sent, held.keys())
            told[day] = answers
        return told

    def find_campaigns(self, days: Days | None = None) -> FoundCampaigns:
        """Sessions -> campaigns, wherever sessions changed since; of `days` in any case."""
        return find_campaigns(self.database, days)

    def campaigns_of_days(self, days: Days) -> dict[date, DayOfCampaigns]:
        """What the campaigns of each of the days come to."""
        return campaigns_of_days(self.database, days)
