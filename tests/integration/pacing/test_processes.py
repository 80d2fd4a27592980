"""Several processes, one budget, over real HTTP: stops reach all, kills harm nobody, the database may die."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, Policy
from cowrie_enrich_dagster.pacing.gcra import HOLD_S
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.integration.pacing.web import WebServer
from tests.integration.pacing.worker import Job, Workers
from tests.servers import PostgresServer

RATE = 8.0


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started


def most_in_a_second(arrivals: list[float]) -> int:
    return max(sum(begin <= moment < begin + 1 for moment in arrivals) for begin in arrivals)


def test_four_processes_have_one_budget(database: Database, database_url: str, server: WebServer) -> None:
    """Four processes together keep the rate of one, and use nearly all of it.

    A killed one costs no more than the moment for which the next waits for a slot that it may have held.
    """
    job = Job(database_url, f"{server.url}/a", {"rate": RATE}, seconds=2.8)
    with Workers(job) as workers:
        workers.start()
        time.sleep(0.8)
        workers.kill(0)
        results = workers.results()
    span = server.arrivals[-1] - server.arrivals[0]
    assert all(not result["errors"] for result in results)
    assert most_in_a_second(server.arrivals) <= RATE + 1
    assert 0.9 * RATE * (span - HOLD_S) <= len(server.arrivals) <= RATE * span + 1


def test_retry_after_to_one_process_stops_all(
    database: Database, database_url: str, server: WebServer
) -> None:
    """After a Retry-After to one of four processes no request of any of them arrives inside the wait.

    It is sent as an HTTP-date where the database is SQLite, and as seconds where it is PostgreSQL.
    """
    with Workers(Job(database_url, f"{server.url}/a", {"rate": RATE}, seconds=4.5)) as workers:
        workers.start()
        time.sleep(0.7)
        date = int(time.time()) + 2
        until = time.monotonic() + date - time.time()
        header = formatdate(date, usegmt=True) if database.is_sqlite else "2"
        server.script["/a"].append((429, {"Retry-After": header}))
        results = workers.results()
    (limited_at,) = server.limited
    until = until if database.is_sqlite else limited_at + 2
    after = [moment for moment in server.arrivals if moment > limited_at]
    assert after
    assert not [moment for moment in after if moment < until]
    assert sum(result["statuses"].get("429", 0) for result in results) == 1
    status = AdaptiveRateLimiter(database, Policy("service", rate=RATE)).snapshot()
    assert (status.limited_total, status.consecutive_failures) == (1, 0)


def test_the_database_dies_and_comes_back(server: WebServer) -> None:
    """kill -9 of PostgreSQL mid-run: nobody sends without it, nobody fails, all go on after the restart."""
    postgres = PostgresServer()
    try:
        url = postgres.new_database()
        database = Database(url)
        upgrade(database)
        database.close()
        job = Job(url, f"{server.url}/a", {"rate": RATE}, seconds=60.0, max_wait=60.0, requests=12)
        with Workers(job, count=2) as workers:
            workers.start()
            while len(server.arrivals) < 8:
                time.sleep(0.01)
            postgres.kill()
            killed = time.monotonic()
            time.sleep(1.0)
            restarting = time.monotonic()
            postgres.start()
            results = workers.results()
        assert [(result["statuses"], result["errors"]) for result in results] == [({"200": 12}, [])] * 2
        assert not [moment for moment in server.arrivals if killed + 0.1 < moment < restarting]
        assert len(server.arrivals) == 24
        assert most_in_a_second(server.arrivals) <= RATE + 1
    finally:
        postgres.close()
