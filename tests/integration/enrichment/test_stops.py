"""Stops, frozen workers and servers that dawdle: the whole worker process, as an operator has it."""

from __future__ import annotations

import signal
import threading

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment.asking import all_at_once
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.engine import Database
from tests.integration.enrichment.test_processes import (
    DAY,
    Start,
    few_logs,
    on_postgresql,
    start,
    wait_for,
)
from tests.integration.pacing.test_deadline import DAWDLERS, server

__all__ = ["few_logs", "start"]
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
STUCK = [
    "drips headers",
    "drips a body",
    "drips a chunk's line",
    "says 100 Continue for ever",
    "is silent",
]


@on_sqlite
@pytest.mark.parametrize("what", STUCK)
def test_sigterm_ends_a_run_whatever_its_server_does(
    start: Start, few_logs: list[str], what: str, environment: dict[str, str]
) -> None:
    """Exit 1 in seconds, and no claim is left."""
    with server(DAWDLERS[what], 0.2) as where:
        environment["DSHIELD_API_URL"] = f"http://{where}"
        worker = start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="10")
        database = Database(environment["DATABASE_URL"])
        wait_for(lambda: requests_of(database) > 0)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=30) == 1
        with database.read() as connection:
            held = connection.execute(text("SELECT count(*) FROM lookups WHERE claimed_by IS NOT NULL"))
            assert held.scalar_one() == 0
        database.close()


def requests_of(database: Database) -> int:
    query = text("SELECT coalesce(sum(requests_total), 0) FROM service_limits")
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


@on_postgresql
def test_what_is_on_its_way_comes_home(start: Start, simulator: Simulator, few_logs: list[str]) -> None:
    """A stop waits for answers that come within a moment: they are paid for, and nothing is asked twice."""
    simulator.set_fault("dshield", Fault(kind="slow", delay_s=0.5))
    worker = start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="10")
    wait_for(lambda: len(simulator.requests("dshield")) > 10)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 1
    simulator.set_fault("dshield")
    report = start("run", "--days", DAY, "--json", DSHIELD_RATE_LIMIT="50").report()
    assert report["status"] == "complete"
    assert simulator.calls_per_key("dshield") == dict.fromkeys(few_logs, 1)


def test_a_service_that_fails_stops_the_others_at_once() -> None:
    """Whichever of them it is: nobody waits for the others' budgets to hear of it."""
    stopped = threading.Event()

    class Asking:
        def drain(self, goal: object) -> None:
            assert stopped.wait(60)

        def stop(self) -> None:
            stopped.set()

    class Failing(Asking):
        def drain(self, goal: object) -> None:
            raise ValueError("the database is gone")

    with pytest.raises(ValueError, match="the database is gone"):
        all_at_once({Asking(): None, Failing(): None})  # type: ignore[dict-item]
    assert stopped.is_set()
