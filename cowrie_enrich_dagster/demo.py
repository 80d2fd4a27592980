"""`make demo` and `make dev`: the real pipeline in Dagster, on sample logs, against the simulator.

The logs are moved in time so that they end yesterday. Everything that is written lies under
./.cowrie-enrich/demo, and no setting of the environment is used: no simulated answer reaches other data.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.simulator import Limit, Simulator, SimulatorConfig, TokenBucket
from cowrie_enrich_dagster.vocabulary import Days, utc_now

REPOSITORY = Path(__file__).resolve().parents[1]
HOME = REPOSITORY / ".cowrie-enrich" / "demo"
SAMPLE_LOGS = REPOSITORY / "tests" / "data" / "cowrie"
FIRST_DAY, LAST_DAY = date(2025, 11, 1), date(2025, 11, 3)
"""Of the sample logs. A log of the day after holds the ends of sessions that crossed midnight."""
REQUESTS_PER_MINUTE = 900
PACE = {
    **{f"{name}_RATE_LIMIT": "15" for name in ("DSHIELD", "SPUR", "URLHAUS", "HIBP", "ABUSEIPDB")},
    "VIRUSTOTAL_RATE_LIMIT": "2",
    "VIRUSTOTAL_PER_MINUTE": "0",
    "VIRUSTOTAL_PER_DAY": "10",
}
"""Faster than they are, and yet not all: GreyNoise and VirusTotal leave something that is not known yet."""
USUAL_PORT = 3000
GRACE_S = 15.0

_DATE = re.compile(rb"2025-11-0[1-4]")
_OURS = re.compile(
    "(?:ENRICH|COWRIE|REDIS|" + "|".join(name.upper() for name in ALL) + ")_.*"
    "|DATABASE_URL(?:_FILE)?|CACHE_DIR|SENSORS_TOML|ENABLE_REDIS_CACHE|RESPECT_RETRY_AFTER"
)

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
out = Console(highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _demo_environment() -> Iterator[Days]:
    """Sample logs where more may be dropped, simulated services, SQLite, Dagster's own home; the days."""
    by = utc_now().date() - timedelta(days=1) - LAST_DAY
    days = Days(FIRST_DAY + by, LAST_DAY + by)
    _begin_anew_unless(str(days))
    logs, dagster_home = HOME / "logs", HOME / "dagster"
    _write_moved(SAMPLE_LOGS, logs, by)
    dagster_home.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "dagster.yaml", dagster_home)
    no_settings = HOME / "sensors.toml"
    no_settings.touch()
    for name in filter(_OURS.fullmatch, list(os.environ)):
        del os.environ[name]
    names = [name for name in ALL if name != "maxmind"]  # which reads a file that nobody may hand on
    limit = Limit(rules=(TokenBucket(per_minute=REQUESTS_PER_MINUTE, burst=5),))
    with Simulator(SimulatorConfig(limits={"dshield": limit})) as simulator:
        os.environ |= {
            "COWRIE_LOG_DIR": str(logs),
            "COWRIE_ENRICH_HOME": str(HOME),
            "DAGSTER_HOME": str(dagster_home),
            "ENABLE_REDIS_CACHE": "false",
            "SENSORS_TOML": str(no_settings),
            "ENRICH_SERVICES": ",".join(names),
            "ENRICH_FEEDS": "none",
            "ENRICH_START_DAY": str(days.first),
            "DSHIELD_EMAIL": "demo@example.org",
            **{f"{name.upper()}_API_URL": simulator.url(name) for name in names},
            **{f"{name.upper()}_API_KEY": "demo" for name in names if ALL[name].needs_key},
            **PACE,
        }
        yield days


def _begin_anew_unless(days: str) -> None:
    """Forget the demo of other days; logs that were dropped beside the samples stay."""
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = HOME / "days"
    if mark.exists() and mark.read_text() == days:
        return
    for folder in (HOME / "dagster", HOME / "reports", *(HOME / "logs").glob("hp-sensor-*")):
        shutil.rmtree(folder, ignore_errors=True)
    for file in HOME.glob("enrich.db*"):
        file.unlink()
    mark.write_text(days)


def _write_moved(source: Path, target: Path, by: timedelta) -> None:
    """The logs as if they were written later by so many days."""

    def moved(found: re.Match[bytes]) -> bytes:
        return str(date.fromisoformat(found[0].decode()) + by).encode()

    for path in source.rglob("*.gz"):
        to = target / os.fsdecode(_DATE.sub(moved, os.fsencode(path.relative_to(source))))
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(gzip.compress(_DATE.sub(moved, gzip.decompress(path.read_bytes())), mtime=0))


@app.command()
def run() -> None:
    """Materialise the three sample days as one run, and the report on them."""
    with _demo_environment() as days:
        from dagster import DagsterInstance

        from cowrie_enrich_dagster.definitions import defs
        from cowrie_enrich_dagster.enrichment import Enricher
        from cowrie_enrich_dagster.report.figures import figures_of
        from cowrie_enrich_dagster.report.words import headline
        from cowrie_enrich_dagster.settings import load_settings

        out.print("Enriching the sample logs in Dagster (about a minute) ...")
        with DagsterInstance.get() as instance:
            for job, last in (("enrich_day", days.last + timedelta(days=1)), ("report_days", days.last)):
                result = defs.resolve_job_def(job).execute_in_process(
                    instance=instance,
                    tags={
                        "dagster/asset_partition_range_start": str(days.first),
                        "dagster/asset_partition_range_end": str(last),
                    },
                    run_config={"loggers": {"console": {"config": {"log_level": "INFO"}}}},
                    raise_on_error=False,
                )
                if not result.success:
                    out.print("The run failed; its log is above.", style="red")
                    raise typer.Exit(1)
        with Enricher(load_settings()) as enricher:
            figures = figures_of(enricher, days)
    out.print(f"\nEnriched: {days}", style="bold")
    for sentence in headline(figures):
        out.print(sentence, soft_wrap=not out.is_terminal)
    tool = Path(sys.executable).parent / "cowrie-enrich"
    out.print("\nWhere to look next:", style="bold")
    out.print("  make dev          the same in Dagster's UI: lineage, metadata, checks, backfills")
    out.print(f"  {HOME / 'enrich.db'}   the tables, SQLite: start with enriched_sessions")
    out.print(f"  {tool} --help     your own logs, from the command line")
    out.print("\nThe report, for your browser: yesterday and what was new, all three days:", style="bold")
    for page in (f"report-{days.last}.html", f"report-{days}.html"):
        out.print(f"  {HOME / 'reports' / page}")


@app.command()
def dev() -> None:
    """Open Dagster's UI on the sample logs and the simulator, at port PORT (default: 3000, or a free one)."""
    port = _port()
    with _demo_environment():
        out.print(f"Cowrie logs may be dropped into {os.environ['COWRIE_LOG_DIR']}")
        dagster = Path(sys.executable).parent / "dagster"
        command = [str(dagster), "dev", "-w", str(REPOSITORY / "workspace.yaml")]
        command += ["-h", "127.0.0.1", "-p", str(port), "--log-level", "error"]
        quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # of Dagster about itself
        # In a group of its own: whoever ends us, we end all of it.
        process = subprocess.Popen(command, cwd=HOME, env=quiet, start_new_session=True)  # noqa: S603
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            if _answers(port, process):
                out.print(f"UI: http://127.0.0.1:{port} (Ctrl-C ends)", style="bold")
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:
            out.print("ending ...")
        finally:
            _end(process)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _port() -> int:
    """The port that PORT names, else 3000 if nobody has it, else a free one."""
    wanted = os.environ.get("PORT", "").strip()
    if wanted and not (wanted.isdecimal() and 0 < int(wanted) < 65536):
        out.print(f"PORT = {wanted!r} is not a port from 1 to 65535", style="red")
        raise typer.Exit(2)
    for port in [int(wanted)] if wanted else [USUAL_PORT, 0]:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    out.print(f"port {wanted} is in use: make dev PORT=...", style="red")
    raise typer.Exit(2)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the UI answers; False if it ended before."""
    while process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        time.sleep(0.3)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Dagster as Ctrl-C does, and whatever is left of it after that."""
    group = process.pid
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        os.killpg(group, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    app()
