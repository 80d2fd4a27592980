"""Worker processes of `cowrie-enrich`, started anew as soon as they end, and killed when it is their turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random

MAX_SPAN_DAYS = 4
TEND_EVERY_S = 0.1


@dataclass(frozen=True)
class Kill:
    """A worker that was killed at `t` (monotonic), with the local ports of the connections it then had."""

    t: float
    ports: frozenset[int]


@dataclass(frozen=True)
class Ending:
    """A worker that ended by itself at `t`."""

    t: float
    command: str
    exit_code: int
    said: str


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    command: str
    said: Path


@dataclass
class Crew:
    """`size` workers that are always at it; use as a context manager. `days`: those there are so far."""

    environment: Mapping[str, str]
    folder: Path
    days: Callable[[], list[date]]
    size: int
    seed: int
    kills: list[Kill] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._workers: list[_Worker] = []
        self._started = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="crew", daemon=True)

    def __enter__(self) -> Crew:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.wait(60)

    def kill_one(self) -> None:
        """kill -9 of a worker that is at work on the network, if there is one."""
        with self._lock:
            alive = [w for w in self._workers if w.process.poll() is None]
            busy = [w for w in alive if _local_ports(w.process.pid)]
            victim = self._rng.choice(busy or alive)
            victim.process.send_signal(signal.SIGSTOP)  # so that it opens no connection we do not see
            ports = _local_ports(victim.process.pid)
            victim.process.kill()
            victim.process.wait()
            self.kills.append(Kill(time.monotonic(), ports))
            self._workers.remove(victim)

    def _tend(self) -> None:
        while not self._stop.wait(TEND_EVERY_S):
            with self._lock:
                for worker in [w for w in self._workers if w.process.poll() is not None]:
                    self._workers.remove(worker)
                    said = worker.said.read_text(errors="replace")[-2000:]
                    code = worker.process.returncode
                    self.endings.append(Ending(time.monotonic(), worker.command, code, said))
                if self.days() and len(self._workers) < self.size:
                    self._workers.append(self._start())

    def _start(self) -> _Worker:
        self._started += 1
        arguments = ["drain"]
        if self._rng.random() < 0.85:
            last = self._rng.choice(self.days())
            first = max(self.days()[0], last - timedelta(days=self._rng.randrange(MAX_SPAN_DAYS)))
            arguments = ["run", "--days", f"{first}..{last}"]
        said = self.folder / f"worker-{self._started}.log"
        with said.open("wb") as log:
            process = start(self.environment, *arguments, stdout=log, stderr=log)
        return _Worker(process, " ".join(arguments), said)


def start(environment: Mapping[str, str], *arguments: str, **options: object) -> subprocess.Popen[str]:
    """One `cowrie-enrich` process."""
    command = [sys.executable, "-m", "cowrie_enrich_dagster", *arguments, "--json"]
    return subprocess.Popen(command, env={**os.environ, **environment}, text=True, **options)  # type: ignore[call-overload,no-any-return]


def run_to_the_end(
    environment: Mapping[str, str], days: str, patience_s: float, say: Callable[[str], object]
) -> dict[str, object]:
    """Run the days until nothing is pending; the last report. Raises TimeoutError, RuntimeError."""
    said_last = ""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        process = start(environment, "run", "--days", days, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, said = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the last run ended with {process.returncode}: {said[-3000:]}")
        report: dict[str, object] = json.loads(printed.splitlines()[-1])
        if not report["pending"]:
            return report
        said_last = f"{report['pending']} lookups are still pending: {report['stopped']}"
        say(said_last)
        time.sleep(1)
    raise TimeoutError(said_last)


def _local_ports(pid: int) -> frozenset[int]:
    """The local TCP ports of a process, as Linux tells them in /proc."""
    inodes = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(link.readlink()))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if f"socket:[{columns[9]}]" in inodes:
            found.add(int(columns[1].rpartition(":")[2], 16))
    return frozenset(found)
