"""`python -m tests.soak.clocks`: workers that are frozen for half a minute, and clocks that are set.

Two real `cowrie-enrich` processes ask a DShield without any burst. While they do, one of them is frozen
(SIGSTOP), or both are, or the clock of all that take part (workers, PostgreSQL) is set, by libfaketime
(Debian's package `faketime`). Then one last run asks what is open. The exit code is 1 if anything was asked
again that had been answered and not expired, was over the limit, or has no row.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sqlalchemy import text

from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.simulator import Limit, SimulatorConfig, SimulatorProcess, TokenBucket
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer
from tests.soak import judge
from tests.soak.crew import run_to_the_end, start

DAY = "2025-11-01"
FROZEN_S = 30.0
LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
RATES = (5.0, 20.0)
CLOCK_READ_S = 2.0
"""Within this time every process has noticed that its clock was set: they look once a second."""


@dataclass(frozen=True)
class Trouble:
    """What befalls the workers after `after_s` of asking: `frozen` of them, or the clock `set_by`."""

    name: str
    frozen: int = 0
    set_by: str = ""
    set_by_s: float = 0.0
    after_s: float = 6.0
    lasts_s: float = 14.0
    """How long there is still something to ask then, at the rate."""


TROUBLES = (
    Trouble("one of two frozen", frozen=1, lasts_s=FROZEN_S + 8),
    Trouble("both frozen", frozen=2),
    Trouble("clock +1 h", set_by="+1h", set_by_s=3600),
    Trouble("clock -1 h", set_by="-1h", set_by_s=-3600),
    Trouble("clock +10 d", set_by="+10d", set_by_s=10 * 86_400),
)


class Clock:
    """The clock of every process that is started with its `environment`."""

    def __init__(self, folder: Path) -> None:
        library = next((str(path) for name in LIBRARIES for path in Path("/").glob(name[1:])), None)
        if library is None:
            raise SystemExit("libfaketime is needed: Debian's package `faketime`")
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def set(self, by: str) -> None:
        """Set it by so much (`+1h`) of the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(by + "\n")
        fresh.chmod(0o644)
        fresh.replace(self._file)


class ClockedPostgres(PostgresServer):
    """A PostgreSQL by a clock that can be set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__()

    def _spawn(self, command: list[str], **options: object) -> None:
        super()._spawn(command, **options, env={**os.environ, **self._clock.environment})


def try_one(engine: str, rate: float, trouble: Trouble) -> dict[str, Any]:
    """One run under one trouble; the figures."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home.chmod(0o755)
        clock = Clock(home)
        url = f"sqlite:///{home}/enrich.db"
        if engine == "postgresql":
            url = stack.enter_context(closing(ClockedPostgres(clock))).new_database()
        database = stack.enter_context(closing(Database(url)))
        upgrade(database)
        strict = Limit(rules=(TokenBucket(per_minute=60 * rate, burst=1),))
        simulator = stack.enter_context(SimulatorProcess(SimulatorConfig(limits={"dshield": strict})))
        keys = routable_ips(round(rate * (trouble.after_s + trouble.lasts_s)))
        environment = {
            "COWRIE_ENRICH_HOME": str(home),
            "COWRIE_LOG_DIR": str(write_logs(home / "logs", keys)),
            "DATABASE_URL": url,
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "soak@example.org",
            "DSHIELD_RATE_LIMIT": str(rate),
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_FEEDS": "none",
            "ENRICH_SERVICES": "dshield",
            **clock.environment,
        }
        with _workers(environment) as workers:
            while len(simulator.requests("dshield")) < rate * trouble.after_s:
                time.sleep(0.05)
            if trouble.frozen:
                _freeze(workers[: trouble.frozen])
            else:
                clock.set(trouble.set_by)
                time.sleep(CLOCK_READ_S)  # what is answered until then may still bear the old time
            began = time.monotonic()
            codes = [worker.wait(300) for worker in workers]
            said = [worker.stderr.read()[-2000:] for worker in workers if worker.stderr]
        run_to_the_end(environment, DAY, 300, print)
        log = simulator.requests("dshield")
        with database.read() as connection:
            rows = connection.execute(text("SELECT source_ip, intel FROM enriched_sessions")).all()
    told = {row.source_ip: _told(row.intel) for row in rows}
    expires = trouble.set_by_s >= ALL["dshield"].ttl.total_seconds()
    counted = [record for record in log if not (expires and record.t < began)]
    found = {
        "asked again": judge.asked_again(counted, []),
        "over the limit": judge.over_limit(log),
        "lost": [f"{key}: {told.get(key)}" for key in keys if told.get(key) not in ("found", "not_found")],
        "workers that failed": [text for code, text in zip(codes, said, strict=True) if code],
    }
    return {
        "engine": engine, "rate": rate, "trouble": trouble.name, "keys": len(keys), "requests": len(log),
        "seconds": round(log[-1].t - log[0].t, 1), **{name: len(lines) for name, lines in found.items()},
        "details": {name: lines[:5] for name, lines in found.items() if lines},
    }  # fmt: skip


def _told(intel: Any) -> str | None:
    answers = json.loads(intel) if isinstance(intel, str) else intel or {}
    return (answers.get("dshield") or {}).get("status")


@contextmanager
def _workers(environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    workers = [start(environment, "run", "--days", DAY, **quiet) for _ in range(2)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _freeze(workers: Sequence[subprocess.Popen[str]]) -> None:
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for worker in workers:
            worker.send_signal(number)
        if number is signal.SIGSTOP:
            time.sleep(FROZEN_S)


def main() -> int:
    """Try every trouble on both engines, at each rate; print a JSON line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--rate", type=float, action="append", help="requests a second (default: 5 and 20)")
    parser.add_argument("--trouble", choices=[trouble.name for trouble in TROUBLES], action="append")
    arguments = parser.parse_args()
    held = True
    for engine, rate, trouble in product(
        arguments.engine or ("sqlite", "postgresql"), arguments.rate or RATES, TROUBLES
    ):
        if trouble.name in (arguments.trouble or [trouble.name]):
            figures = try_one(engine, rate, trouble)
            held = held and not figures["details"]
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
