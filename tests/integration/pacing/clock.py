"""A clock that tests own: the database's moments, the process's seconds and its sleep are all one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

START = datetime(2026, 5, 3, 12, 0, 0, tzinfo=timezone.utc)


class FakeClock:
    """Time passes by sleeping only. `on_nap` is called before every nap with the seconds passed so far.

    `set_by`: by how many seconds the database's clock was set since the start; the process's cannot be.
    """

    def __init__(self) -> None:
        self.passed = 0.0
        self.set_by = 0.0
        self.naps: list[float] = []
        self.on_nap: Callable[[float], None] = lambda passed: None

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed + self.set_by)

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.on_nap(self.passed)
        self.naps.append(seconds)
        self.passed += seconds
