"""What Dagster costs: the same seven days of 5,000 sessions, all answers cached, with it and without.

    python -m benchmarks.dagster_overhead [--json]

Each way is a command from its start to its exit, on the same SQLite database, Dagster's own storage in SQLite
beside it (as cloned, the project's `dagster.yaml`); the best of three.

- `cowrie-enrich run`: no Dagster; `Enricher.run` is the part of it that does the work.
- in process: `enrich_day` by `execute_in_process`, as `make demo` does.
- a process per step: `dagster job execute`, with the project's own executor (forkserver), as in deployment.

Dagster's event log tells where the time of the best one went. "Inside steps" is from STEP_START to
STEP_SUCCESS, parallel steps counted once; "between steps" is the rest of the run (step processes, resources,
event log); "before the run" is imports and loading the definitions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dagster import DagsterEventType, DagsterInstance

from benchmarks.generate import generate
from benchmarks.report import Report, command_line
from benchmarks.workload import answer_everything, environment, migrated, reports_of, start_runs
from cowrie_enrich_dagster.vocabulary import Days

REPOSITORY = Path(__file__).resolve().parents[1]
SESSIONS = 5_000
SPAN = Days.parse("2025-11-01..2025-11-07")
TIMES = 3
TAGS = {
    "dagster/asset_partition_range_start": str(SPAN.first),
    "dagster/asset_partition_range_end": str(SPAN.last),
}
IN_PROCESS = f"""
from dagster import DagsterEventType, DagsterInstance
from cowrie_enrich_dagster.definitions import defs
with DagsterInstance.get() as instance:
    defs.resolve_job_def("enrich_day").execute_in_process(instance=instance, tags={TAGS})
"""
STEP_BY_STEP = ["-m", "dagster", "job", "execute", "-m", "cowrie_enrich_dagster.definitions"]
IMPORTS = {
    "python": "pass",
    "pipeline": "import cowrie_enrich_dagster.enrichment",
    "dagster": "import dagster",
    "definitions": "import cowrie_enrich_dagster.definitions",
}


class Spent(NamedTuple):
    """Where the seconds of one Dagster run went."""

    total: float
    steps: int
    before_the_run: float
    inside_steps: float
    between_steps: float
    after_the_run: float


def seconds(arguments: Sequence[str], settings: dict[str, str]) -> float:
    """How long a Python command takes."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **settings}, check=True, capture_output=True
    )
    return time.perf_counter() - started


def without_dagster(settings: dict[str, str]) -> tuple[float, float]:
    """The whole command, and `Enricher.run` within it."""
    started = time.perf_counter()
    report = reports_of(start_runs(settings, str(SPAN), 1))[0]
    assert report["sessions"] == SESSIONS
    assert report["pending"] == 0
    return time.perf_counter() - started, report["elapsed_s"]


def with_dagster(arguments: Sequence[str], settings: dict[str, str]) -> Spent:
    """A command that makes one Dagster run, and what the event log says about it."""
    started = time.time()
    total = seconds(arguments, settings)
    with DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        run_id = instance.get_run_records(limit=1)[0].dagster_run.run_id
        log = [
            (entry.timestamp, entry.dagster_event.event_type)
            for entry in instance.all_logs(run_id)
            if entry.dagster_event is not None
        ]
    at = {kind: moment for moment, kind in log}
    begin, end = at[DagsterEventType.RUN_START], at[DagsterEventType.RUN_SUCCESS]
    steps, inside, running, since = 0, 0.0, 0, 0.0
    for moment, kind in log:
        if kind == DagsterEventType.STEP_START:
            steps, running, since = steps + 1, running + 1, since if running else moment
        elif kind == DagsterEventType.STEP_SUCCESS:
            running -= 1
            inside += 0.0 if running else moment - since
    return Spent(total, steps, begin - started, inside, end - begin - inside, started + total - end)


def run() -> Report:
    """Every figure. Dagster makes its storage in its first run, which is therefore not the best of three."""
    report = Report("dagster_overhead", {"sessions": SESSIONS, "days": len(list(SPAN)), "engine": "sqlite"})
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dagster_home = home / "dagster"
        dagster_home.mkdir()
        shutil.copy(REPOSITORY / "dagster.yaml", dagster_home)
        generate(home / "logs", sessions=SESSIONS, days=len(list(SPAN)), sensors=4, ips=SESSIONS // 10)
        url = migrated(f"sqlite:///{home}/bench.db")
        settings = environment(home, home / "logs", url, DAGSTER_HOME=str(dagster_home))
        answer_everything(settings, SPAN)
        for name, statement in IMPORTS.items():
            laps = [seconds(["-c", statement], settings) for _ in range(TIMES)]
            report.add("a process that imports only", f"{name}_s", round(min(laps), 2))
        command, enricher = min(without_dagster(settings) for _ in range(TIMES))
        report.add("cowrie-enrich run", "total_s", round(command, 2))
        report.add("cowrie-enrich run", "enricher_run_s", round(enricher, 2))
        for where, arguments in (
            ("Dagster, in process", ["-c", IN_PROCESS]),
            ("Dagster, a process per step", [*STEP_BY_STEP, "-j", "enrich_day", "--tags", json.dumps(TAGS)]),
        ):
            spent = min(with_dagster(arguments, settings) for _ in range(TIMES))
            for name, value in spent._asdict().items():
                report.add(where, name if name == "steps" else f"{name}_s", round(value, 2))
            report.add(where, "more_than_cowrie_enrich_run_s", round(spent.total - command, 2))
            report.add(where, "inside_steps_beside_enricher_run_s", round(spent.inside_steps - enricher, 2))
    return report


if __name__ == "__main__":
    arguments = command_line(__doc__).parse_args()
    raise SystemExit(run().finish(as_json=arguments.json))
