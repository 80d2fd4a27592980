"""Deciding, by the time of arrival, whether a request is within a service's limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from cowrie_enrich_dagster.simulator.model import FixedWindow, HeaderStyle, Limit, RetryAfterForm, TokenBucket

FLOAT_SLACK_S = 1e-6
"""A microsecond is no time: sums of intervals are not exact in floating point."""


@dataclass(frozen=True)
class Budget:
    """What a rule has left: `remaining` of `limit` requests, whole again in `reset_s` seconds.

    `is_quota`: of a window; else of a bucket, which says how fast one may ask, not how much.
    """

    limit: int
    remaining: int
    reset_s: float
    is_quota: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a request is admitted, or in how many seconds one would be; the tightest rule's budget."""

    admitted: bool
    wait_s: float = 0.0
    budget: Budget | None = None


class _Meter(Protocol):
    def wait_s(self, t: float) -> float:
        """Seconds until a request that arrives at `t` would be admitted; 0 if it is."""

    def take(self, t: float) -> None:
        """Count a request admitted at `t`."""

    def budget(self, t: float) -> Budget:
        """What is left at `t`."""


class _Bucket:
    """A token bucket, kept as the time at which it will be full again (GCRA's theoretical arrival time)."""

    def __init__(self, rule: TokenBucket) -> None:
        self._interval = 60.0 / rule.per_minute
        self._burst = rule.burst
        self._full_at = -math.inf

    def wait_s(self, t: float) -> float:
        wait = self._full_at - (self._burst - 1) * self._interval - t
        return wait if wait > FLOAT_SLACK_S else 0.0

    def take(self, t: float) -> None:
        self._full_at = max(self._full_at, t) + self._interval

    def budget(self, t: float) -> Budget:
        missing_s = max(0.0, self._full_at - t)
        used = math.ceil((missing_s - FLOAT_SLACK_S) / self._interval)
        return Budget(self._burst, max(0, self._burst - used), missing_s)


class _Window:
    def __init__(self, rule: FixedWindow, wall_offset: float) -> None:
        self._rule = rule
        self._wall_offset = wall_offset
        self._opened = -math.inf
        self._count = 0

    def wait_s(self, t: float) -> float:
        return 0.0 if self._used(t) < self._rule.limit else self._closes_in(t)

    def take(self, t: float) -> None:
        self._count = self._used(t) + 1
        if self._closes_in(t) <= 0:
            self._opened = self._opening(t)

    def budget(self, t: float) -> Budget:
        left = self._rule.limit - self._used(t)
        return Budget(self._rule.limit, left, max(0.0, self._closes_in(t)), is_quota=True)

    def _used(self, t: float) -> int:
        return self._count if self._closes_in(t) > 0 else 0

    def _closes_in(self, t: float) -> float:
        return self._opened + self._rule.seconds - t

    def _opening(self, t: float) -> float:
        if self._rule.align == "request":
            return t
        wall = t + self._wall_offset
        return wall // self._rule.seconds * self._rule.seconds - self._wall_offset


class Limiter:
    """One service's limit at work. Not thread-safe: the server decides under its lock.

    `wall_offset` is the wall clock minus the monotonic clock, in seconds.
    """

    def __init__(self, limit: Limit, wall_offset: float) -> None:
        self.limit = limit
        self._banned_until = -math.inf
        self._meters: list[_Meter] = [
            _Bucket(rule) if isinstance(rule, TokenBucket) else _Window(rule, wall_offset)
            for rule in limit.rules
        ]

    def decide(self, t: float) -> Verdict:
        """Admit and count the request that arrives at `t` (monotonic seconds), or refuse it uncounted."""
        wait_s = max((meter.wait_s(t) for meter in self._meters), default=0.0)
        if wait_s > 0 and t >= self._banned_until:
            self._banned_until = t + self.limit.ban_s
        wait_s = max(wait_s, self._banned_until - t)
        admitted = wait_s <= 0
        if admitted:
            for meter in self._meters:
                meter.take(t)
        budgets = [meter.budget(t) for meter in self._meters]
        tightest = min(budgets, key=lambda budget: budget.remaining, default=None)
        return Verdict(admitted, max(0.0, wait_s), tightest)


def retry_after_headers(wait_s: float, form: RetryAfterForm, wall: float) -> dict[str, str]:
    """Retry-After for a wait that begins at `wall` (Unix time), rounded up to whole seconds."""
    if form == "absent":
        return {}
    if form == "date":
        return {"Retry-After": formatdate(math.ceil(wall + wait_s), usegmt=True)}
    return {"Retry-After": str(math.ceil(wait_s - FLOAT_SLACK_S))}


def budget_headers(budget: Budget, style: HeaderStyle, wall: float) -> dict[str, str]:
    """The budget as response headers; no header for the style `none`."""
    if style == "none":
        return {}
    if style == "x-balance":  # a contract's balance is no pace
        return {"X-Balance-Remaining": str(budget.remaining)} if budget.is_quota else {}
    epoch = style == "x-ratelimit"
    prefix = "X-RateLimit" if epoch else "RateLimit"
    return {
        f"{prefix}-Limit": str(budget.limit),
        f"{prefix}-Remaining": str(budget.remaining),
        f"{prefix}-Reset": str(math.ceil(wall + budget.reset_s if epoch else budget.reset_s)),
    }
