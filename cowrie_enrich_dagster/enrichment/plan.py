"""What is missing: which keys each service would be asked about, before anything is spent."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import islice

from cowrie_enrich_dagster.cache import Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.column_course import ColumnShares
from cowrie_enrich_dagster.enrichment.hit_rates import HitRates
from cowrie_enrich_dagster.enrichment.hit_rates import total as total_rates
from cowrie_enrich_dagster.enrichment.keys import Key, that_may_be_sent
from cowrie_enrich_dagster.lookups.ledger import calls_for
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.order import places
from cowrie_enrich_dagster.pacing import QuotaStatus, eta_seconds
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject

ToldThen = Callable[[Service, Sequence[str]], Mapping[str, str]]
"""The addresses that were answered when their days were current, each with what had the answer."""
Take = Callable[[str, Sequence[Wanted]], None]
"""Takes what a service is to be asked about, some thousand keys at a time, in the order of asking."""
Count = Callable[[Sequence[str], Mapping[str, Hit]], None]
"""Told of each lot of keys what the tiers gave, before anything is opened (see `hit_rates.Tally`)."""
Weigh = Callable[[Service, Sequence[Key]], tuple[Mapping[str, str], Mapping[str, Wanted]]]
"""Which keys are not worth a call, and why; the others as the queue takes them (see `Spending.weigh`)."""
Release = Callable[[str, Sequence[str]], None]
"""Ends the open lookups of a service about keys that are not worth a call any more."""
ON_LIST = "list"
KEYS_AT_ONCE = 5_000
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
    """For one service: distinct `keys`, how many of them each tier answers, and how many are `wanted`.

    Among the tiers are `feed` and `history`: what was known at the time, though the cache has it no more.

    `skipped` counts keys by why they are never sent, `spared` those that are not worth a call now: on a
    scanners' `list`, or a word of `spending`; `calls_spared` is what they would take. `calls` is how many
    requests the wanted ones take, and `eta_s` how long, at the pace in effect now. `quota_left` is how many
    requests the service's day or month has left (None: it has no such limit); `coverage` tells what that and
    some shares of the calls are worth.
    `rates` tells what the cache should have known and did.
    """

    service: str
    keys: int
    cached: Counter[str] = field(default_factory=Counter)
    wanted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    spared: Counter[str] = field(default_factory=Counter)
    calls_spared: int = 0
    calls: int = 0
    eta_s: float | None = None
    quota_left: int | None = None
    coverage: list[Coverage] = field(default_factory=list)
    rates: HitRates = field(default_factory=HitRates)
    rates_by_day: dict[date, HitRates] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "keys": self.keys,
            "cached": dict(self.cached),
            "wanted": self.wanted,
            "calls": self.calls,
            "skipped": dict(self.skipped),
            "spared": dict(self.spared),
            "calls_spared": self.calls_spared,
            "eta_s": self.eta_s,
            "quota_left": self.quota_left,
            "coverage": [asdict(point) for point in self.coverage],
        }


@dataclass
class Plan:
    """The plans of all services for a range of days; the course of the wanted columns, if some are named."""

    days: Days
    addresses: int
    services: dict[str, ServicePlan]
    columns: list[ColumnShares] = field(default_factory=list)

    @property
    def wanted(self) -> list[str]:
        """The services that are to be asked about something."""
        return [name for name, service in self.services.items() if service.wanted]

    def hits(self) -> Counter[str]:
        """Keys answered by each cache tier, over all services."""
        total: Counter[str] = Counter()
        for service in self.services.values():
            total.update(service.cached)
        return total

    def rates(self) -> HitRates:
        """What the cache should have known and did, over all services."""
        return total_rates(service.rates for service in self.services.values())


class _Worth:
    """Adds up what answers are worth, in the order of asking and in that of the first sessions."""

    def __init__(self) -> None:
        self.total = 0
        self._sessions, self._first_seen = array("q"), array("d")
        self._priorities, self._days = array("q"), array("q")

    def unknown(self, keys: Collection[Key], wanted: Collection[Wanted]) -> None:
        """Add keys that are not answered, each as it is `wanted`."""
        self._sessions.extend([key.sessions for key in keys])
        self._first_seen.extend([key.first_seen.timestamp() for key in keys])
        self._priorities.extend([want.priority for want in wanted])
        self._days.extend([want.last_day.toordinal() for want in wanted])

    def coverage(self, batch_size: int, calls: Iterable[int]) -> list[Coverage]:
        import numpy as np  # a sixth of what a start takes, and most commands plan nothing

        sessions = np.array(self._sessions)
        known = self.total - int(sessions.sum())
        by_worth = places(np.array(self._priorities), np.array(self._days))
        covered, first_come = (
            np.concatenate(([known], known + np.cumsum(sessions[np.argsort(by, kind="stable")])))
            for by in (by_worth, np.array(self._first_seen))
        )
        points = ((number, min(number * batch_size, len(sessions))) for number in sorted(set(calls)))
        return [
            Coverage(number, float(covered[asked]) / self.total, float(first_come[asked]) / self.total)
            for number, asked in points
        ]


def plan_service(
    service: Service,
    keys: Iterable[Key],
    cache: HybridEnrichmentCache,
    told_then: ToldThen,
    pace: QuotaStatus,
    *,
    has_key: bool,
    take: Take | None = None,
    count: Count | None = None,
    weigh: Weigh,
    release: Release | None = None,
) -> ServicePlan:
    """Look every key that may be sent up in the cache; the rest is wanted, and given to `take`.

    Except for addresses of which we have been told at the time: asking now tells about now, not about then.
    And except for what `weigh` says is not worth it; `release` is told of that.
    `keys` come in the order of asking; `KEYS_AT_ONCE` are held at a time (a query per tier for each lot).
    """
    plan, worth = ServicePlan(service.name, keys=0), _Worth()
    keys = iter(keys)
    while lot := list(islice(keys, KEYS_AT_ONCE)):
        plan.keys += len(lot)
        sent = {key.value: key for key in that_may_be_sent(lot, service)}
        worth.total += sum(key.sessions for key in sent.values())
        if len(lot) > len(sent):
            plan.skipped[LookupStatus.SKIPPED_POLICY.value] += len(lot) - len(sent)
            if has_key:
                plan.spared[ON_LIST] += _spared_by_lists(service, cache, lot, sent)
        hits = cache.get_many(service.name, list(sent))
        plan.cached.update(hit.tier for hit in hits.values())
        if count:
            count(list(sent), hits)
        missing = [key for value, key in sent.items() if value not in hits]
        if service.subject is Subject.IP and missing:
            told = told_then(service, [key.value for key in missing])
            plan.cached.update(told.values())
            missing = [key for key in missing if key.value not in told]
        if not has_key:
            plan.skipped[LookupStatus.SKIPPED_NO_KEY.value] += len(missing)
            continue
        why, wanted = weigh(service, missing)
        plan.spared.update(why.values())
        if release and why:
            release(service.name, list(why))
        plan.wanted += len(wanted)
        worth.unknown([sent[value] for value in wanted], wanted.values())
        if take and wanted:
            take(service.name, list(wanted.values()))
    plan.spared = +plan.spared
    plan.calls_spared = calls_for(service, plan.wanted + plan.spared.total()) - calls_for(
        service, plan.wanted
    )
    if plan.wanted:
        _foresee(plan, service, pace, worth)
    return plan


def all_wanted() -> Weigh:
    """Every key is worth a call. How the queue takes it is the same for all services, and said once."""
    known: dict[Subject, dict[str, Wanted]] = {subject: {} for subject in Subject}

    def weigh(service: Service, keys: Sequence[Key]) -> tuple[Mapping[str, str], Mapping[str, Wanted]]:
        of_subject = known[service.subject]
        of_subject.update((key.value, key.wanted) for key in keys if key.value not in of_subject)
        return {}, {key.value: of_subject[key.value] for key in keys}

    return weigh


def _spared_by_lists(
    service: Service, cache: HybridEnrichmentCache, lot: Iterable[Key], sent: Container[str]
) -> int:
    """How many of the keys would be asked about if no list held them."""
    held = [key.value for key in lot if key.value not in sent and key.scanner_list is not None]
    return len(held) - len(cache.get_many(service.name, held)) if held else 0


def _foresee(plan: ServicePlan, service: Service, pace: QuotaStatus, worth: _Worth) -> None:
    plan.calls = calls_for(service, plan.wanted)
    plan.eta_s = eta_seconds(pace, plan.calls)
    scarce = (window.left for window in pace.windows if window.name != "minute")
    plan.quota_left = min((left for left in scarce if left is not None), default=None)
    calls = [round(share * plan.calls) for share in SHARES_OF_CALLS]
    if plan.quota_left is not None and plan.quota_left < plan.calls:
        calls.append(plan.quota_left)
    plan.coverage = worth.coverage(service.batch_size, calls)
