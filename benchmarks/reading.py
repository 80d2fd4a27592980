"""Reading logs into `sessions`, beside DuckDB that reads and groups the same files on the same cores.

    python -m benchmarks.reading [--sessions 200000] [--json]

Three rounds, in each of them: one process, all cores, DuckDB (sensor and session with their number of events,
first and last moment and source) as one asks it first, with `read_json_auto`, and told which four columns
there are. Wall seconds, for it is about all cores; processor seconds of all processes beside them. SQLite,
30 days, four sensors. Without DuckDB only ours is told.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.generate import generate
from benchmarks.report import Report, at_least, at_most, command_line
from benchmarks.workload import migrated
from cowrie_enrich_dagster.enrichment.ingest import ingest_days
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

SPAN = Days.parse("2025-11-01..2025-11-30")
ROUNDS = 3
_QUERY = """
    CREATE TABLE sessions AS SELECT sensor, session, count(*) AS events, min(timestamp) AS first,
        max(timestamp) AS last, any_value(src_ip) AS src_ip
    FROM {read} GROUP BY sensor, session
"""
_WAYS = {
    "DuckDB": "read_json_auto('{files}')",
    "DuckDB, told the columns": """
        read_json('{files}', format = 'newline_delimited',
        columns = {{sensor: 'VARCHAR', session: 'VARCHAR', timestamp: 'VARCHAR', src_ip: 'VARCHAR'}})
    """,
}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds, and those of the processors, of this process and those that it waited for."""

    def used() -> float:
        own, children = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    begun, before = time.perf_counter(), used()
    work()
    return time.perf_counter() - begun, used() - before


def ours(logs: Path, workers: int) -> tuple[float, float]:
    """Read all days with so many processes into an empty database."""
    with tempfile.TemporaryDirectory() as home:
        database = Database(migrated(f"sqlite:///{home}/reading.db"))
        try:
            return timed(lambda: ingest_days(database, logs, SPAN, workers=workers))
        finally:
            database.close()


def duckdb_alone(logs: Path, read: str) -> tuple[float, float]:
    """Let DuckDB read and group the same files."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {os.cpu_count()}")
        query = _QUERY.format(read=read.format(files=logs / "*" / "*"))
        return timed(lambda: connection.execute(query))


def main() -> int:
    """Read in turns and print the ratios."""
    parser = command_line(__doc__)
    parser.add_argument("--sessions", type=int, default=200_000, help="in the logs")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    report = Report("reading", {"sessions": arguments.sessions})
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        generate(logs, sessions=arguments.sessions, days=30, sensors=4, ips=arguments.sessions // 10)
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "one process": lambda: ours(logs, 1),
            "all cores": lambda: ours(logs, cores),
        }
        if find_spec("duckdb"):
            ways |= {name: partial(duckdb_alone, logs, read) for name, read in _WAYS.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for name, way in ways.items():
                wall, used = way()
                seconds[name].append(wall)
                report.add(f"round {number + 1}", f"{name}, s", wall)
                report.add(f"round {number + 1}", f"{name}, processor s", used)
    median = {name: statistics.median(walls) for name, walls in seconds.items()}
    report.add(
        "ratios", "speed of all cores, x one", median["one process"] / median["all cores"], at_least(1.7)
    )
    for name in _WAYS:
        if name in median:
            reach = at_most(5) if name == "DuckDB" else None
            report.add("ratios", f"all cores, x {name}", median["all cores"] / median[name], reach)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
