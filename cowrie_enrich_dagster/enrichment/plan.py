"""What is missing: which keys each service would be asked about, before anything is spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate

from cowrie_enrich_dagster.cache import HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.pacing import QuotaStatus, eta_seconds
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject

ToldThen = Callable[[Service, Sequence[str]], Mapping[str, str]]
"""The addresses that were answered when their days were current, each with what had the answer."""
SHARES_OF_CALLS = (0.0, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Coverage:
    """The share of the sessions that have an answer once so many `calls` are spent.

    `covered` in the order in which we ask, most valuable first; `first_come` in that of their first sessions.
    Of sessions whose key may be sent; of files and passwords every occurrence counts.
    """

    calls: int
    covered: float
    first_come: float


@dataclass
class ServicePlan:
    """For one service: distinct `keys`, how many each tier answers, and what is `wanted` (key -> priority).

    Among the tiers are `feed` and `history`: what was known at the time, though the cache has it no more.

    `skipped` counts keys by why they are never sent; `calls` is how many requests the wanted ones take, and
    `eta_s` how long, at the pace in effect now. `quota_left` is how many requests the service's day or month
    has left (None: it has no such limit); `coverage` tells what that and some shares of the calls are worth.
    """

    service: str
    keys: int
    cached: Counter[str] = field(default_factory=Counter)
    wanted: dict[str, int] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    eta_s: float | None = None
    quota_left: int | None = None
    coverage: list[Coverage] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The figures, without the keys."""
        return {
            "keys": self.keys,
            "cached": dict(self.cached),
            "wanted": len(self.wanted),
            "calls": self.calls,
            "skipped": dict(self.skipped),
            "eta_s": self.eta_s,
            "quota_left": self.quota_left,
            "coverage": [asdict(point) for point in self.coverage],
        }


@dataclass
class Plan:
    """The plans of all services for a range of days."""

    days: Days
    addresses: int
    services: dict[str, ServicePlan]

    def hits(self) -> Counter[str]:
        """Keys answered by each cache tier, over all services."""
        total: Counter[str] = Counter()
        for service in self.services.values():
            total.update(service.cached)
        return total


def calls_for(service: Service, keys: int) -> int:
    """How many requests so many keys take."""
    return math.ceil(keys / service.batch_size)


def plan_service(
    service: Service,
    keys: Sequence[Key],
    cache: HybridEnrichmentCache,
    told_then: ToldThen,
    pace: QuotaStatus,
    *,
    has_key: bool,
) -> ServicePlan:
    """Look every key that may be sent up in the cache (a query per tier, not per key); the rest is wanted.

    Except for addresses of which we have been told at the time: asking now tells about now, not about then.
    """
    plan = ServicePlan(service.name, keys=len(keys))
    sent: Mapping[str, int] = {key.value: key.priority for key in keys if key.may_be_sent}
    if len(keys) > len(sent):
        plan.skipped[LookupStatus.SKIPPED_POLICY.value] = len(keys) - len(sent)
    hits = cache.get_many(service.name, list(sent))
    plan.cached.update(hit.tier for hit in hits.values())
    missing = {key: priority for key, priority in sent.items() if key not in hits}
    if service.subject is Subject.IP and missing:
        told = told_then(service, list(missing))
        plan.cached.update(told.values())
        missing = {key: priority for key, priority in missing.items() if key not in told}
    if not has_key:
        plan.skipped[LookupStatus.SKIPPED_NO_KEY.value] = len(missing)
    elif missing:
        plan.wanted, plan.calls = missing, calls_for(service, len(missing))
        plan.eta_s = eta_seconds(pace, plan.calls)
        scarce = (window.left for window in pace.windows if window.name != "minute")
        plan.quota_left = min((left for left in scarce if left is not None), default=None)
        plan.coverage = _coverage(service, keys, plan)
    return plan


def _coverage(service: Service, keys: Sequence[Key], plan: ServicePlan) -> list[Coverage]:
    sent = [key for key in keys if key.may_be_sent]
    unknown = [key for key in sent if key.value in plan.wanted]
    total = sum(key.sessions for key in sent)
    known = total - sum(key.sessions for key in unknown)
    by_worth = sorted(unknown, key=lambda key: (-key.priority, key.value))
    by_coming = sorted(unknown, key=lambda key: (key.first_seen, key.value))
    covered, first_come = (
        list(accumulate((key.sessions for key in order), initial=known)) for order in (by_worth, by_coming)
    )
    calls = {round(share * plan.calls) for share in SHARES_OF_CALLS}
    if plan.quota_left is not None and plan.quota_left < plan.calls:
        calls.add(plan.quota_left)
    points = ((number, min(number * service.batch_size, len(unknown))) for number in sorted(calls))
    return [Coverage(number, covered[asked] / total, first_come[asked] / total) for number, asked in points]
