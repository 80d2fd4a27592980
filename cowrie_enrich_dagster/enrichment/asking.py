"""What waits to be asked, and asking it: one service, or all at once, in slices of a run's time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace

from cowrie_enrich_dagster.enrichment.feeds import FeedService
from cowrie_enrich_dagster.enrichment.keys import occurring
from cowrie_enrich_dagster.enrichment.wiring import Wiring
from cowrie_enrich_dagster.lookups.fetch import Fetcher
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.lookups.model import Among, OpenLookups, Wanted
from cowrie_enrich_dagster.lookups.source import FetchReport, Source
from cowrie_enrich_dagster.pacing import QuotaStatus
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.vocabulary import Days, Progress

_LOOK_UP_SECONDS = 0.5


class Asking(Wiring):
    """Opens lookups, asks them, and tells what of them is left."""

    def open(self, name: str, wanted: Sequence[Wanted]) -> None:
        """Open lookups of one service (see `LookupQueue.open`)."""
        self.fetcher(self.source(name)).open(wanted)

    def fetch(self, name: str, wanted: Iterable[Wanted], progress: Progress | None = None) -> FetchReport:
        """Ask one service about these keys and no others."""
        return self.fetcher(self.source(name), progress).fetch(wanted)

    def ask(
        self, name: str, days: Days, until: float = math.inf, progress: Progress | None = None
    ) -> FetchReport:
        """Ask one service, in the order of asking over all days, until the keys of `days` are closed.

        Or until the moment `until` (of `time.monotonic`). Their lookups have been opened (`plan_and_open`).
        """
        return self.fetcher(self.source(name, until), progress).drain(self.goal(name, days))

    def goal(self, name: str, days: Days) -> Among:
        """The keys of `days`, as what a service is to be asked until they are closed."""
        return occurring(self.database, days, self.services[name].subject)

    def as_pending_now(self, report: FetchReport, days: Days) -> FetchReport:
        """A report with what is still open of its `days` now: some may not be worth a call any more."""
        left = self.queue.open_among(report.service, self.goal(report.service, days))
        return replace(report, pending=left.total)

    def backlog(self) -> dict[str, OpenLookups]:
        """The open lookups of every service that has any; a missing list is none, who needs it asks anew."""
        return {name: left for name, left in self.queue.backlog().items() if name in self.services}

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
        sources += [self.feed_source(name, FeedService(name, settled=False)) for name in apart]
        return [(source, source.limiter.snapshot(), backlog.get(source.service.name)) for source in sources]

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

    def ask_in_slices(
        self,
        goals: Mapping[str, Among | None],
        until: float,
        progress: Progress | None,
        after_slice: Callable[[], object],
    ) -> list[FetchReport]:
        """Ask until every goal is reached; `after_slice` is called at least every `run_s` seconds."""
        reports: dict[str, FetchReport] = {}
        left = dict(goals)
        while left:
            end = min(until, time.monotonic() + self.settings.run_s)
            work = {self.fetcher(self.source(name, end), progress): goal for name, goal in left.items()}
            fetched = all_at_once(work)
            after_slice()
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


def all_at_once(work: Mapping[Fetcher, Among | None]) -> list[FetchReport]:
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
