"""What a run came to, as scripts, the UI and `enrichment_runs` get it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cowrie_enrich_dagster.cowrie import PassedOver
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.join import JoinReport
from cowrie_enrich_dagster.enrichment.knowledge import FEED, HISTORY
from cowrie_enrich_dagster.vocabulary import Days

TIERS = ("redis", "database", "filesystem")
SOURCES = (*TIERS, FEED, HISTORY)
"""Whatever answers without a call."""


@dataclass
class RunReport:
    """One run over a range of days. `pending` counts the lookups of the run that are still open.

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
    coverage: dict[str, float | None] = field(default_factory=dict)
    pending: int = 0
    stopped: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    passed_over: list[PassedOver] = field(default_factory=list)
    has_logs: bool = True
    elapsed_s: float = 0.0

    @classmethod
    def for_services(cls, services: Iterable[str], days: Days | None) -> RunReport:
        """An empty report that names every service and tier, so that "none" can be told from "not there"."""
        return cls(days, api_calls=Counter(dict.fromkeys(services, 0)), hits=Counter(dict.fromkeys(TIERS, 0)))

    @property
    def status(self) -> str:
        """`complete`, `partial` while lookups are pending (no failure), or `no_logs`: no log has its days."""
        if self.pending:
            return "partial"
        return "complete" if self.has_logs or self.sessions else "no_logs"

    def add_fetch(self, fetched: FetchReport) -> None:
        """Count what asking one service came to."""
        self.api_calls[fetched.service] += fetched.api_calls
        self.hits.update(fetched.cached)
        self.pending += fetched.pending
        if fetched.pending and fetched.stopped_because:
            self.stopped[fetched.service] = fetched.stopped_because

    def add_join(self, joined: JoinReport) -> None:
        """Take over the statuses and coverage that the sessions ended with."""
        self.sessions = joined.sessions
        self.lookups = joined.lookups
        self.coverage = {service: joined.coverage(service) for service in joined.lookups}

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
            "coverage": self.coverage,
            "pending": self.pending,
            "stopped": self.stopped,
            "feeds": self.feeds,
            "quarantined": self.quarantined,
            "passed_over": [passed._asdict() for passed in self.passed_over],
            "cache": self.cache,
            "elapsed_s": round(self.elapsed_s, 3),
        }
