"""A service as it is asked: with its configuration, its limiter and its stop; and what asking it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from cowrie_enrich_dagster.lookups.stop import Ending, Stop, Why
from cowrie_enrich_dagster.pacing import MAX_BODY_BYTES, AdaptiveRateLimiter
from cowrie_enrich_dagster.services import Service, ServiceConfig
from cowrie_enrich_dagster.vocabulary import LookupStatus


@dataclass(frozen=True)
class Source:
    """A service, how we are known to it, the limiter that all share, and what wakes those who wait for it."""

    service: Service
    config: ServiceConfig
    limiter: AdaptiveRateLimiter
    rate: float
    stop: Stop
    max_body_bytes: int = MAX_BODY_BYTES


@dataclass
class FetchReport:
    """What asking one service came to: requests sent, keys asked by status, keys `cached` by tier.

    Of the `wanted` lookups `pending` are still open; `ending` says why (None: none is, or nobody asked).
    """

    service: str
    wanted: int = 0
    api_calls: int = 0
    cached: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    ending: Ending | None = None
    waited_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def stopped_because(self) -> str:
        """Why lookups are still open, in an operator's words; empty if none is."""
        return self.ending.said if self.ending else ""

    @property
    def answered(self) -> int:
        """The keys about which something was told."""
        return sum(self.statuses[status.value] for status in LookupStatus if status.is_answer)

    @property
    def is_refused(self) -> bool:
        """Whether the service does not accept who we say we are, now or when the keys were asked last."""
        told = bool(self.statuses[LookupStatus.AUTH_FAILED.value])
        return told or (self.ending is not None and self.ending.why is Why.REFUSED)

    @property
    def is_out_of_time(self) -> bool:
        """Whether it could go on at once."""
        return self.ending is not None and self.ending.why is Why.TIME_IS_OVER

    def after(self, before: FetchReport | None) -> FetchReport:
        """This slice together with those before it."""
        if before is None:
            return self
        return replace(
            self,
            wanted=before.wanted,
            api_calls=before.api_calls + self.api_calls,
            cached=before.cached + self.cached,
            statuses=before.statuses + self.statuses,
            waited_s=before.waited_s + self.waited_s,
            elapsed_s=before.elapsed_s + self.elapsed_s,
        )
