"""Faults of every kind, in random order, each for a moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cowrie_enrich_dagster.simulator import Fault, SimulatorClient
from tests.servers import PostgresServer, RedisServer
from tests.soak.crew import Crew

SLOW = Fault(kind="slow", delay_s=1.5)
BROKEN = (
    Fault(kind="reply", status=503),
    Fault(kind="reply", status=500),
    Fault(kind="reset"),
    Fault(kind="html"),
    Fault(kind="truncated"),
    Fault(kind="wrong_key"),
)
IN_FLIGHT_S = 0.3
"""Requests that are on their way when a service says stop cannot be called back."""


@dataclass(frozen=True)
class Stop:
    """A service said 429 with Retry-After some time after `since`."""

    since: float
    service: str
    retry_after_s: float


@dataclass
class Chaos:
    """The faults. `counts` tells how often each kind was done, `outages` when the database was away."""

    crew: Crew
    simulator: SimulatorClient
    redis: RedisServer
    database: PostgresServer
    services: tuple[str, ...]
    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._kinds: dict[str, Callable[[], None]] = {
            "worker killed": self.crew.kill_one,
            "redis killed": self._kill_redis,
            "redis paused": self._pause_redis,
            "database killed": self._kill_database,
            "disk stalled": self._stall_disk,
            "services slow": lambda: self._befall(SLOW),
            "services broken": lambda: self._befall(self._rng.choice(BROKEN)),
            "retry-after": self._say_stop,
        }

    def wreak(self, times: int) -> Iterator[str]:
        """Do every kind so many times; yields its name after each."""
        order = [kind for kind in self._kinds for _ in range(times)]
        self._rng.shuffle(order)
        for kind in order:
            time.sleep(self._rng.uniform(0.5, 3.0))
            self._kinds[kind]()
            self.counts[kind] = self.counts.get(kind, 0) + 1
            yield kind

    def _kill_redis(self) -> None:
        self.redis.kill()
        time.sleep(self._rng.uniform(0.2, 2.0))
        self.redis.start()

    def _pause_redis(self) -> None:
        self.redis.pause()
        time.sleep(self._rng.uniform(0.5, 3.0))
        self.redis.resume()

    def _kill_database(self) -> None:
        began = time.monotonic()
        self.database.kill()
        time.sleep(self._rng.uniform(0.2, 2.0))
        self.database.start()
        self.outages.append((began, time.monotonic()))

    def _stall_disk(self) -> None:
        """What a disk that does not answer looks like: every process of the database stands still."""
        began = time.monotonic()
        stopped = _with_children(self.database.pid)
        _signal(stopped, signal.SIGSTOP)
        time.sleep(self._rng.uniform(0.5, 3.0))
        _signal(stopped, signal.SIGCONT)
        self.outages.append((began, time.monotonic()))

    def _befall(self, fault: Fault) -> None:
        for service in self.services:
            # HIBP's answers do not say what they are about: nobody can tell such a one from ours.
            if (service, fault.kind) != ("hibp", "wrong_key"):
                self.simulator.set_fault(service, fault)
        time.sleep(self._rng.uniform(1.0, 3.0))
        for service in self.services:
            self.simulator.set_fault(service)

    def _say_stop(self) -> None:
        # Whois has no status to say it by.
        service = self._rng.choice([name for name in self.services if name != "cymru"])
        seconds = self._rng.randint(1, 4)
        form = self._rng.choice(["seconds", "date"])
        self.stops.append(Stop(time.monotonic(), service, seconds if form == "seconds" else seconds - 1))
        self.simulator.set_fault(
            service,
            Fault(kind="reply", status=429, body="{}", retry_after_s=seconds, retry_after=form, times=1),
        )
        time.sleep(seconds + 1)
        self.simulator.set_fault(service)


def _with_children(pid: int) -> list[int]:
    """A process and those it started, from /proc: PostgreSQL's children are in sessions of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
