"""Dagster's daemon and webserver on growing logs, all services at their real limits on both sides.

    python -m benchmarks.live growing [--minutes 20]
    python -m benchmarks.live backfill [--days 30] [--addresses 89000] [--minutes 4]

`growing`: three sessions a second are added to today's log; files of other days (1,000 sessions of 250
addresses) are dropped in every four minutes. Told: seconds from each drop until all have rows, the longest
that a session of today waited for its row (ENRICH_EVERY_MINUTES of the environment, 15 when unset), runs by
job, the words of the ticks, MiB of Dagster's history, and what the services saw.

`backfill`: all addresses of all days in one backfill, launched as the UI does; DShield alone, 0.5 a second.
Told: seconds until all sessions have rows, until the rows of a file dropped in meanwhile are there, and what
became of the drain and of the daemon after `kill -9` of each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from cowrie_enrich_dagster.simulator import SimulatorProcess
from tests import all_services
from tests.logs import routable_ips, write_logs
from tests.servers import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
ASSETS = [
    "cowrie_sessions",
    "session_ips",
    "dshield_feed",
    "abuseipdb_feed",
    "enrichment_cache",
    "enriched_sessions",
]


OPEN_LOOKUPS = "SELECT count(*) FROM lookups WHERE next_attempt_at IS NOT NULL"
KNOWN_ROWS = "SELECT count(*) FROM enriched_sessions WHERE knowledge <> 'unknown'"


def say(*words: object) -> None:
    print(f"{datetime.now(timezone.utc):%H:%M:%S}", *words, flush=True)


class Installation:
    """A home of its own with its logs, SQLite and Dagster, the latter as child processes."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.database = folder / "enrich.db"
        self.dagster_home = folder / "dagster"
        self.dagster_home.mkdir()
        shutil.copy(REPOSITORY / "dagster.yaml", self.dagster_home)
        self.port = free_port()
        self.environment = (
            os.environ
            | settings
            | {
                "COWRIE_ENRICH_HOME": str(folder),
                "COWRIE_LOG_DIR": str(self.logs),
                "DATABASE_URL": "",
                "DAGSTER_HOME": str(self.dagster_home),
                "ENABLE_REDIS_CACHE": "false",
            }
        )
        os.environ["DAGSTER_HOME"] = str(self.dagster_home)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(Path(sys.executable).parent / "dagster"),
            "dev",
            "-w",
            str(REPOSITORY / "workspace.yaml"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        with (self.dagster_home / "dev.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=REPOSITORY
            )
        self.until(lambda: requests.get(f"http://127.0.0.1:{self.port}/server_info", timeout=2).ok, 120)

    def kill(self) -> None:
        """kill -9 of webserver, daemon, code server and every run."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for line in subprocess.run(
            ["ps", "-eo", "pid,args"], capture_output=True, text=True
        ).stdout.splitlines():
            pid, _, _ = line.strip().partition(" ")
            with suppress(OSError, ValueError):
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if f"DAGSTER_HOME={self.dagster_home}".encode() in environment and int(pid) != os.getpid():
                    os.kill(int(pid), signal.SIGKILL)

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float) -> float | None:
        """Seconds until the condition held; None if it did not in time."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            with suppress(requests.RequestException, sqlite3.Error):
                if condition():
                    return round(time.monotonic() - started, 1)
            time.sleep(0.5)
        return None

    def count(self, query: str, *values: object) -> int:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30) as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def rows(self, day: date) -> int:
        return self.count("SELECT count(*) FROM enriched_sessions WHERE day = ?", str(day))

    def rows_if_any(self, day: date) -> int:
        try:
            return self.rows(day)
        except sqlite3.Error:
            return 0  # the first run has not made the file yet

    def history_mib(self) -> float:
        files = [f for f in self.dagster_home.rglob("*") if f.is_file() and f.name != "dev.log"]
        return round(sum(f.stat().st_size for f in files) / 2**20, 1)

    def graphql(self, query: str, variables: dict[str, Any]) -> Any:
        body = {"query": query, "variables": variables}
        return requests.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=60).json()


def tell_runs(instance: DagsterInstance) -> None:
    runs = instance.get_runs()
    say("runs by job:", dict(Counter(f"{run.job_name} {run.status.value}" for run in runs)))
    for state in instance.all_instigator_state():
        name = state.origin.instigator_name
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=500)
        words: Counter[str] = Counter()
        for tick in ticks:
            reason = re.sub(
                r"\d\d:\d\d(:\d\d)?|[0-9a-f]{8}", "*", tick.tick_data.skip_reason or tick.status.value
            )
            words[reason[:150]] += 1
        for reason, number in words.most_common(6):
            say(f"  {name} x {number}: {reason}")


def tell_services(simulator: SimulatorProcess, names: list[str]) -> None:
    for name in names:
        calls = simulator.calls_per_key(name)
        twice = sum(n > 1 for n in calls.values())
        say(f"  {name}: {calls.total()} keys asked, over limit {simulator.over_limit(name)}, twice {twice}")


def growing(folder: Path, simulator: SimulatorProcess, minutes: float) -> None:
    here = Installation(
        folder,
        all_services.environment(simulator, all_services.write_mmdb(folder / "country.mmdb", ["0.0.0.0/2"])),
    )
    here.start()
    say("daemon and webserver are up, history", here.history_mib(), "MiB")
    today = datetime.now(timezone.utc).date()
    ips = routable_ips(100_000)
    begin, number, drops = time.monotonic(), 0, 0
    waiting: dict[date, float] = {}
    lags: list[float] = []
    written: list[float] = []
    oldest_without_row = 0.0
    with (here.logs / "cowrie.json").open("a") as log:
        while (elapsed := time.monotonic() - begin) < minutes * 60:
            for _ in range(3):
                now = datetime.now(timezone.utc)
                common = {
                    "session": f"{number:012x}",
                    "src_ip": ips[number // 30],
                    "protocol": "ssh",
                    "sensor": "sensor-live",
                }
                for kind in ("session.connect", "session.closed"):
                    log.write(
                        json.dumps(
                            {
                                **common,
                                "eventid": f"cowrie.{kind}",
                                "timestamp": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
                            }
                        )
                        + "\n"
                    )
                number += 1
                written.append(time.monotonic())
            log.flush()
            if (rows := here.rows_if_any(today)) < number:
                oldest_without_row = max(oldest_without_row, time.monotonic() - written[rows])
            if elapsed > 120 + 240 * drops and elapsed < minutes * 60 - 240:
                drops += 1
                day = today - timedelta(days=drops)
                some = ips[50_000 + 300 * drops : 50_300 + 300 * drops]
                start = datetime.combine(day, datetime.min.time(), timezone.utc)
                write_logs(
                    here.logs / f"late-{drops}",
                    [ip for ip in some for _ in range(4)][:1000],
                    start=start,
                    sensor=f"sensor-{drops}",
                )
                waiting[day] = time.monotonic()
                say(f"dropped a file of {day}")
            for day, since in list(waiting.items()):
                if here.rows_if_any(day) == 1000:
                    say(f"all rows of {day} after {time.monotonic() - since:.1f} s")
                    lags.append(time.monotonic() - waiting.pop(day))
            time.sleep(1)
    say(
        f"{number} sessions written today, {here.rows(today)} in rows, "
        f"the oldest that waited for its row: {oldest_without_row / 60:.1f} min; "
        f"late files: slowest {max(lags):.1f} s, without rows: {sorted(map(str, waiting))}"
    )
    with DagsterInstance.get() as instance:
        tell_runs(instance)
    say(f"history {here.history_mib()} MiB in {minutes:g} minutes")
    tell_services(simulator, list(all_services.SIMULATED))
    here.kill()


def backfill(folder: Path, simulator: SimulatorProcess, days: int, addresses: int, minutes: float) -> None:
    here = Installation(
        folder,
        {
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "b@example.org",
            "ENRICH_SERVICES": "dshield",
        },
    )
    first = date(2025, 11, 1)
    ips = routable_ips(addresses + 500)
    here.start()
    for number in range(days):
        day = datetime.combine(first + timedelta(days=number), datetime.min.time(), timezone.utc)
        write_logs(here.logs / f"day-{number}", ips[number:addresses:days], start=day, sensor=f"s-{number}")
    keys = [str(first + timedelta(days=n)) for n in range(days)]
    told = here.graphql(
        BACKFILL,
        {"params": {"assetSelection": [{"path": [name]} for name in ASSETS], "partitionNames": keys}},
    )
    say("backfill launched:", told["data"])
    launched = time.monotonic()
    took = here.until(lambda: here.count("SELECT count(*) FROM enriched_sessions") >= addresses, 900)
    say(
        f"all {addresses} rows of {days} days after {took} s;",
        here.count(OPEN_LOOKUPS),
        "lookups open",
    )
    with DagsterInstance.get() as instance:
        running = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        say("runs under way:", [(run.job_name, run.run_id[:8]) for run in running])
        new = date(2025, 12, 24)
        start = datetime.combine(new, datetime.min.time(), timezone.utc)
        write_logs(here.logs / "new", ips[addresses : addresses + 200], start=start, sensor="s-new")
        say("a new file is dropped in;", here.until(lambda: here.rows(new) == 200, 300), "s to its 200 rows")
        here.until(lambda: bool(instance.get_runs(RunsFilter(job_name="drain_lookups"))), 600)
        say(f"first drain {time.monotonic() - launched:.0f} s after the launch")
        time.sleep(45)
        _kill_the_drain(here, instance)
        before = sum(simulator.calls_per_key("dshield").values())
        time.sleep(100)
        say(
            "calls in the 100 s after kill -9 of the drain:",
            sum(simulator.calls_per_key("dshield").values()) - before,
        )
        here.kill()
        say("kill -9 of daemon, webserver, code server and runs")
        before = sum(simulator.calls_per_key("dshield").values())
        here.start()
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(30)
            now = sum(simulator.calls_per_key("dshield").values())
            say(
                f"{now - before} calls since the restart, {now} in all;",
                here.count(KNOWN_ROWS),
                "rows say",
                "something known",
            )
        tell_runs(instance)
    tell_services(simulator, ["dshield"])
    say("rows:", here.count("SELECT count(*) FROM enriched_sessions"), "history", here.history_mib(), "MiB")
    here.kill()


def _kill_the_drain(here: Installation, instance: DagsterInstance) -> None:
    for run in instance.get_runs(RunsFilter(job_name="drain_lookups", statuses=[DagsterRunStatus.STARTED])):
        pids = {
            int(found[1])
            for record in instance.all_logs(run.run_id)
            if (found := re.search(r"\(pid: (\d+)\)", record.message or ""))
        }
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        say(f"kill -9 of drain {run.run_id[:8]}, processes {sorted(pids)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["growing", "backfill"])
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--addresses", type=int, default=89_000)
    arguments = parser.parse_args()
    with (
        SimulatorProcess() as simulator,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        all_services.scaled(1, simulator),
    ):
        if arguments.what == "growing":
            growing(Path(folder), simulator, arguments.minutes or 20)
        else:
            backfill(Path(folder), simulator, arguments.days, arguments.addresses, arguments.minutes or 4)


if __name__ == "__main__":
    main()
