"""Counters: what they count, and that reports add up."""

from __future__ import annotations

import json
import threading

import pytest

from cowrie_enrich_dagster.cache import CacheMetrics


def test_latency_percentiles_are_per_key_and_within_five_percent() -> None:
    """A bulk call counts as the time of each of its keys."""
    metrics = CacheMetrics()
    metrics.looked_up("redis", "dshield", hits=900, misses=90, seconds=0.990)
    for _ in range(10):
        metrics.looked_up("redis", "dshield", hits=1, misses=0, seconds=0.250)
    row = metrics.as_dict()["totals"]["redis"]
    assert (row["hits"], row["misses"], row["hit_rate"]) == (910, 90, 0.91)
    assert row["p50_ms"] == pytest.approx(1.0, rel=0.05)
    assert row["p99_ms"] == pytest.approx(1.0, rel=0.05)
    metrics.looked_up("redis", "dshield", hits=1, misses=0, seconds=0.250)
    assert metrics.as_dict()["totals"]["redis"]["p99_ms"] == pytest.approx(250, rel=0.05)


def test_nothing_asked_has_no_rates() -> None:
    """No division by zero, and no rate of 0 or 100 % for what never happened."""
    report = CacheMetrics().as_dict()
    assert report["hit_rate"] is None
    assert report["repeat_hit_rate"] is None
    metrics = CacheMetrics()
    metrics.failed("redis", "dshield")
    row = metrics.as_dict()["tiers"]["redis"]["dshield"]
    assert (row["errors"], row["hit_rate"], row["p50_ms"]) == (1, None, None)


def test_repeats_within_a_batch() -> None:
    """A repeat is a key asked before, in an earlier call or in this one; a hit if it cost no call."""
    metrics = CacheMetrics()
    metrics.asked("dshield", ["a", "b", "a"], cached={"b"}, answered={"a", "b"})
    metrics.asked("dshield", ["a", "c"], cached={"a"}, answered={"a"})
    metrics.asked("spur", ["a"], cached=set(), answered=set())
    report = metrics.as_dict()
    assert report["requests"]["dshield"] == {"asked": 5, "cached": 3, "repeats": 2, "repeat_hits": 2}
    assert report["repeat_hit_rate"] == 1.0
    assert report["hit_rate"] == 0.5


def test_reports_of_processes_add_up_and_are_json() -> None:
    """Merging the reports of two halves, sent as JSON, gives the report of the whole."""
    halves, whole = [CacheMetrics(), CacheMetrics()], CacheMetrics()
    for number, half in enumerate(halves):
        for metrics in (half, whole):
            metrics.looked_up("redis", "dshield", hits=5 + number, misses=1, seconds=0.001 * (1 + number))
            metrics.looked_up("database", "spur", hits=0, misses=2, seconds=0.5)
            metrics.stored("database", "spur", 3)
            metrics.dropped("redis", "dshield", 2)
            metrics.asked("dshield", [f"k{number}"], cached=set(), answered={f"k{number}"})
    total = CacheMetrics()
    for half in halves:
        total.merge(json.loads(json.dumps(half.as_dict())))
    assert total.as_dict() == whole.as_dict()


def test_threads_lose_no_counts() -> None:
    """Eight threads of 2,000 lookups are 16,000 lookups."""
    metrics = CacheMetrics()

    def work() -> None:
        for _ in range(2_000):
            metrics.looked_up("redis", "dshield", hits=1, misses=0, seconds=0.0001)
            metrics.asked("dshield", ["k"], cached={"k"}, answered={"k"})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = metrics.as_dict()
    assert report["totals"]["redis"]["hits"] == 16_000
    assert report["requests"]["dshield"]["repeats"] == 15_999
