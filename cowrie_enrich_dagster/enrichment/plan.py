"""What is missing: which keys each service would be asked about, before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cowrie_enrich_dagster.cache import HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus


@dataclass
class ServicePlan:
    """For one service: distinct `keys`, how many each tier answers, and what is `wanted` (key -> priority).

    `skipped` counts keys by why they are never sent; `eta_s` is how long the wanted ones take at the pace in
    effect now.
    """

    service: str
    keys: int
    cached: Counter[str] = field(default_factory=Counter)
    wanted: dict[str, int] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    eta_s: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The figures, without the keys."""
        return {
            "keys": self.keys,
            "cached": dict(self.cached),
            "calls": len(self.wanted),
            "skipped": dict(self.skipped),
            "eta_s": self.eta_s,
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


def plan_service(
    service: Service, keys: Sequence[Key], cache: HybridEnrichmentCache, *, has_key: bool
) -> ServicePlan:
    """Look every key that may be sent up in the cache (a query per tier, not per key); the rest is wanted."""
    plan = ServicePlan(service.name, keys=len(keys))
    sent: Mapping[str, int] = {key.value: key.priority for key in keys if key.may_be_sent}
    if len(keys) > len(sent):
        plan.skipped[LookupStatus.SKIPPED_POLICY.value] = len(keys) - len(sent)
    hits = cache.get_many(service.name, list(sent))
    plan.cached.update(hit.tier for hit in hits.values())
    missing = {key: priority for key, priority in sent.items() if key not in hits}
    if has_key:
        plan.wanted = missing
    else:
        plan.skipped[LookupStatus.SKIPPED_NO_KEY.value] = len(missing)
    return plan
