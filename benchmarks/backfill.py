"""A long backfill as many runs at once: each key asked once, limits held, rows equal to one run's.

    python -m benchmarks.backfill [--days 60] [--days-per-run 5] [--sessions 6000] [--factor 10] [--json]

Dagster's daemon as deploy/dagster.yaml sets it up (QueuedRunCoordinator, four runs at a time, PostgreSQL for
its history and for our tables), ENRICH_DAYS_PER_RUN, all simulated services but GreyNoise within their real
limits times `factor` on both sides. The backfill is launched as the UI does. What was asked is read off the
simulator's own log; the rows are compared with those of one `cowrie-enrich run` over the same logs on a
SQLite database, but for the moments at which answers came.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.execution.backfill import BulkActionStatus
from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from benchmarks.generate import START, generate
from benchmarks.report import Report, command_line, exactly
from benchmarks.workload import environment, migrated
from cowrie_enrich_dagster.services import Limits
from cowrie_enrich_dagster.simulator import SimulatorProcess
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from tests import all_services
from tests.servers import PostgresServer, free_port

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SERVICES = [name for name in all_services.SIMULATED if name != "greynoise"]
"""GreyNoise's day would be over long before all addresses are asked, and rows could not be compared."""
ASSETS = ["cowrie_sessions", "session_ips", "enrichment_cache", "enriched_sessions", "campaigns"]
LAUNCH = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
TIMEOUT_S = 1_800
_OVER = (BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.FAILED)
OPEN = "SELECT count(*) FROM lookups WHERE next_attempt_at IS NOT NULL"


def dagster(folder: Path, server: PostgresServer, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of an installation as deploy/ has it, its runs as processes of this machine."""
    home = folder / "dagster"
    home.mkdir()
    shutil.copy(REPOSITORY / "deploy" / "dagster.yaml", home)
    url = make_url(server.new_database())
    return {
        **os.environ,
        **settings,
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_HOST": url.host or "",
        "DAGSTER_PG_PORT": str(url.port),
        "DAGSTER_PG_DB": url.database or "",
        "DAGSTER_PG_USERNAME": url.username or "",
        "DAGSTER_PG_PASSWORD": url.password or "none",
    }


def backfill(variables: Mapping[str, str], days: list[str], database: Database) -> dict[str, Any]:
    """Launch it, wait until no run is left and nothing is open; what became of the runs, and the seconds."""
    port = free_port()
    command = [
        BIN / "dagster",
        "dev",
        "-w",
        REPOSITORY / "workspace.yaml",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    log = (Path(variables["DAGSTER_HOME"]) / "dev.log").open("wb")
    with log, subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True) as dev:
        try:
            _wait(lambda: requests.get(f"http://127.0.0.1:{port}/server_info", timeout=2).ok)
            chosen = [{"path": [name]} for name in ASSETS]
            params = {"assetSelection": chosen, "partitionNames": days}
            body = {"query": LAUNCH, "variables": {"params": params}}
            told = requests.post(f"http://127.0.0.1:{port}/graphql", json=body, timeout=60).json()
            backfill_id = told["data"]["launchPartitionBackfill"]["backfillId"]
            started = time.monotonic()
            with DagsterInstance.get() as instance:
                _wait(lambda: _is_over(instance, backfill_id))
                took = time.monotonic() - started
                runs = [run for run in instance.get_runs() if run.tags.get("dagster/backfill") == backfill_id]
                spans = [
                    (record.start_time or 0, record.end_time or 0)
                    for record in instance.get_run_records()
                    if record.dagster_run.tags.get("dagster/backfill") == backfill_id
                ]
            _wait(lambda: _count(database, OPEN) == 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(dev.pid, signal.SIGKILL)  # it hangs on SIGTERM to the whole group
    return {
        "runs": len(runs),
        "failed": sum(run.status is not DagsterRunStatus.SUCCESS for run in runs),
        "at_once": max(sum(a <= start < b for a, b in spans) for start, _ in spans),
        "seconds": round(took, 1),
    }


def _is_over(instance: DagsterInstance, backfill_id: str) -> bool:
    found = instance.get_backfill(backfill_id)
    return found is not None and found.status in _OVER


def _wait(condition: Any) -> None:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        with suppress(requests.RequestException):
            if condition():
                return
        time.sleep(1)
    raise TimeoutError(f"not done within {TIMEOUT_S} s")


def _count(database: Database, query: str) -> int:
    with database.read() as connection:
        return int(connection.execute(text(query)).scalar_one())


def rows(url: str) -> list[str]:
    """Every enriched session as text, without the moments at which answers came, nor how late that was."""
    with closing(Database(url)) as database, database.read() as connection:
        found = [dict(row) for row in connection.execute(select(table_of(EnrichedSession))).mappings()]
    for row in found:
        row["intel"] = _without_moments(row["intel"])
        row["knowledge"] = row["knowledge"].lstrip("0123456789 ")
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in found)


def _without_moments(intel: Any) -> Any:
    if not isinstance(intel, dict):
        return intel
    return {key: _without_moments(value) for key, value in intel.items() if key != "fetched_at"}


def measure(report: Report, days: int, days_per_run: int, sessions: int, factor: float) -> None:
    """Both ways over the same logs, each with a simulator of its own that says the same."""
    last = START + timedelta(days=days - 1)
    span = [f"{START + timedelta(days=n):%F}" for n in range(days)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        generate(folder / "logs", sessions=sessions, days=days, sensors=4, ips=sessions // 5)
        mmdb = all_services.write_mmdb(folder / "country.mmdb", ["0.0.0.0/2"])
        with closing(PostgresServer()) as server:
            many = migrated(server.new_database())
            with SimulatorProcess() as simulator, all_services.scaled(factor, simulator) as limits:
                asked = _asked(simulator, mmdb, limits)
                settings = environment(
                    folder, folder / "logs", many, **asked, ENRICH_DAYS_PER_RUN=str(days_per_run)
                )
                variables = dagster(folder, server, settings)
                os.environ.update({k: v for k, v in variables.items() if k.startswith("DAGSTER_")})
                with closing(Database(many)) as database:
                    for what, value in backfill(variables, span, database).items():
                        expected = {"runs": exactly(-(-days // days_per_run)), "failed": exactly(0)}
                        report.add("backfill", what, value, expected.get(what))
                keys = tell_services(report, simulator)
            rows_of_many = rows(many)
        with SimulatorProcess() as simulator, all_services.scaled(factor, simulator) as limits:
            asked = _asked(simulator, mmdb, limits)
            one = migrated(f"sqlite:///{folder}/one.db")
            settings = environment(folder, folder / "logs", one, **asked)
            command = [BIN / "cowrie-enrich", "run", "--wait", "--days", f"{START:%F}..{last:%F}"]
            subprocess.run(command, env={**os.environ, **settings}, check=True, stdout=subprocess.DEVNULL)
            keys_of_one = {name: set(simulator.calls_per_key(name)) for name in SERVICES}
        rows_of_one = rows(one)
    report.add("beside one run", "rows", len(rows_of_many), exactly(len(rows_of_one)))
    differ = len(set(rows_of_many) ^ set(rows_of_one))
    report.add("beside one run", "rows_that_differ", differ, exactly(0))
    differ = sum(len(keys[name] ^ keys_of_one[name]) for name in keys)
    report.add("beside one run", "keys_asked_by_one_alone", differ, exactly(0))


def _asked(simulator: SimulatorProcess, mmdb: Path, limits: Mapping[str, Limits]) -> dict[str, str]:
    """Services and our limits, as the environment says them to every process."""
    told = {**all_services.environment(simulator, mmdb), "ENRICH_SERVICES": ",".join(SERVICES)}
    told |= {f"{name.upper()}_RATE_LIMIT": str(limit.rate) for name, limit in limits.items()}
    for name, limit in limits.items():
        for window in limit.windows:
            told[f"{name.upper()}_PER_{window.name.upper()}"] = str(window.limit)
    return told


def tell_services(report: Report, simulator: SimulatorProcess) -> dict[str, set[str]]:
    """What each service saw; the keys it was asked about."""
    keys = {}
    for name in SERVICES:
        calls = simulator.calls_per_key(name)
        report.add(name, "keys_asked", len(calls))
        report.add(name, "keys_asked_twice", sum(n > 1 for n in calls.values()), exactly(0))
        report.add(name, "over_limit", simulator.over_limit(name), exactly(0))
        keys[name] = set(calls)
    return keys


def main() -> int:
    """Parse the arguments and measure."""
    parser = command_line(__doc__)
    for option, default in (("days", 60), ("days-per-run", 5), ("sessions", 6_000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--factor", type=float, default=10)
    arguments = parser.parse_args()
    report = Report("backfill", {"factor": arguments.factor})
    measure(report, arguments.days, arguments.days_per_run, arguments.sessions, arguments.factor)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
