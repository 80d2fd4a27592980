"""A pace below the configured one, for one run: kept in this process, and unknown to the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic, sleep
from time import time as wall_clock

from cowrie_enrich_dagster.pacing.limiter import AdaptiveRateLimiter, Slot, SlotRefused
from cowrie_enrich_dagster.pacing.model import Policy, Reason, Wait
from cowrie_enrich_dagster.pacing.status import QuotaStatus
from cowrie_enrich_dagster.storage.engine import Database


@dataclass(frozen=True)
class Pace:
    """What one run may send at most: requests a second, and how many of them at once.

    None, or more than is configured: as configured.
    """

    rate: float | None = None
    burst: int | None = None


class SlowerRateLimiter(AdaptiveRateLimiter):
    """The shared limiter, asked no faster than one run's own pace.

    The pace is GCRA's once more, in memory: the shared row counts these requests as it counts any other,
    keeps the configured rate, and learns and forgets what it would without it. Whoever waits for the run's
    own slot holds the lock, so that slots come one after another however long the shared one takes.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        pace: Pace,
        *,
        credential_fingerprint: str | None = None,
        sleep: Callable[[float], None] = sleep,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(
            database, policy, credential_fingerprint=credential_fingerprint, sleep=sleep, monotonic=monotonic
        )
        self._rate = min(pace.rate or policy.rate, policy.rate)
        burst = min(pace.burst or policy.burst, policy.burst)
        self._own_spacing = (1 + policy.margin) / self._rate
        self._tolerance = (burst - 1) * self._own_spacing
        self._tat = 0.0
        self._turn = threading.Lock()

    def acquire(self, max_wait: float) -> Slot:
        """As the shared limiter's, after the run's own slot."""
        started = self._monotonic()
        if not self._turn.acquire(timeout=max_wait):
            raise self._refused(self._tat - self._tolerance - self._monotonic())
        try:
            due = self._tat - self._tolerance
            wait = due - self._monotonic()
            if wait > started + max_wait - self._monotonic():
                raise self._refused(wait)
            self._sleep(max(0.0, wait))
            slot = super().acquire(max(0.0, started + max_wait - self._monotonic()))
            self._tat = max(self._tat, self._monotonic()) + self._own_spacing
        finally:
            self._turn.release()
        return replace(slot, waited_s=self._monotonic() - started)

    def snapshot(self) -> QuotaStatus:
        """Where the shared limit stands, at this run's pace."""
        status = super().snapshot()
        own = max(0.0, self._tat - self._tolerance - self._monotonic())
        return replace(
            status,
            effective_rate=min(status.effective_rate, self._rate),
            spacing_s=max(status.spacing_s, self._own_spacing),
            next_slot_at=max(status.next_slot_at, status.as_of + timedelta(seconds=own)),
        )

    def _refused(self, wait: float) -> SlotRefused:
        return SlotRefused(self.policy.service, Wait(wall_clock() + wait, wait, Reason.SPACING))
