"""Counters of the cache by tier and service; their reports are JSON, and add up across processes."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Mapping
from typing import Any

_COUNTS = ("hits", "misses", "stores", "errors", "dropped")
_REQUESTS = ("asked", "cached", "repeats", "repeat_hits")
_SMALLEST_S = 1e-6
_GROWTH = math.log(1.1)  # buckets 10 % wide: a percentile is off by 5 % at most
_BUCKETS = 200  # up to 190 s
_MAX_SEEN = 1_000_000


class CacheMetrics:
    """What one run or batch did to the cache. Thread-safe; its size does not grow with the requests.

    Per tier and service: `hits` (an entry that could be served), `misses`, `stores`, `errors` (faults of the
    tier), `dropped` (entries that could not be read, or were refused), and latency per key: the time of a
    bulk call that succeeded divided by its keys. Per service: keys `asked`, those answered from a `cached`
    tier, `repeats` (keys asked before in this batch) and `repeat_hits` (repeats that cost no call to it).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._latency: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self._requests: dict[str, Counter[str]] = defaultdict(Counter)
        self._seen: set[int] = set()

    def looked_up(self, tier: str, service: str, *, hits: int, misses: int, seconds: float) -> None:
        """Record one lookup of `hits + misses` keys that succeeded, and took `seconds` in all."""
        keys = hits + misses
        if not keys:
            return
        bucket = int(math.log(max(seconds / keys, _SMALLEST_S) / _SMALLEST_S) / _GROWTH)
        with self._lock:
            counts = self._counts[tier, service]
            counts["hits"] += hits
            counts["misses"] += misses
            self._latency[tier, service][min(bucket, _BUCKETS)] += keys

    def stored(self, tier: str, service: str, entries: int = 1) -> None:
        """Record entries taken by a tier."""
        self._add(tier, service, "stores", entries)

    def failed(self, tier: str, service: str) -> None:
        """Record a fault of a tier."""
        self._add(tier, service, "errors", 1)

    def dropped(self, tier: str, service: str, entries: int = 1) -> None:
        """Record entries that a tier could not read or would not take."""
        self._add(tier, service, "dropped", entries)

    def _add(self, tier: str, service: str, count: str, number: int) -> None:
        with self._lock:
            self._counts[tier, service][count] += number

    def asked(
        self, service: str, keys: Collection[str], *, cached: Container[str], answered: Container[str]
    ) -> None:
        """Record a request for `keys` (repeats included), which of them a tier had, which had an answer."""
        hits = repeats = repeat_hits = 0
        with self._lock:
            seen = self._seen
            for key in keys:
                identity = hash((service, key))
                if identity in seen:
                    repeats += 1
                    if key in answered:
                        repeat_hits += 1
                else:
                    hits += key in cached
                    if len(seen) < _MAX_SEEN:
                        seen.add(identity)
            counts = self._requests[service]
            counts["asked"] += len(keys)
            counts["cached"] += hits + repeat_hits
            counts["repeats"] += repeats
            counts["repeat_hits"] += repeat_hits

    def merge(self, report: Mapping[str, Any]) -> None:
        """Add the counts of another process's `as_dict()`."""
        with self._lock:
            for tier, services in report["tiers"].items():
                for service, row in services.items():
                    self._counts[tier, service].update({name: row[name] for name in _COUNTS})
                    self._latency[tier, service].update({int(b): n for b, n in row["latency"].items()})
            for service, row in report["requests"].items():
                self._requests[service].update({name: row[name] for name in _REQUESTS})

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON: `tiers` by tier and service, `totals` by tier, `requests` by service, rates.

        Rates are between 0 and 1, or None where there is nothing to divide by; latencies are milliseconds.
        """
        with self._lock:
            tiers: dict[str, dict[str, Any]] = defaultdict(dict)
            totals: dict[str, Counter[str]] = defaultdict(Counter)
            latencies: dict[str, Counter[int]] = defaultdict(Counter)
            for tier, service in sorted(self._counts):
                counts, latency = self._counts[tier, service], self._latency[tier, service]
                tiers[tier][service] = {
                    **_tier_row(counts, latency),
                    "latency": {str(bucket): number for bucket, number in sorted(latency.items())},
                }
                totals[tier].update(counts)
                latencies[tier].update(latency)
            requests = {
                service: {name: counts[name] for name in _REQUESTS}
                for service, counts in sorted(self._requests.items())
            }
        overall: Counter[str] = Counter()
        for row in requests.values():
            overall.update(row)
        return {
            "tiers": dict(tiers),
            "totals": {tier: _tier_row(totals[tier], latencies[tier]) for tier in totals},
            "requests": requests,
            "hit_rate": _rate(overall["cached"], overall["asked"]),
            "repeat_hit_rate": _rate(overall["repeat_hits"], overall["repeats"]),
        }


def _tier_row(counts: Counter[str], latency: Counter[int]) -> dict[str, Any]:
    return {
        **{name: counts[name] for name in _COUNTS},
        "hit_rate": _rate(counts["hits"], counts["hits"] + counts["misses"]),
        "p50_ms": _percentile_ms(latency, 0.50),
        "p99_ms": _percentile_ms(latency, 0.99),
    }


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _percentile_ms(latency: Counter[int], fraction: float) -> float | None:
    """The middle of the bucket that holds the percentile, in milliseconds."""
    rank = fraction * latency.total()
    passed = 0
    for bucket, number in sorted(latency.items()):
        passed += number
        if passed >= rank:
            return round(1000 * _SMALLEST_S * math.exp((bucket + 0.5) * _GROWTH), 4)
    return None
