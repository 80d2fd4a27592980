"""The tiers together: what is asked where, what is copied where, and how old it stays."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import redis

from cowrie_enrich_dagster.cache import (
    CacheEntry,
    DatabaseCache,
    FilesystemCache,
    HybridEnrichmentCache,
    RedisCache,
)
from cowrie_enrich_dagster.cache.redis_tier import KEY_PREFIX
from tests.integration.cache.conftest import SERVICE, TTLS, WEEK, Now, answer

IPS = [f"198.51.100.{n}" for n in range(10)]
SESSIONS = [IPS[n % 10] for n in range(100)]


class Api:
    """A service that counts who asks it about what."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.calls: list[list[str]] = []
        self.silent_about: set[str] = set()
        self.error: Exception | None = None
        self.takes_s = 0.0

    def __call__(self, service: str, keys: Sequence[str]) -> Mapping[str, CacheEntry]:
        self.calls.append(list(keys))
        time.sleep(self.takes_s)
        if self.error:
            raise self.error
        return {key: answer(key, self.now()) for key in keys if key not in self.silent_about}

    @property
    def asked(self) -> Counter[str]:
        return Counter(key for keys in self.calls for key in keys)


@pytest.fixture
def api(now: Now) -> Api:
    return Api(now)


@pytest.fixture
def files(tmp_path: Path, now: Now) -> FilesystemCache:
    return FilesystemCache(tmp_path / "files", TTLS, clock=now)


@pytest.fixture
def l1(redis_port: int, now: Now) -> Iterator[RedisCache]:
    tier = RedisCache("127.0.0.1", redis_port, clock=now)
    yield tier
    tier.close()


@pytest.fixture
def cache(
    l1: RedisCache, database_cache: DatabaseCache, files: FilesystemCache, api: Api, now: Now
) -> HybridEnrichmentCache:
    """All three tiers, the database on each engine in turn."""
    return HybridEnrichmentCache(l1, database_cache, files, fetch=api, clock=now)


def hits_of(cache: HybridEnrichmentCache, tier: str) -> int:
    return int(cache.metrics.as_dict()["totals"].get(tier, {}).get("hits", 0))


def test_a_hundred_sessions_of_ten_addresses_one_by_one(
    cache: HybridEnrichmentCache, api: Api, redis_port: int
) -> None:
    """The ADR's case: 10 calls, 90 hits in Redis, every repeat a hit, and a hit one command to Redis.

    How long that takes (the ADR's millisecond) is measured where nothing else runs: `benchmarks.cache`.
    """
    began = time.monotonic()
    for ip in IPS:
        cache.get_or_fetch(SERVICE, ip)
    with redis.Redis(port=redis_port) as client:
        client.config_resetstat()
        for ip in SESSIONS[10:]:
            hit = cache.get_or_fetch(SERVICE, ip)
            assert hit is not None
            assert hit.entry.key == ip
        sent = {name: command["calls"] for name, command in client.info("commandstats").items()}
    took_ms = 1000 * (time.monotonic() - began)
    ours = {name: calls for name, calls in sent.items() if "config" not in name}
    assert ours == {"cmdstat_mget": 90}
    assert api.asked == Counter(IPS)
    assert hits_of(cache, "redis") == 90
    assert (hits_of(cache, "database"), hits_of(cache, "filesystem"), hits_of(cache, "api")) == (0, 0, 10)
    report = cache.metrics.as_dict()
    assert report["hit_rate"] == 0.9
    assert report["repeat_hit_rate"] == 1.0
    assert 0 < report["totals"]["redis"]["p50_ms"] < took_ms


def test_the_same_sessions_in_bulk_give_the_same_answers(
    cache: HybridEnrichmentCache, sqlite_cache: DatabaseCache, api: Api, now: Now
) -> None:
    """One call for the ten addresses, and for each of them what the single lookups give."""
    bulk = cache.get_or_fetch_many(SERVICE, SESSIONS)
    assert api.calls == [IPS]
    other = Api(now)
    single = HybridEnrichmentCache(None, sqlite_cache, fetch=other, clock=now)
    assert bulk == {ip: single.get_or_fetch(SERVICE, ip) for ip in IPS}
    assert list(bulk) == IPS
    assert cache.metrics.as_dict()["requests"][SERVICE] == {
        "asked": 100, "cached": 90, "repeats": 90, "repeat_hits": 90,
    }  # fmt: skip


def test_an_answer_found_below_is_copied_up_with_its_age(
    cache: HybridEnrichmentCache, files: FilesystemCache, l1: RedisCache, now: Now, redis_port: int
) -> None:
    """6.9 days old in the file: promoted to every tier, expired in every tier 0.1 day later."""
    entry = answer("198.51.100.7", now() - timedelta(days=6.9))
    files.set_many([entry])
    hit = cache.get(SERVICE, entry.key)
    assert hit is not None
    assert (hit.tier, hit.stale, hit.entry) == ("filesystem", False, entry)
    now.forward(hours=2)
    for tier in (l1, cache.database, files):
        assert tier.get_many(SERVICE, [entry.key]) == {entry.key: entry}, tier.name
    hit = cache.get(SERVICE, entry.key)
    assert hit is not None
    assert hit.tier == "redis"
    now.forward(minutes=23, seconds=59)
    l1.delete()
    hit = cache.get(SERVICE, entry.key)  # copied to Redis again, a second before its end
    assert hit is not None
    assert hit.tier == "database"
    with redis.Redis(port=redis_port) as client:
        assert 0 < client.pttl(f"{KEY_PREFIX}:{SERVICE}:{entry.key}") <= 1_000
    now.forward(seconds=1)
    assert cache.get(SERVICE, entry.key) is None
    for tier in (l1, cache.database, files):
        held = tier.get_many(SERVICE, [entry.key]).get(entry.key)
        assert held is None or not held.is_fresh(now()), tier.name


def test_each_tier_is_asked_only_for_what_the_ones_above_lack(
    cache: HybridEnrichmentCache, l1: RedisCache, files: FilesystemCache, api: Api, now: Now
) -> None:
    """One lookup of keys in four places tells where each was found."""
    l1.set_many([answer("a", now())])
    cache.database.set_many([answer("b", now())])
    files.set_many([answer("c", now())])
    hits = cache.get_or_fetch_many(SERVICE, ["d", "c", "b", "a"])
    assert {key: hit.tier for key, hit in hits.items()} == {
        "d": "api", "c": "filesystem", "b": "database", "a": "redis",
    }  # fmt: skip
    totals = cache.metrics.as_dict()["totals"]
    assert {tier: (row["hits"], row["misses"]) for tier, row in totals.items()} == {
        "redis": (1, 3), "database": (1, 2), "filesystem": (1, 1), "api": (1, 0),
    }  # fmt: skip
    assert {hit.tier for hit in cache.get_many(SERVICE, ["a", "b", "c", "d"]).values()} == {"redis"}
    assert cache.database.get_many(SERVICE, ["a", "b", "c", "d"]).keys() == {"b", "c", "d"}
    assert files.get_many(SERVICE, ["a", "b", "c", "d"]).keys() == {"c"}
    assert api.calls == [["d"]]


def test_negative_answers_are_kept_and_copied_too(cache: HybridEnrichmentCache, now: Now, api: Api) -> None:
    """An address that the service does not know is not asked about again while that holds."""
    entry = CacheEntry.of_answer(SERVICE, "k", None, fetched_at=now(), ttl=timedelta(hours=12))
    cache.database.set(entry)
    assert [cache.get_or_fetch(SERVICE, "k").tier for _ in range(2)] == ["database", "redis"]  # type: ignore[union-attr]
    now.forward(hours=12)
    assert cache.get_or_fetch(SERVICE, "k").tier == "api"  # type: ignore[union-attr]
    assert api.calls == [["k"]]


def test_what_the_service_did_not_answer_is_not_kept(cache: HybridEnrichmentCache, api: Api) -> None:
    """A key that was limited or failed is absent, and asked again the next time."""
    api.silent_about = {"b"}
    assert cache.get_or_fetch_many(SERVICE, ["a", "b"]).keys() == {"a"}
    assert cache.get_many(SERVICE, ["a", "b"]).keys() == {"a"}
    api.silent_about = set()
    assert cache.get_or_fetch_many(SERVICE, ["a", "b"]).keys() == {"a", "b"}
    assert api.asked == Counter({"a": 1, "b": 2})


def test_an_expired_answer_serves_when_the_service_does_not(
    cache: HybridEnrichmentCache, api: Api, now: Now
) -> None:
    """Stale-if-error: only when allowed, marked as stale, never copied up, and the latest there is."""
    cache.database.set(answer("k", now() - timedelta(days=9), {"v": "database"}))
    cache.filesystem.set_many([answer("k", now() - timedelta(days=8), {"v": "file"})])  # type: ignore[union-attr]
    api.silent_about = {"k"}
    assert cache.get(SERVICE, "k") is None
    assert cache.get_or_fetch(SERVICE, "k") is None
    for ask in (cache.get, cache.get_or_fetch):
        hit = ask(SERVICE, "k", allow_stale=True)
        assert hit is not None
        assert (hit.tier, hit.stale, hit.entry.payload) == ("filesystem", True, {"v": "file"})
    assert hits_of(cache, "redis") == hits_of(cache, "database") == hits_of(cache, "filesystem") == 0
    api.silent_about = set()
    hit = cache.get_or_fetch(SERVICE, "k", allow_stale=True)
    assert hit is not None
    assert (hit.tier, hit.stale) == ("api", False)


def test_setting_reaches_redis_and_the_database_but_not_the_files(
    cache: HybridEnrichmentCache, l1: RedisCache, files: FilesystemCache, now: Now
) -> None:
    """The file tier is deprecated: it is read, and no longer fed."""
    cache.set(answer("k", now()))
    assert l1.get_many(SERVICE, ["k"])
    assert cache.database.get(SERVICE, "k")
    assert files.get_many(SERVICE, ["k"]) == {}
    l1.delete()
    cache.remember([answer("other", now())])
    assert l1.get_many(SERVICE, ["other"])
    assert cache.database.get(SERVICE, "other") is None


def test_purging_reaches_every_tier(
    cache: HybridEnrichmentCache, files: FilesystemCache, api: Api, now: Now
) -> None:
    """What was purged is asked for again, wherever it lay."""
    files.set_many(answer(ip, now()) for ip in IPS)
    cache.get_many(SERVICE, IPS[:5])
    assert cache.purge(SERVICE, IPS[:1]) == {"filesystem": 1, "database": 1, "redis": 1}
    assert cache.purge(SERVICE) == {"filesystem": 9, "database": 4, "redis": 4}
    assert cache.get_many(SERVICE, IPS) == {}
    cache.get_or_fetch_many(SERVICE, IPS)
    assert cache.purge() == {"filesystem": 0, "database": 10, "redis": 10}
    with pytest.raises(ValueError, match="service"):
        cache.purge(None, ["k"])
    assert api.calls == [IPS]


def test_threads_that_want_the_same_keys_ask_once(cache: HybridEnrichmentCache, api: Api) -> None:
    """Twelve threads, single and bulk: each key is asked once, and everybody gets every answer."""
    api.takes_s = 0.05
    results: list[object] = []

    def one_by_one() -> None:
        results.append({ip: cache.get_or_fetch(SERVICE, ip).entry for ip in IPS})  # type: ignore[union-attr]

    def in_bulk() -> None:
        hits = cache.get_or_fetch_many(SERVICE, list(reversed(IPS)))
        results.append({ip: hits[ip].entry for ip in IPS})

    threads = [threading.Thread(target=work) for work in (one_by_one, in_bulk) * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.asked == Counter(IPS)
    assert len(results) == 12
    assert all(result == results[0] for result in results)


def test_an_answer_that_comes_in_just_before_is_not_asked_for_again(
    sqlite_cache: DatabaseCache, api: Api, now: Now
) -> None:
    """Another thread asks and stores while this one has looked but not yet asked: still one call."""
    others: list[threading.Thread] = []

    def clock_with_an_interruption() -> datetime:
        if not others:  # the first lookup has just found nothing
            others.append(threading.Thread(target=cache.get_or_fetch, args=(SERVICE, "k")))
            others[0].start()
            others[0].join()
        return now()

    cache = HybridEnrichmentCache(None, sqlite_cache, fetch=api, clock=clock_with_an_interruption)
    hit = cache.get_or_fetch(SERVICE, "k")
    assert hit is not None
    assert api.calls == [["k"]]


def test_a_failing_fetch_reaches_everybody_who_waits_and_is_then_forgotten(
    cache: HybridEnrichmentCache, api: Api
) -> None:
    """No thread hangs; the next lookup asks again."""
    api.error, api.takes_s = ConnectionError("the service is down"), 0.1
    caught: list[str] = []

    def ask() -> None:
        try:
            cache.get_or_fetch(SERVICE, "k")
        except ConnectionError as problem:
            caught.append(str(problem))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caught == ["the service is down"] * 4
    assert len(api.calls) < 4
    api.error = None
    assert cache.get_or_fetch(SERVICE, "k") is not None


def test_without_a_fetch_function_only_the_tiers_are_asked(sqlite_cache: DatabaseCache, now: Now) -> None:
    """The smallest cache there is: a database alone."""
    cache = HybridEnrichmentCache(None, sqlite_cache, clock=now)
    assert cache.get_or_fetch(SERVICE, "k") is None
    cache.set(answer("k", now()))
    hit = cache.get_or_fetch(SERVICE, "k")
    assert hit is not None
    assert hit.tier == "database"
    assert cache.purge() == {"database": 1}


def test_keys_no_tier_can_hold_are_never_sent_out(cache: HybridEnrichmentCache, api: Api) -> None:
    """They have no answer, and the service is not asked about them."""
    assert cache.get_or_fetch_many(SERVICE, ["", "a\x00b", "\ud800", "k" * 2_000, "ok"]).keys() == {"ok"}
    assert api.calls == [["ok"]]


def test_a_redis_that_is_left_alone_counts_nothing(sqlite_cache: DatabaseCache, now: Now) -> None:
    """Hit rates and latency of a tier are those of real lookups, not of the cooldown."""
    with_dead_redis = HybridEnrichmentCache(RedisCache("127.0.0.1", 1, clock=now), sqlite_cache, clock=now)
    for _ in range(50):
        assert with_dead_redis.get(SERVICE, "k") is None
    row = with_dead_redis.metrics.as_dict()["totals"]["redis"]
    assert (row["hits"], row["misses"], row["errors"]) == (0, 0, 1)


def test_two_containers_share_what_one_of_them_asked(
    l1: RedisCache, database_cache: DatabaseCache, now: Now, redis_port: int, tmp_path: Path
) -> None:
    """The second one, with files of its own, makes no call at all."""
    first, second = Api(now), Api(now)
    own_redis = RedisCache("127.0.0.1", redis_port, clock=now)
    for name, tier, api in (("first", l1, first), ("second", own_redis, second)):
        own_files = FilesystemCache(tmp_path / name, TTLS, clock=now)
        container = HybridEnrichmentCache(tier, database_cache, own_files, fetch=api, clock=now)
        assert len(container.get_or_fetch_many(SERVICE, IPS)) == 10
    assert (len(first.calls), second.calls) == (1, [])
    own_redis.close()


def test_answers_live_as_long_as_their_ttl_says(cache: HybridEnrichmentCache, now: Now, api: Api) -> None:
    """Asked daily for three weeks, a service with a TTL of seven days is asked three times."""
    for _ in range(21):
        assert cache.get_or_fetch(SERVICE, "k") is not None
        now.forward(days=1)
    assert len(api.calls) == 21 // WEEK.days
