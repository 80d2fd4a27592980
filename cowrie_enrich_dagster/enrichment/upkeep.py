"""What is done beside the days: the backlog, answers that expire, what is old, what others have kept."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import func, select

from cowrie_enrich_dagster.cache import ImportReport, archive_expired, import_directory, import_records
from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.forget import Forgotten, beginning_of, forget_days_before
from cowrie_enrich_dagster.enrichment.keys import EVERY_SESSION, Chosen, keys_of, that_may_be_sent
from cowrie_enrich_dagster.enrichment.knowledge import forget
from cowrie_enrich_dagster.enrichment.learned import Learned
from cowrie_enrich_dagster.enrichment.moving import reference_files, reference_table
from cowrie_enrich_dagster.enrichment.pipeline import Pipeline
from cowrie_enrich_dagster.enrichment.plan import KEYS_AT_ONCE
from cowrie_enrich_dagster.enrichment.run_report import DrainReport, RunReport
from cowrie_enrich_dagster.enrichment.runs import begin_run, end_run
from cowrie_enrich_dagster.enrichment.spending import Spending
from cowrie_enrich_dagster.enrichment.told_days import ever_told
from cowrie_enrich_dagster.lookups.model import Among, Wanted
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import OWN_MOMENTS
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.services.lists import list_service_name
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.tables import SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import LAST_DAY, Days, Progress


class Upkeep(Pipeline):
    """Drain, refresh, clean up, forget, purge and import."""

    def drain(self, progress: Progress | None = None, *, until: float = math.inf) -> DrainReport:
        """Ask what is due in the queue, all services at once, and write what is learned into its rows.

        Lists whose time has come are looked at before, for they spare calls.
        Ends when nothing is due that may be asked within the patience, or at `until`. Raises as
        `require_own_lists`.
        """
        started = time.monotonic()
        run_id = begin_run(self.database, "drain", None)
        report = RunReport.for_services(self.services, None)
        if self.lists_due():
            report.add_lists(self.look_at_lists(until=until))
        self.require_own_lists()
        learned = self.write_news()  # what a killed drain left
        self.find_campaigns()  # of days that a killed run left, or an older version
        fetched = self._ask_what_is_due(learned, until, progress)
        report.add_fetches(fetched)
        backlog = self.backlog()
        report.pending_by_service = {name: left.total for name, left in backlog.items()}
        report.foresee(self.ledger())
        report.sessions = learned.sessions
        report.days_of_other_lists = self.days_of_other_lists()
        report.elapsed_s = time.monotonic() - started
        end_run(self, run_id, report)
        return DrainReport(report, fetched, sorted(learned.days))

    def _ask_what_is_due(
        self, learned: Learned, until: float, progress: Progress | None
    ) -> list[FetchReport]:
        """Ask; where calls are weighed, go on with what the answers made worth asking on their days."""
        together: dict[str, FetchReport] = {}
        while True:
            goals: dict[str, Among | None] = dict.fromkeys(self.askable())
            news = Learned()
            fetched = self.ask_in_slices(goals, until, progress, partial(self._add_news, news))
            learned.add(news)
            together |= {part.service: part.after(together.get(part.service)) for part in fetched}
            is_over = time.monotonic() >= until or not any(part.answered for part in fetched)
            if self.settings.want is None or is_over:
                return list(together.values())
            for days in Days.stretches(news.days):
                self.plan_and_open(days)

    def _add_news(self, learned: Learned) -> None:
        learned.add(self.write_news())

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
        spending = self.spending()
        for name in names:
            self._open_never_asked(name, limit, spending)
            expiring = self._expiring(name, ahead, active, limit)
            for start in range(0, len(expiring), KEYS_AT_ONCE):
                lot = expiring[start : start + KEYS_AT_ONCE]
                self.queue.reopen(name, [want.key for want in lot], is_refresh=True)
                self.queue.open(name, lot)  # as it is worth now
        return self.drain(progress, until=until)

    @repeats_after_outage
    def _open_never_asked(self, name: str, limit: int | None, spending: Spending) -> None:
        service, left = self.services[name], math.inf if limit is None else limit
        subject = service.subject
        with self.database.read() as connection:
            keys = keys_of(self.database, connection, EVERY_SESSION, subject)
            while left > 0 and (lot := list(islice(keys, KEYS_AT_ONCE))):
                _, sent = spending.weigh(service, that_may_be_sent(lot, service))
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
            expiring = self.cache.database.expiring(connection, name, now + ahead)
            service, spending = self.services[name], self.spending()
            if not spending.wanted_of(service):
                return []
            purpose = spending.purpose_of(service)
            keys = keys_of(self.database, connection, since, service.subject)
            sent = (key for key in keys if key.may_be_sent_to(service) and key.value in expiring)
            return [key.wanted._replace(purpose=purpose) for key in islice(sent, limit)]

    def cleanup(self, *, dry_run: bool = False) -> dict[str, int]:
        """Take expired answers out of the cache into `observations`; returns how many, by service."""
        if not dry_run:
            lists = [list_service_name(one.name) for one in self.settings.lists]
            archive_expired(self.database, OWN_MOMENTS, [*FEEDS, *lists])
        return self.cache.database.cleanup_expired(dry_run=dry_run)

    def prune_lists(self, *, dry_run: bool = False) -> int:
        """Delete what lists said before any session that there is, or may still be read; how many spans.

        What ENRICH_KEEP_DAYS keeps may still be read; without it no session is thought to come that began
        before all others.
        """
        with self.database.read() as connection:
            oldest = connection.execute(select(func.min(table_of(SessionRecord).c.started_at))).scalar_one()
        kept_from = self.first_kept_day()
        moments = [beginning_of(kept_from)] if kept_from else []
        moments += [oldest] if oldest else []
        return list_store.prune(self.database, min(moments), dry_run=dry_run) if moments else 0

    def forget_old_days(self, *, dry_run: bool) -> Forgotten:
        """Delete the days that ENRICH_KEEP_DAYS does not keep; with `dry_run` count what would go."""
        keep_from = self.first_kept_day()
        if keep_from is None:
            return Forgotten(None, dry_run)
        return forget_days_before(self.database, keep_from, dry_run=dry_run)

    def purge(self, service: str | None = None, keys: Sequence[str] | None = None) -> dict[str, int]:
        """Delete answers whatever their age, those of old days too; how many went, by tier and history.

        `service` may be the name of a feed: then its lists go, and what was read off them.
        """
        return {**self.cache.purge(service, keys), "history": forget(self.database, service, keys)}

    def import_files(self, folder: Path) -> ImportReport:
        """Move a filesystem cache of the reference implementation into the database, ages kept."""
        return import_directory(reference_files(folder, self.database), self.cache.database)

    def import_table(self, url: str) -> ImportReport:
        """Move the table `enrichment_cache` of its database, which is only read; see `reference_table`."""
        return import_records(reference_table(url), self.cache.database)
