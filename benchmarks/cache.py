"""Speed of the cache tiers on real servers, beside a plain loop of single lookups.

    python -m benchmarks.cache [--json]

Payloads are 1 KB; each bulk figure is the best of five.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import orjson

from benchmarks.report import Report, at_least, at_most, command_line
from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache, HybridEnrichmentCache, RedisCache
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import utc_now
from tests.servers import PostgresServer, RedisServer

SERVICE = "dshield"
ENTRIES = 20_000
SINGLE = 2_000


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


def measure_redis(report: Report, entries: list[CacheEntry], tier: RedisCache, below: DatabaseCache) -> None:
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
    bulk = per_second(lambda: cache.get_many(SERVICE, keys), len(keys))
    where = "L1 Redis, through the hybrid cache"
    report.add(where, "single_get_p50_ms", round(statistics.median(laps) * 1e3, 3), at_most(0.3))
    report.add(where, "single_get_p99_ms", round(statistics.quantiles(laps, n=100)[98] * 1e3, 3))
    report.add(where, "bulk_get_per_s", bulk, at_least(50_000))
    report.add(where, "bulk_set_per_s", upserts)
    report.add(where, "loop_of_single_gets_per_s", round(len(laps) / sum(laps)))


def measure_database(report: Report, entries: list[CacheEntry], where: str, tier: DatabaseCache) -> None:
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
    bulk = per_second(lambda: tier.get_many(SERVICE, keys), len(keys))
    flush = per_second(tier.flush_hits, len(keys), times=1)
    gets = per_second(lambda: [tier.get(SERVICE, key) for key in keys[:SINGLE]], SINGLE, times=1)
    few = entries[: SINGLE // 10]
    sets = per_second(lambda: deque(map(tier.set, few), maxlen=0), len(few), times=1)
    report.add(where, "bulk_get_per_s", bulk, at_least(30_000))
    report.add(where, "upsert_per_s", upsert, at_least(10_000))
    report.add(where, "insert_per_s", insert)
    report.add(where, "flush_hits_per_s", flush)
    report.add(where, "loop_of_single_gets_per_s", gets)
    report.add(where, "loop_of_single_sets_per_s", sets)


def run() -> Report:
    """Every figure, on servers started for it."""
    report = Report("cache", {"entries": ENTRIES, "payload_bytes": 1024})
    entries = [entry(number) for number in range(ENTRIES)]
    gc.freeze()  # our own 20,000 answers are not the cache's garbage to look through
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        postgres = stack.enter_context(closing(PostgresServer(durable=True)))
        redis_server = stack.enter_context(closing(RedisServer()))
        urls = {"SQLite": f"sqlite:///{Path(folder)}/cache.db", "PostgreSQL": postgres.new_database()}
        for name, url in urls.items():
            database = stack.enter_context(closing(Database(url)))
            upgrade(database)
            tier = DatabaseCache(database)
            measure_database(report, entries, f"L2 {name}", tier)
        redis_tier = stack.enter_context(closing(RedisCache("127.0.0.1", redis_server.port)))
        measure_redis(report, entries, redis_tier, tier)
    return report


if __name__ == "__main__":
    arguments = command_line(__doc__).parse_args()
    raise SystemExit(run().finish(as_json=arguments.json))
