"""What a run of a growing day adds to Dagster's history, on SQLite, under Dagster's own daemon.

    python -m benchmarks.history [--ticks 4] [--events] [--json]

Eight services are configured, simulated; the new sessions of each tick give six of them something to ask:
they have new addresses, no files and no passwords. The sensor starts the runs, and the daemon launches them.
Told, of a run: the bytes of its own event log, of the index of all runs' events, of the table of runs, and of
what its steps hand on and print; then MiB a day at a run every fifteen minutes, before anything is pruned.
What sensors note of their ticks is not counted: it does not depend on runs, and most goes after three days.
With `--events`, on stderr: where the bytes of the events of the last run are.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from benchmarks.live import Installation
from benchmarks.report import Report, at_most, command_line
from cowrie_enrich_dagster.simulator import SimulatorProcess
from tests import all_services
from tests.logs import routable_ips

SERVICES = ("dshield", "greynoise", "abuseipdb", "spur", "virustotal", "urlhaus", "cymru", "hibp")
ASKED = 6
NEW_SESSIONS = 5
RUNS_A_DAY = 96
MIB_A_DAY = 60
RUN_SECONDS = 300
SETTLED_S = 2
"""After this the last words of a run's process are in its event log, too."""
_OF_NO_RUN = ("schedules.db", "dev.log")
_BY_TYPE = """
SELECT coalesce(dagster_event_type, 'a line of the log'), count(*), sum(length(event)) FROM event_logs
GROUP BY 1 ORDER BY 3 DESC
"""


class Size(NamedTuple):
    """Bytes of Dagster's storage, by what they are of."""

    event_logs: int
    index: int
    runs: int
    steps: int


def size(storage: Path, runs: Path) -> Size:
    """What lies on the disk, in whole files; a log of writes that is not yet in its file does not count."""
    parts = dict.fromkeys(Size._fields, 0)
    for path in storage.rglob("*"):
        if path.is_file() and not path.name.endswith(("-wal", "-shm")) and path.name not in _OF_NO_RUN:
            parts[_part(path, runs)] += path.stat().st_size
    return Size(**parts)


def _part(path: Path, runs: Path) -> str:
    if path.parent == runs:
        return "index" if path.name == "index.db" else "event_logs"
    return "runs" if path.name == "runs.db" else "steps"


def grow(log: Path, number: int) -> None:
    """More sessions of today, each with an address that was never seen before."""
    now = datetime.now(timezone.utc)
    with log.open("a") as file:
        for session in range(number * NEW_SESSIONS, (number + 1) * NEW_SESSIONS):
            common = {
                "session": f"{session:012x}",
                "src_ip": routable_ips(1, offset=997 * session)[0],
                "protocol": "ssh",
                "sensor": "sensor-a",
            }
            for eventid in ("cowrie.session.connect", "cowrie.session.closed"):
                now += timedelta(milliseconds=1)
                stamp = f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
                file.write(json.dumps({**common, "eventid": eventid, "timestamp": stamp}) + "\n")


class Ticks:
    """An installation whose logs grow, and the runs that its sensor starts of it."""

    def __init__(self, folder: Path, simulator: SimulatorProcess) -> None:
        mmdb = all_services.write_mmdb(folder / "country.mmdb", ["0.0.0.0/2"])
        more = {"ENRICH_SERVICES": ",".join(SERVICES), "ENRICH_HIBP": "true", "ENRICH_EVERY_MINUTES": "1"}
        self.here = Installation(folder, all_services.environment(simulator, mmdb) | more)
        self.instance = DagsterInstance.get()
        self.shards = Path(self.instance.event_log_storage.path_for_shard("index")).parent  # type: ignore[attr-defined]

    def tick(self, number: int) -> tuple[str, Size]:
        """Let the logs grow; the run that enriches it, and what it added."""
        before, seen = self.size(), {run.run_id for run in self.instance.get_runs()}
        grow(self.here.logs / "cowrie.json", number)
        self.here.until(lambda: self._finished(seen) is not None, RUN_SECONDS)
        run_id = self._finished(seen)
        assert run_id, f"no run succeeded in {RUN_SECONDS} s: see {self.here.dagster_home}/dev.log"
        asked = self._asked(run_id)
        assert len(asked) == ASKED or not number, f"the run asked {asked}"
        time.sleep(SETTLED_S)
        after = self.size()
        return run_id, Size(*(now - then for now, then in zip(after, before, strict=True)))

    def size(self) -> Size:
        return size(self.here.dagster_home, self.shards)

    def events(self, run_id: str) -> list[tuple[str, int, int]]:
        """Types of the events of a run, with how many there are and the bytes of their JSON."""
        with closing(sqlite3.connect(self.shards / f"{run_id}.db")) as connection:
            return connection.execute(_BY_TYPE).fetchall()

    def _finished(self, but: set[str]) -> str | None:
        runs = self.instance.get_runs(RunsFilter(job_name="enrich_day", statuses=[DagsterRunStatus.SUCCESS]))
        return next((run.run_id for run in runs if run.run_id not in but), None)

    def _asked(self, run_id: str) -> list[str]:
        steps = {step.step_key for step in self.instance.get_run_step_stats(run_id)}
        return sorted(step for step in steps if step.startswith("enrichment_cache.fetch["))


def run(ticks: int, *, show_events: bool) -> Report:
    """Every figure. The first run makes Dagster's files and reads the day whole: it is not counted."""
    report = Report(
        "history", {"services": len(SERVICES), "asked": ASKED, "engine": "sqlite", "ticks": ticks}
    )
    with SimulatorProcess() as simulator, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        here = Ticks(Path(folder), simulator)
        try:
            here.here.start()
            here.tick(0)
            told = [here.tick(number) for number in range(1, ticks + 1)]
        finally:
            here.here.kill()
        if show_events:
            for kind, number, length in here.events(told[-1][0]):
                print(f"{length:9,} {number:4} {kind}", file=sys.stderr)
    whole = 0.0
    for part, *sizes in zip(Size._fields, *(added for _, added in told), strict=True):
        mean = sum(sizes) / ticks / 2**10
        report.add("a run", f"{part}, KiB", round(mean, 1))
        whole += mean / 2**10
    report.add("a run", "all, MiB", round(whole, 3))
    report.add("a day", "MiB", round(RUNS_A_DAY * whole, 1), at_most(MIB_A_DAY))
    return report


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--ticks", type=int, default=4, help="runs that are measured")
    parser.add_argument("--events", action="store_true", help="where the bytes of a run's events are")
    arguments = parser.parse_args()
    raise SystemExit(run(arguments.ticks, show_events=arguments.events).finish(as_json=arguments.json))
