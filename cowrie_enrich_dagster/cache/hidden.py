"""Keys that a tier is not to be asked about for a while: what it holds of them has been replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from cowrie_enrich_dagster.cache.entry import CacheEntry


class HiddenKeys:
    """Each is hidden for `ttl_s` seconds, on the clock `monotonic`. Thread-safe."""

    def __init__(self, ttl_s: float, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def hide(self, entries: Iterable[CacheEntry]) -> None:
        """Hide the keys of these entries from now on."""
        now = self._monotonic()
        with self._lock:
            for identity in [identity for identity, until in self._until.items() if until <= now]:
                del self._until[identity]
            for entry in entries:
                self._until[entry.service, entry.key] = now + self._ttl_s

    def show(self, entries: Iterable[CacheEntry]) -> None:
        """Hide the keys of these entries no longer."""
        if self._until:
            with self._lock:
                for entry in entries:
                    self._until.pop((entry.service, entry.key), None)

    def without(self, service: str, keys: list[str]) -> list[str]:
        """Those of the keys that are not hidden."""
        if not self._until:
            return keys
        now = self._monotonic()
        with self._lock:
            return [key for key in keys if self._until.get((service, key), now) <= now]
