"""When and why a worker stops asking: one state, which wakes those who sleep and breaks what will not end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

GRACE_S = 2.0
TIME_IS_OVER = "the run's time is over (ENRICH_MAX_RUN_SECONDS)"


class Why(Enum):
    """What kind of reason there is for asking no further keys."""

    TIME_IS_OVER = "time is over"
    HELD = "held"
    """The limiter has no slot within the patience."""
    REFUSED = "refused"
    """The service does not accept who we say we are."""
    FAULTS = "faults"
    OTHERS = "others"
    """Another worker has what is left, and does not get on with it."""
    PUT_OFF = "put off"
    """All was asked; what got no answer is tried again later."""
    HALTED = "halted"
    """The process is to end."""


@dataclass(frozen=True)
class Ending:
    """Why no further key was asked about, and the same in an operator's words."""

    why: Why
    said: str


class Interrupted(Exception):
    """The run was told to stop while it waited for a slot."""


class Stop:
    """Whether a run asks on; once it does not, `ending` says why.

    It ends at the moment `until` (of `time.monotonic`), or when somebody calls `end` or `halt`. The first
    reason stays. Who sleeps here (for a slot, or before a retry) is woken by all of them but a gentle `end`.
    """

    def __init__(self, until: float = math.inf) -> None:
        self.ending: Ending | None = None
        self.halted = threading.Event()
        """Set when not even an outage of the database is waited for any more."""
        self._until = until
        self._called_back = threading.Event()
        self._lock = threading.Lock()
        self._aborts: list[Callable[[], None]] = []

    @property
    def is_over(self) -> bool:
        """Whether no further key is to be asked about."""
        if self.ending is None and self.time_left() <= 0:
            self.end(Why.TIME_IS_OVER, TIME_IS_OVER)
        return self.ending is not None

    def time_left(self) -> float:
        """Seconds until the run's time is over, below 0 when it was; infinite where it has no end."""
        return self._until - time.monotonic()

    def end(self, why: Why, said: str, *, at_once: bool = True) -> None:
        """Nothing more is asked; what is on its way comes home.

        `at_once`: who waits for a slot is called back; else who has one uses it.
        """
        with self._lock:
            self.ending = self.ending or Ending(why, said)
        if at_once:
            self._called_back.set()

    def halt(self) -> None:
        """The process is to end: what is on its way has `GRACE_S`, then its connections are broken."""
        self.end(Why.HALTED, "the process was told to stop")
        self.halted.set()
        cutter = threading.Timer(GRACE_S, self._cut)
        cutter.daemon = True
        cutter.start()

    @contextmanager
    def cuts(self, abort: Callable[[], None]) -> Iterator[None]:
        """While the block lasts, `abort` is called when connections are to be broken."""
        with self._lock:
            self._aborts.append(abort)
        try:
            yield
        finally:
            with self._lock:
                self._aborts.remove(abort)

    def _cut(self) -> None:
        with self._lock:
            aborts = list(self._aborts)
        for abort in aborts:
            abort()

    def sleep(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` as soon as whoever sleeps is called back, or the time is over."""
        left = self.time_left()
        if self._called_back.wait(max(0.0, min(seconds, left))):
            raise Interrupted
        if seconds > left:
            self.end(Why.TIME_IS_OVER, TIME_IS_OVER)
            raise Interrupted
