"""Leaving a broken server alone for a while, and trying it again after that."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CircuitBreaker:
    """Closed: everybody may call. After a fault it is open for `cooldown_s` seconds: nobody may.

    When they are over, one caller may try (the others wait for its result, for another cooldown at most).
    `monotonic` gives seconds. Thread-safe.
    """

    def __init__(self, cooldown_s: float, monotonic: Callable[[], float]) -> None:
        self._cooldown_s = cooldown_s
        self._monotonic = monotonic
        self._retry_at: float | None = None
        self._lock = threading.Lock()

    @property
    def would_allow(self) -> bool:
        """Whether a call would be allowed now. Unlike `allows`, this does not use up the one try."""
        retry_at = self._retry_at
        return retry_at is None or self._monotonic() >= retry_at

    def allows(self) -> bool:
        """Whether the caller may call now. It must then report `failed` or `succeeded`."""
        if self._retry_at is None:
            return True
        with self._lock:
            if self._retry_at is None:
                return True
            now = self._monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._cooldown_s
            return True

    def failed(self) -> bool:
        """Open; returns whether this fault began the outage (later ones prolong it)."""
        with self._lock:
            began = self._retry_at is None
            self._retry_at = self._monotonic() + self._cooldown_s
            return began

    def succeeded(self) -> bool:
        """Close; returns whether this ended an outage."""
        if self._retry_at is None:
            return False
        with self._lock:
            ended = self._retry_at is not None
            self._retry_at = None
            return ended
