"""Claims about several processes, proven with several processes: real kills, real limits, one budget."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, text

from cowrie_enrich_dagster.simulator import Fault, FixedWindow, Limit, Simulator, TokenBucket
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from tests import warm
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer, RedisServer

DAY = "2025-11-01"
Start = Callable[..., "Worker"]
# What does not depend on the engine is shown on the one that several machines share.
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


class Worker:
    """One `cowrie-enrich` process."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        env = {**os.environ, **environment}
        self.process = warm.Process(*warm.CLI, *arguments, env=env, stdout=warm.PIPE, stderr=warm.PIPE)

    def report(self, timeout: float = 120) -> dict[str, Any]:
        """Wait for a successful end; the JSON object printed last."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stderr
        report: dict[str, Any] = json.loads(stdout.splitlines()[-1])
        return report

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Starts workers; whatever still runs at the end is killed."""
    workers: list[Worker] = []

    def start_one(*arguments: str, **changes: str) -> Worker:
        workers.append(Worker({**environment, **changes}, *arguments))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.kill()


@pytest.fixture
def few_logs(environment: dict[str, str], tmp_path: Path) -> list[str]:
    """Logs with 40 routable addresses instead of the samples."""
    ips = routable_ips(40)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", ips, sessions_each=3))
    return ips


def wait_for(condition: Callable[[], bool], timeout: float = 300) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def kill_one_that_holds_keys(workers: list[Worker], database: Database) -> Worker:
    """kill -9 of the first that is met with claims, and cannot give them back."""
    query = text("SELECT count(*) FROM lookups WHERE claimed_by LIKE :worker")
    for worker in cycle(workers):
        worker.process.send_signal(signal.SIGSTOP)
        with database.read() as connection:
            held = connection.execute(query, {"worker": f"%:{worker.process.pid}:%"}).scalar_one()
        if held:
            worker.kill()
            return worker
        worker.process.send_signal(signal.SIGCONT)
        assert worker.process.poll() is None, "it ended before it was met with a claim"
    raise AssertionError


def let_claims_run_out(dead: Worker, database: Database) -> None:
    """As if the minute were over for which a key is held that its worker was asking about."""
    statement = text("UPDATE lookups SET claim_expires_at = :now WHERE claimed_by LIKE :worker")
    with database.write() as connection:
        values = {"now": database.now(connection), "worker": f"%:{dead.process.pid}:%"}
        connection.execute(statement.bindparams(bindparam("now", type_=UtcDateTime())), values)


@pytest.mark.parametrize(
    ("rule", "database_url"),
    [(TokenBucket(per_minute=240, burst=1), "sqlite"), (FixedWindow(limit=8, seconds=2), "postgresql")],
    indirect=["database_url"],
    ids=["bucket-sqlite", "window-postgresql"],
)
def test_four_processes_share_one_budget(
    start: Start, simulator: Simulator, few_logs: list[str], rule: TokenBucket | FixedWindow
) -> None:
    """No response is 429, each address is asked once, and every process sees every session enriched."""
    simulator.set_limit("dshield", Limit(rules=(rule,)))
    workers = [start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="4") for _ in range(4)]
    reports = [worker.report() for worker in workers]
    assert simulator.over_limit("dshield") == 0
    assert simulator.calls_per_key("dshield") == dict.fromkeys(few_logs, 1)
    assert sum(report["api_calls"]["dshield"] for report in reports) == len(few_logs)
    assert {report["status"] for report in reports} == {"complete"}
    assert {report["coverage"]["dshield"] for report in reports} == {1.0}


@on_postgresql
def test_a_limit_half_of_the_configured_one_is_learned(
    start: Start, simulator: Simulator, few_logs: list[str]
) -> None:
    """A handful of 429 at most, none of the lookups lost."""
    limit = Limit(rules=(TokenBucket(per_minute=300, burst=1),))
    simulator.set_limit("dshield", limit)
    workers = [start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="10") for _ in range(4)]
    assert {worker.report()["status"] for worker in workers} == {"complete"}
    assert 1 <= simulator.over_limit("dshield") <= 6
    assert set(simulator.calls_per_key("dshield")) == set(few_logs)


@on_postgresql
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_told_to_one_stops_all(
    start: Start, simulator: Simulator, few_logs: list[str], form: str
) -> None:
    """Inside the wait that one process was told of, no process sends anything."""
    told = Fault(
        kind="reply", status=429, body="{}", retry_after_s=3, retry_after=form, times=1, key=few_logs[20]
    )
    simulator.set_fault("dshield", told)
    workers = [start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="20") for _ in range(4)]
    assert {worker.report()["status"] for worker in workers} == {"complete"}
    sent = simulator.requests("dshield")
    stopped = next(record for record in sent if record.status == 429)
    # Those already on their way when the answer came cannot be called back; 0.2 s covers them.
    early = [r for r in sent if stopped.t + 0.2 < r.t < stopped.t + (3 if form == "seconds" else 2)]
    assert early == []
    assert set(simulator.calls_per_key("dshield")) == set(few_logs)


def test_a_ban_of_hours_defers_and_survives_a_restart(
    start: Start, simulator: Simulator, few_logs: list[str]
) -> None:
    """Retry-After of 2 h: nothing sleeps, the run is partial and green, the next one does not ask."""
    simulator.set_fault("dshield", Fault(kind="reply", status=429, body="{}", retry_after_s=7200))
    first = start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="5").report(timeout=30)
    assert first["status"] == "partial"
    assert first["pending"] == len(few_logs)
    assert set(first["lookups"]["dshield"]) <= {"deferred", "rate_limited"}
    sent = len(simulator.requests("dshield"))
    assert sent <= 8
    simulator.set_fault("dshield")
    second = start("run", "--days", DAY, "--json").report(timeout=30)
    assert second["pending"] == len(few_logs)
    assert len(simulator.requests("dshield")) == sent
    assert start("drain", "--json").report(timeout=30)["pending"] == len(few_logs)


@on_postgresql
def test_after_the_ban_a_drain_finishes_everything(
    start: Start, simulator: Simulator, few_logs: list[str], environment: dict[str, str]
) -> None:
    """Once the wait is over `drain` asks what is left and enriches the days it completes."""
    simulator.set_fault("dshield", Fault(kind="reply", status=429, body="{}", retry_after_s=3, times=1))
    first = start("run", "--days", DAY, "--json", ENRICH_MAX_WAIT_SECONDS="1").report(timeout=30)
    assert first["status"] == "partial"
    time.sleep(3.5)
    drained = start("drain", "--json").report(timeout=60)
    assert drained["days"] == [DAY]
    wait_for(lambda: start("drain", "--json").report()["pending"] == 0)
    again = start("run", "--days", DAY, "--json").report()
    assert (again["status"], again["api_calls"]["dshield"]) == ("complete", 0)
    assert again["coverage"]["dshield"] == 1.0


@on_postgresql
def test_a_killed_worker_costs_at_most_its_requests_in_flight(
    start: Start, simulator: Simulator, few_logs: list[str], environment: dict[str, str]
) -> None:
    """kill -9 in the middle of fetching: the others finish its keys, none is lost or asked a third time."""
    workers = [start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="8") for _ in range(3)]
    wait_for(lambda: len(simulator.requests("dshield")) >= 12)
    with closing(Database(environment["DATABASE_URL"])) as database:
        killed = kill_one_that_holds_keys(workers, database)
        let_claims_run_out(killed, database)
    assert {worker.report()["status"] for worker in workers if worker is not killed} == {"complete"}
    calls = simulator.calls_per_key("dshield")
    assert set(calls) == set(few_logs)
    assert max(calls.values()) <= 2
    assert sum(calls.values()) <= len(few_logs) + 8


def test_eight_processes_asking_the_same_keys_make_one_call_each(
    start: Start, simulator: Simulator, environment: dict[str, str], tmp_path: Path
) -> None:
    """Single-flight across processes: exactly as many calls as there are addresses."""
    ips = routable_ips(120)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "many", ips))
    workers = [start("run", "--days", DAY, "--json") for _ in range(8)]
    reports = [worker.report() for worker in workers]
    assert {report["lookups"]["dshield"].get("deferred", 0) for report in reports} == {0}
    assert simulator.calls_per_key("dshield") == dict.fromkeys(ips, 1)


@on_postgresql
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_redis_dying_or_hanging_in_the_middle_changes_nothing(
    start: Start, simulator: Simulator, few_logs: list[str], fault: str
) -> None:
    """The run completes with the same rows; Redis is only missed."""
    redis = RedisServer()
    try:
        worker = start(
            "run", "--days", DAY, "--json",
            DSHIELD_RATE_LIMIT="10", ENABLE_REDIS_CACHE="true", REDIS_PORT=str(redis.port),
        )  # fmt: skip
        wait_for(lambda: len(simulator.requests("dshield")) >= 10)
        getattr(redis, fault)()
        report = worker.report()
        assert (report["status"], report["coverage"]["dshield"]) == ("complete", 1.0)
        assert simulator.calls_per_key("dshield") == dict.fromkeys(few_logs, 1)
        assert report["cache"]["totals"]["redis"]["errors"] >= 1
    finally:
        redis.close()


def test_a_killed_database_is_waited_for(simulator: Simulator, tmp_path: Path, sample_logs: Path) -> None:
    """kill -9 of PostgreSQL in the middle of fetching: once it is back the run goes on, nothing is lost."""
    ips = routable_ips(30)
    server = PostgresServer()
    worker = None
    try:
        url = server.new_database()
        database = Database(url)
        upgrade(database)
        database.close()
        worker = Worker(
            {
                "COWRIE_ENRICH_HOME": str(tmp_path),
                "COWRIE_LOG_DIR": str(write_logs(tmp_path / "logs", ips)),
                "DATABASE_URL": url,
                "DSHIELD_API_URL": simulator.url("dshield"),
                "DSHIELD_EMAIL": "tests@example.org",
                "DSHIELD_RATE_LIMIT": "10",
                "ENABLE_REDIS_CACHE": "false",
                "ENRICH_SERVICES": "dshield",
            },
            "run", "--days", DAY, "--json",
        )  # fmt: skip
        wait_for(lambda: len(simulator.requests("dshield")) >= 10)
        server.kill()
        time.sleep(1)
        server.start()
        report = worker.report()
        assert (report["status"], report["coverage"]["dshield"]) == ("complete", 1.0)
        assert set(simulator.calls_per_key("dshield")) == set(ips)
        assert max(simulator.calls_per_key("dshield").values()) <= 2
    finally:
        if worker:
            worker.kill()
        server.close()


@on_postgresql
def test_an_interrupted_run_leaves_no_claims(
    start: Start, simulator: Simulator, few_logs: list[str], environment: dict[str, str]
) -> None:
    """SIGTERM (a stopped container) wakes a worker that waits for a limit; its keys are free at once."""
    told = Fault(kind="reply", status=429, body="{}", retry_after_s=100, times=1, key=sorted(few_logs)[20])
    simulator.set_fault("dshield", told)
    worker = start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="10")
    wait_for(lambda: any(record.status == 429 for record in simulator.requests("dshield")))
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=10) == 1
    answered = sum(record.status == 200 for record in simulator.requests("dshield"))
    left = start("run", "--days", DAY, "--json", ENRICH_MAX_WAIT_SECONDS="1").report(timeout=15)
    assert left["status"] == "partial"
    counts = left["lookups"]["dshield"]
    stored = counts.get("found", 0) + counts.get("not_found", 0)
    assert stored >= max(1, answered - 2)  # what was under way when the signal came may be cut off
    assert left["pending"] == len(few_logs) - stored
