"""Many processes on one database, and a database that restarts under them: nobody fails."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta, timezone
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests import warm
from tests.servers import PostgresServer

SERVICE = "dshield"
PROCESSES, ROUNDS = 8, 4
KEYS = [f"198.51.{n // 250}.{n % 250}" for n in range(300)]
START = datetime(2025, 11, 3, 12, tzinfo=timezone.utc)


def entry(key: str, generation: int) -> CacheEntry:
    moment = START + timedelta(seconds=generation)
    return CacheEntry.of_answer(
        SERVICE, key, {"generation": generation}, fetched_at=moment, ttl=timedelta(days=7)
    )


def work(url: str, number: int, ready: Barrier, outcome: Queue[str]) -> None:
    """Write every key in a random order, read, count hits and clean up, all at once with the others."""
    try:
        chance = random.Random(number)
        cache = DatabaseCache(Database(url, clock=lambda: START + timedelta(hours=1)))
        ready.wait(30)
        for turn in range(ROUNDS):
            generation = turn * PROCESSES + number
            entries = [entry(key, generation) for key in KEYS]
            expired = CacheEntry.of_answer(
                SERVICE, f"gone{generation}", None, fetched_at=START, ttl=timedelta(seconds=1)
            )
            chance.shuffle(entries)
            cache.set_many([*entries, expired])
            found = cache.get_many(SERVICE, KEYS)
            assert len(found) == len(KEYS), len(found)
            behind = [e for e in found.values() if (e.payload or {})["generation"] < generation]
            assert not behind, f"{len(behind)} older than what this process has just written"
            cache.flush_hits()
            cache.cleanup_expired()
            cache.delete(SERVICE, [f"gone{generation}", "never-there"])
        outcome.put("")
    except BaseException as problem:  # noqa: BLE001 (reported to the parent, which fails)
        outcome.put(f"process {number}: {problem!r}")


def test_eight_processes_write_the_same_keys_at_once(database_url: str) -> None:
    """No error, no deadlock, no lost hit; the answer fetched last is the one that stays."""
    database = Database(database_url)
    context = warm.context()
    ready, outcome = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=work, args=(database_url, number, ready, outcome))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    problems = [outcome.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert [problem for problem in problems if problem] == []
    cache = DatabaseCache(database)
    last = PROCESSES * ROUNDS - 1
    assert cache.get_many(SERVICE, KEYS) == {key: entry(key, last) for key in KEYS}
    with database.read() as connection:
        hits = connection.exec_driver_sql(
            "SELECT count(*), min(hit_count), max(hit_count) FROM enrichment_cache"
        )
        assert tuple(hits.one()) == (len(KEYS), PROCESSES * ROUNDS, PROCESSES * ROUNDS)
    database.close()


def test_a_restart_of_the_database_is_waited_out() -> None:
    """Killed between two lookups and back half a second later: the second one answers, late."""
    server = PostgresServer()
    try:
        database = Database(server.new_database(), clock=lambda: START)
        upgrade(database)
        cache = DatabaseCache(database)
        cache.set_many(entry(key, 0) for key in KEYS)
        server.kill()
        restart = threading.Timer(0.5, server.start)
        restart.start()
        assert len(cache.get_many(SERVICE, KEYS)) == len(KEYS)
        restart.join()
        assert cache.set_many([entry(KEYS[0], 1)]) == 1
        database.close()
    finally:
        server.close()
