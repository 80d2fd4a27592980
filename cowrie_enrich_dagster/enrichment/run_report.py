"""What a run came to, as scripts, the UI and `enrichment_runs` get it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from cowrie_enrich_dagster.cowrie import PassedOver
from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.feeds import FeedReport
from cowrie_enrich_dagster.enrichment.hit_rates import HitRates, SessionsWithoutCall
from cowrie_enrich_dagster.enrichment.ingest import IngestReport
from cowrie_enrich_dagster.enrichment.knowledge import FEED, HISTORY
from cowrie_enrich_dagster.enrichment.lists import ListReport
from cowrie_enrich_dagster.enrichment.plan import Plan
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.vocabulary import Days

TIERS = ("redis", "database", "filesystem")
SOURCES = (*TIERS, FEED, HISTORY)
"""Whatever answers without a call."""


@dataclass
class RunReport:
    """One run over a range of days.

    `pending_by_service` counts the lookups of the run that are still open; `eta_by_service` is how many
    seconds the service's whole backlog takes, what comes in counted (None: it never ends at this pace).
    `days_of_other_lists`: days whose rows do not follow the present lists of own networks and scanners yet.
    `moved_days`: other days of which sessions were completed, parted or moved, and their rows written anew.
    `passed_over` are the files beside the logs; `has_logs` is whether any log has any of the days.
    """

    days: Days | None
    sessions: int = 0
    ips: int = 0
    events: int = 0
    quarantined: int = 0
    lookups: dict[str, Counter[str]] = field(default_factory=dict)
    api_calls: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    rates: HitRates = field(default_factory=HitRates)
    without_call: dict[str, SessionsWithoutCall] = field(default_factory=dict)
    coverage: dict[str, float | None] = field(default_factory=dict)
    pending_by_service: dict[str, int] = field(default_factory=dict)
    eta_by_service: dict[str, float | None] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    days_of_other_lists: list[date] = field(default_factory=list)
    moved_days: list[date] = field(default_factory=list)
    feeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    passed_over: list[PassedOver] = field(default_factory=list)
    has_logs: bool = True
    elapsed_s: float = 0.0

    @classmethod
    def for_services(cls, services: Iterable[str], days: Days | None) -> RunReport:
        """An empty report that names every service and tier, so that "none" can be told from "not there"."""
        return cls(days, api_calls=Counter(dict.fromkeys(services, 0)), hits=Counter(dict.fromkeys(TIERS, 0)))

    @property
    def pending(self) -> int:
        """The open lookups of all services."""
        return sum(self.pending_by_service.values())

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing is pending; None: never at this pace."""
        etas = [
            self.eta_by_service.get(service) for service, open_ in self.pending_by_service.items() if open_
        ]
        return None if None in etas else max((eta for eta in etas if eta is not None), default=0.0)

    @property
    def status(self) -> str:
        """`complete`, `partial` while lookups are pending (no failure), or `no_logs`: no log has its days."""
        if self.pending:
            return "partial"
        return "complete" if self.has_logs or self.sessions else "no_logs"

    def add_ingest(self, ingested: IngestReport) -> None:
        """Take over what was read of the logs."""
        self.events, self.quarantined = ingested.whole.events, ingested.whole.lines_quarantined
        self.passed_over = ingested.read.passed_over
        self.moved_days = ingested.moved_days
        self.has_logs = bool(ingested.sessions_by_day) or not ingested.empty_days

    def add_lists(self, lists: Iterable[ListReport]) -> None:
        """Take over where each list stands."""
        self.lists = {one.list: one.as_dict() for one in lists}

    def add_feeds(self, feeds: Iterable[FeedReport]) -> None:
        """Take over what each feed came to."""
        self.feeds = {feed.feed: feed.as_dict() for feed in feeds}

    def add_plan(self, plan: Plan) -> None:
        """Count what the cache knew before anything was asked."""
        self.hits.update(plan.hits())
        self.rates = plan.rates()

    def add_fetches(self, fetched: Iterable[FetchReport]) -> None:
        """Count what asking each service came to."""
        for part in fetched:
            self.api_calls[part.service] += part.api_calls
            self.hits.update(part.cached)
            self.pending_by_service[part.service] = part.pending
            if part.pending and part.stopped_because:
                self.stopped[part.service] = part.stopped_because

    def foresee(self, ledger: Iterable[LedgerEntry]) -> None:
        """Take over how long each backlog takes in which lookups of the run still wait."""
        self.eta_by_service = {
            entry.status.service: entry.eta_s if entry.backlog else 0.0  # answered by others meanwhile
            for entry in ledger
            if self.pending_by_service.get(entry.status.service)
        }

    def add_join(self, joined: JoinReport) -> None:
        """Take over the statuses and coverage that the sessions ended with."""
        self.sessions = joined.sessions
        self.lookups = joined.lookups
        self.coverage = {service: joined.coverage(service) for service in joined.lookups}
        self.without_call = {
            service: joined.without_call(service, self.api_calls[service]) for service in joined.lookups
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON form (`cowrie-enrich run --json`); the names are contract."""
        return {
            "status": self.status,
            "days": str(self.days) if self.days else None,
            "sessions": self.sessions,
            "ips": self.ips,
            "events": self.events,
            "lookups": {service: dict(counts) for service, counts in self.lookups.items()},
            "api_calls": dict(self.api_calls),
            "hits": dict(self.hits),
            "hit_rates": {
                **self.rates.as_dict(),
                "sessions_without_call": {name: one.as_dict() for name, one in self.without_call.items()},
            },
            "coverage": self.coverage,
            "pending": self.pending,
            "pending_by_service": {name: n for name, n in self.pending_by_service.items() if n},
            "eta_s": self.eta_s,
            "eta_by_service": self.eta_by_service,
            "stopped": self.stopped,
            "days_of_other_lists": [str(day) for day in self.days_of_other_lists],
            "moved_days": [str(day) for day in self.moved_days],
            "feeds": self.feeds,
            "lists": self.lists,
            "quarantined": self.quarantined,
            "passed_over": [passed._asdict() for passed in self.passed_over],
            "cache": self.cache,
            "elapsed_s": round(self.elapsed_s, 3),
        }


@dataclass(frozen=True)
class DrainReport:
    """What a drain came to: as a report, by service, and the `days` of the rows that it wrote."""

    run: RunReport
    fetched: Sequence[FetchReport]
    days: Sequence[date]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form (`cowrie-enrich drain --json`)."""
        figures = self.run.as_dict()
        kept = (
            "api_calls",
            "pending",
            "pending_by_service",
            "eta_s",
            "eta_by_service",
            "stopped",
            "elapsed_s",
        )
        return {
            "lookups": {part.service: dict(part.statuses) for part in self.fetched},
            **{name: figures[name] for name in kept},
            "lists": self.run.lists,
            "sessions": self.run.sessions,
            "days": [str(day) for day in self.days],
        }
