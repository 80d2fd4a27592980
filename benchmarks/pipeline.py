"""Logs to enriched sessions with every answer cached: time, growth and memory, stage by stage.

    python -m benchmarks.pipeline [--sessions 5000 50000 500000] [--engine postgresql|sqlite] [--json]

Each size has a tenth as many addresses as sessions, spread over 30 days and four sensors. A first process
reads the logs and answers every address; the second one, which is measured, finds nothing to ask. Bare JSON
decoding is `orjson.loads` of every line of the same files, in the same process.

Peak memory is the resident set's high-water mark (VmHWM), taken and reset after every stage: it holds the
interpreter and all imported modules ("at start"), and not the database server. As answers grow with the
addresses, the largest size is measured a second time with the addresses of the size before it: what memory
grows by between those two is due to the sessions and their events alone, the rest to the addresses and their
answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from benchmarks.generate import generate
from benchmarks.report import Report, at_most, command_line
from benchmarks.workload import SERVICE, answer_everything, environment, migrated, peak_mib
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days
from tests.servers import PostgresServer

DAYS = 30
SPAN = Days.parse("2025-11-01..2025-11-30")
SESSIONS_PER_ADDRESS = 10
LARGEST = 500_000
LARGEST_SECONDS = {"sqlite": 25, "postgresql": 90}
GROWTH_OF_TIME = 1.1
"""Ten times the sessions may take 11 times the time."""
FLAT = 1.25
"""Memory counts as flat in the number of events if it grows no more than this while they grow tenfold."""


def prepare(url: str, logs: Path) -> None:
    """What the measured run finds: the tables, last time's sessions, an answer for every address."""
    answer_everything(environment(logs, logs, migrated(url)), SPAN)


def measure(url: str, logs: Path) -> dict[str, Any]:
    """One warm run over the logs, stage by stage."""
    stages: dict[str, float] = {}
    peaks = {"at start": peak_mib()}
    with Enricher(load_settings(environment(logs, logs, url))) as enricher:
        started = time.perf_counter()

        def ended(stage: str) -> None:
            stages[stage] = time.perf_counter() - started - sum(stages.values())
            peaks[stage] = peak_mib()

        report = enricher.ingest(SPAN)
        ended("ingest")
        addresses = enricher.summarise_addresses(SPAN)
        ended("addresses")
        plan = enricher.plan(SPAN)
        ended("plan")
        joined = enricher.enrich(SPAN)
        ended("enrich")
    assert joined.sessions == report.sessions
    assert not plan.services[SERVICE].wanted
    return {
        "sessions": report.sessions,
        "events": report.read.events,
        "addresses": addresses.distinct,
        "stages": stages,
        "seconds": sum(stages.values()),
        "bare_json_s": _bare_decoding(logs),
        "peaks": peaks,
        "peak_mib": max(peaks.values()),
    }


def _bare_decoding(logs: Path) -> float:
    started = time.perf_counter()
    for path in logs.rglob("cowrie.json*"):
        with path.open("rb") as file:
            for line in file:
                orjson.loads(line)
    return time.perf_counter() - started


def in_children(sessions: int, addresses: int, server: PostgresServer | None) -> dict[str, Any]:
    """Generate the logs of one size, then prepare and measure in a process each."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        generate(logs, sessions=sessions, days=DAYS, sensors=4, ips=addresses)
        url = server.new_database() if server else f"sqlite:///{folder}/bench.db"
        child = [sys.executable, "-m", "benchmarks.pipeline", "--child"]
        subprocess.run([*child, "prepare", url, str(logs)], check=True)
        measured = subprocess.run([*child, "measure", url, str(logs)], check=True, stdout=subprocess.PIPE)
        figures: dict[str, Any] = json.loads(measured.stdout)
        return figures


def add_run(report: Report, run: dict[str, Any], engine: str) -> None:
    """The figures of one size."""
    where = f"{run['sessions']:,} sessions, {run['addresses']:,} addresses"
    reach = at_most(LARGEST_SECONDS[engine]) if run["sessions"] == LARGEST else None
    report.add(where, "events", run["events"])
    report.add(where, "seconds", round(run["seconds"], 2), reach)
    for stage, seconds in run["stages"].items():
        report.add(where, f"{stage}_s", round(seconds, 2))
    warm = run["stages"]["plan"] + run["stages"]["enrich"]
    report.add(where, "ingest_events_per_s", round(run["events"] / run["stages"]["ingest"]))
    report.add(where, "bare_json_events_per_s", round(run["events"] / run["bare_json_s"]))
    report.add(where, "ingest_times_bare_json", round(run["stages"]["ingest"] / run["bare_json_s"], 1))
    report.add(where, "plan_and_enrich_sessions_per_s", round(run["sessions"] / warm))
    report.add(where, "peak_mib", run["peak_mib"])
    for stage, peak in run["peaks"].items():
        report.add(where, f"peak_{stage.replace(' ', '_')}_mib", peak)


def add_growth(report: Report, before: dict[str, Any], after: dict[str, Any]) -> None:
    """From one size to the next."""
    where = f"{before['sessions']:,} -> {after['sessions']:,} sessions"
    times_sessions = after["sessions"] / before["sessions"]
    times_seconds = after["seconds"] / before["seconds"]
    report.add(where, "times_the_time", round(times_seconds, 2), at_most(GROWTH_OF_TIME * times_sessions))
    report.add(where, "times_the_memory", round(after["peak_mib"] / before["peak_mib"], 2))


def add_memory(
    report: Report, before: dict[str, Any], few_addresses: dict[str, Any], after: dict[str, Any]
) -> None:
    """What memory grows with: `few_addresses` has the sessions of `after` and the addresses of `before`."""
    times = few_addresses["events"] / before["events"]
    where = f"memory: {times:.0f} times the events, the same addresses"
    growth = round(few_addresses["peak_mib"] / before["peak_mib"], 2)
    report.add(where, "times_the_memory", growth, at_most(FLAT))
    by_events = few_addresses["peak_mib"] - before["peak_mib"]
    thousands = (few_addresses["events"] - before["events"]) / 1000
    report.add(where, "kib_per_thousand_events", round(by_events * 1024 / thousands, 1))
    where = "memory: the same sessions, more addresses"
    by_answers = after["peak_mib"] - few_addresses["peak_mib"]
    more = after["addresses"] - few_addresses["addresses"]
    report.add(where, "kib_per_address", round(by_answers * 1024 / more, 2))
    report.add(where, "share_of_the_peak_due_to_them", round(by_answers / after["peak_mib"], 2))


def run(sizes: list[int], engine: str) -> Report:
    """Every size, then what the growth from each to the next comes to."""
    report = Report("pipeline", {"engine": engine, "days": DAYS})
    server = PostgresServer(durable=True) if engine == "postgresql" else None
    try:
        runs = [in_children(sessions, sessions // SESSIONS_PER_ADDRESS, server) for sessions in sizes]
        few_addresses = (
            in_children(sizes[-1], sizes[-2] // SESSIONS_PER_ADDRESS, server) if len(sizes) > 1 else None
        )
    finally:
        if server:
            server.close()
    for figures in runs:
        add_run(report, figures, engine)
    for before, after in pairwise(runs):
        add_growth(report, before, after)
    if few_addresses:
        add_run(report, few_addresses, engine)
        add_memory(report, runs[-2], few_addresses, runs[-1])
    return report


def main() -> int:
    """Measure, or be one of the child processes that do."""
    parser = command_line(__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[5_000, 50_000, LARGEST])
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "URL", "LOGS"), help=SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, url, logs = arguments.child
        if step == "prepare":
            prepare(url, Path(logs))
        else:
            print(json.dumps(measure(url, Path(logs))))
        return 0
    return run(arguments.sessions, arguments.engine).finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
