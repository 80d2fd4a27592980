"""`make demo` and `make dev`: the real pipeline in Dagster, on sample logs, against the simulator.

Everything it writes lies under ./.cowrie-enrich/demo. Settings already in the environment are kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from cowrie_enrich_dagster.simulator import Limit, Simulator, SimulatorConfig, TokenBucket

REPOSITORY = Path(__file__).resolve().parents[1]
HOME = REPOSITORY / ".cowrie-enrich" / "demo"
SAMPLE_LOGS = REPOSITORY / "tests" / "data" / "cowrie"
FIRST_DAY, LAST_DAY = "2025-11-01", "2025-11-03"
LAST_LOG = "2025-11-04"
"""It holds but the ends of sessions that crossed midnight; left out, the sensor would enrich it in `dev`."""
REQUESTS_PER_MINUTE = 900
USUAL_PORT = 3000
GRACE_S = 15.0

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
out = Console(highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _demo_environment() -> Iterator[None]:
    """Sample logs copied where files may be dropped, a simulated DShield, SQLite, Dagster's own home."""
    logs, dagster_home = HOME / "logs", HOME / "dagster"
    shutil.copytree(SAMPLE_LOGS, logs, dirs_exist_ok=True)
    dagster_home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    dagster_home.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "dagster.yaml", dagster_home)
    limit = Limit(rules=(TokenBucket(per_minute=REQUESTS_PER_MINUTE, burst=5),))
    with Simulator(SimulatorConfig(limits={"dshield": limit})) as simulator:
        defaults = {
            "COWRIE_LOG_DIR": str(logs),
            "COWRIE_ENRICH_HOME": str(HOME),
            "DAGSTER_HOME": str(dagster_home),
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_SERVICES": "dshield",
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_RATE_LIMIT": str(REQUESTS_PER_MINUTE / 60),
            "DSHIELD_EMAIL": "demo@example.org",
            "ENRICH_START_DAY": FIRST_DAY,
        }
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        yield


@app.command()
def run() -> None:
    """Materialise the three sample days as one run and show what came of it."""
    with _demo_environment():
        from dagster import DagsterInstance

        from cowrie_enrich_dagster.definitions import defs
        from cowrie_enrich_dagster.enrichment.enricher import Enricher
        from cowrie_enrich_dagster.settings import load_settings
        from cowrie_enrich_dagster.vocabulary import Days

        out.print("Enriching the sample logs in Dagster (about 20 seconds) ...")
        with DagsterInstance.get() as instance:
            result = defs.resolve_job_def("enrich_day").execute_in_process(
                instance=instance,
                tags={
                    "dagster/asset_partition_range_start": FIRST_DAY,
                    "dagster/asset_partition_range_end": LAST_LOG,
                },
                run_config={"loggers": {"console": {"config": {"log_level": "INFO"}}}},
                raise_on_error=False,
            )
        if not result.success:
            out.print("The run failed; its log is above.", style="red")
            raise typer.Exit(1)
        with Enricher(load_settings()) as enricher:
            days = Days.parse(f"{FIRST_DAY}..{LAST_DAY}")
            sessions = enricher.count_sessions(days)
            networks, countries = enricher.top_sources(days)
    out.print(f"\n{sessions} sessions enriched, {days}", style="bold")
    out.print(
        "Busiest networks:  " + ", ".join(f"AS{number} {name} ({n})" for number, name, n in networks[:4])
    )
    out.print("Busiest countries: " + ", ".join(f"{country} ({n})" for country, n in countries[:8]))
    tool = Path(sys.executable).parent / "cowrie-enrich"
    out.print("\nWhere to look next:", style="bold")
    out.print("  make dev          the same in Dagster's UI: lineage, metadata, checks, backfills")
    out.print(f"  {HOME / 'enrich.db'}   the tables, SQLite: start with enriched_sessions")
    out.print(f"  {tool} --help     your own logs, from the command line")


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
