"""Speed of the cache tiers on real servers, beside a plain loop of single lookups.

`python -m benchmarks.cache` prints a table; with `--json` the table goes to stderr and one JSON object to
stdout. Payloads are 1 KB; each bulk figure is the best of five.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache, HybridEnrichmentCache, RedisCache
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import utc_now
from tests.servers import PostgresServer, RedisServer

SERVICE = "dshield"
ENTRIES = 20_000
SINGLE = 2_000
REACH = {
    "l1_single_get_p50_ms": 0.3,
    "l1_bulk_get_per_s": 50_000,
    "l2_postgresql_bulk_get_per_s": 30_000,
    "l2_postgresql_upsert_per_s": 10_000,
    "l2_sqlite_bulk_get_per_s": 30_000,
    "l2_sqlite_upsert_per_s": 10_000,
}
"""What the design asks for: at most this many milliseconds, at least this many per second."""


def entry(number: int) -> CacheEntry:
    """A DShield answer of 1 KB."""
    ip = f"{number % 200 + 1}.{number // 200 % 250}.{number // 50_000}.7"
    feeds = {f"feed{n}": {"firstseen": "2025-10-01", "lastseen": "2025-11-01"} for n in range(9)}
    payload = {
        "ip": {
            "number": ip,
            "count": number,
            "attacks": 12,
            "as": 64_500,
            "threatfeeds": feeds,
            "comment": "",
        }
    }
    payload["ip"]["comment"] = "x" * (1024 - len(orjson.dumps(payload)))
    return CacheEntry.of_answer(SERVICE, ip, payload, fetched_at=utc_now(), ttl=timedelta(days=7))


def per_second(work: Callable[[], object], number: int, *, times: int = 5) -> int:
    """The best of some runs, in things per second."""
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return round(number / best)


def measure_redis(entries: list[CacheEntry], tier: RedisCache, below: DatabaseCache) -> dict[str, Any]:
    """L1 hits through the whole cache, as a run makes them."""
    cache = HybridEnrichmentCache(tier, below)
    keys = [item.key for item in entries]
    upserts = per_second(lambda: tier.set_many(entries), len(entries))
    laps = []
    for key in keys[:SINGLE]:
        started = time.perf_counter()
        hit = cache.get(SERVICE, key)
        laps.append(time.perf_counter() - started)
        assert hit is not None
        assert hit.tier == "redis"
    assert len(cache.get_many(SERVICE, keys)) == len(keys)
    return {
        "l1_single_get_p50_ms": round(statistics.median(laps) * 1e3, 3),
        "l1_single_get_p99_ms": round(statistics.quantiles(laps, n=100)[98] * 1e3, 3),
        "l1_loop_of_single_gets_per_s": round(len(laps) / sum(laps)),
        "l1_bulk_get_per_s": per_second(lambda: cache.get_many(SERVICE, keys), len(keys)),
        "l1_bulk_set_per_s": upserts,
    }


def measure_database(entries: list[CacheEntry], name: str, tier: DatabaseCache) -> dict[str, Any]:
    """L2 lookups and upserts; the upserts replace every row by a newer answer."""
    keys = [item.key for item in entries]
    insert = per_second(lambda: tier.set_many(entries), len(entries), times=1)
    generations = [
        [
            CacheEntry(
                e.service, e.key, e.status, e.payload, e.fetched_at + timedelta(seconds=n), e.expires_at
            )
            for e in entries
        ]
        for n in range(1, 6)
    ]
    upsert = per_second(lambda: tier.set_many(generations.pop(0)), len(entries))
    assert len(tier.get_many(SERVICE, keys)) == len(keys)
    return {
        f"l2_{name}_bulk_get_per_s": per_second(lambda: tier.get_many(SERVICE, keys), len(keys)),
        f"l2_{name}_upsert_per_s": upsert,
        f"l2_{name}_insert_per_s": insert,
        f"l2_{name}_flush_hits_per_s": per_second(tier.flush_hits, len(keys), times=1),
        f"l2_{name}_loop_of_single_gets_per_s": per_second(
            lambda: [tier.get(SERVICE, key) for key in keys[:SINGLE]], SINGLE, times=1
        ),
        f"l2_{name}_loop_of_single_sets_per_s": per_second(
            lambda: [tier.set(item) for item in entries[: SINGLE // 10]], SINGLE // 10, times=1
        ),
    }


def run() -> dict[str, Any]:
    """Every figure, on servers started for it."""
    entries = [entry(number) for number in range(ENTRIES)]
    gc.freeze()  # our own 20,000 answers are not the cache's garbage to look through
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        postgres = stack.enter_context(closing(PostgresServer()))
        redis_server = stack.enter_context(closing(RedisServer()))
        urls = {"postgresql": postgres.new_database(), "sqlite": f"sqlite:///{Path(folder)}/cache.db"}
        for name, url in urls.items():
            database = stack.enter_context(closing(Database(url)))
            upgrade(database)
            tier = DatabaseCache(database)
            figures |= measure_database(entries, name, tier)
        redis_tier = stack.enter_context(closing(RedisCache("127.0.0.1", redis_server.port)))
        return measure_redis(entries, redis_tier, tier) | figures


def main() -> int:
    """Measure and print; exit code 1 when a figure does not reach what the design asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    arguments = parser.parse_args()
    figures = run()
    missed = [
        name
        for name, reach in REACH.items()
        if (figures[name] > reach if name.endswith("_ms") else figures[name] < reach)
    ]
    table = sys.stderr if arguments.json else sys.stdout
    for name, value in figures.items():
        reach = f"{REACH[name]:,}" if name in REACH else ""
        print(f"{name:<40} {value:>12,}   {reach:>10} {'MISSED' if name in missed else ''}", file=table)
    if arguments.json:
        report = {
            "entries": ENTRIES,
            "payload_bytes": 1024,
            "figures": figures,
            "reach": REACH,
            "missed": missed,
        }
        print(json.dumps(report))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
