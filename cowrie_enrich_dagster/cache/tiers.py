"""What every tier of the cache can do, whatever it keeps its entries in."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from cowrie_enrich_dagster.cache.entry import CacheEntry, are_plain_keys, is_storable_key
from cowrie_enrich_dagster.cache.metrics import CacheMetrics


class CacheTier(Protocol):
    """One store of entries. All verbs take many keys at once; none asks a service.

    Entries past `expires_at` may be returned: the caller decides whether a stale answer will do. A key that
    no tier can hold (`is_storable_key`) is simply not there.
    """

    name: str
    """What metrics and reports call this tier."""
    metrics: CacheMetrics
    """Where stores, faults and dropped entries are counted; a hybrid cache puts its own in."""

    def get_many(self, service: str, keys: Collection[str]) -> dict[str, CacheEntry]:
        """The entries there are; a key without one is absent from the result."""

    def set_many(self, entries: Iterable[CacheEntry]) -> int:
        """Keep entries, each only where none with a newer `fetched_at` is held; how many were taken."""

    def delete(self, service: str | None = None, keys: Collection[str] | None = None) -> int:
        """Forget these keys, or the whole service, or everything; how many entries went.

        Raises `ValueError` for keys without a service.
        """


def storable(keys: Collection[str]) -> list[str]:
    """The distinct keys a tier can hold, in order. Raises `TypeError` for one string instead of many."""
    if isinstance(keys, str):
        raise TypeError("expected a collection of keys, got one string")
    distinct = list(dict.fromkeys(keys))
    return distinct if are_plain_keys(distinct) else [key for key in distinct if is_storable_key(key)]


def newest(entries: Iterable[CacheEntry]) -> list[CacheEntry]:
    """One entry per (service, key), the one fetched last, in the order of (service, key)."""
    latest: dict[tuple[str, str], CacheEntry] = {}
    for entry in entries:
        identity = (entry.service, entry.key)
        held = latest.get(identity)
        if held is None or held.fetched_at < entry.fetched_at:
            latest[identity] = entry
    return [latest[identity] for identity in sorted(latest)]


def versioned(service: str, versions: Mapping[str, int]) -> str:
    """The name a tier files a service under: its own, with `@n` from answer format n = 2 on.

    When a provider changes its answers, raising the service's number makes every older entry invisible in
    every tier, while processes still on the older number go on sharing theirs. `@` is in no service's name.
    """
    version = versions.get(service, 1)
    return service if version == 1 else f"{service}@{version}"


@contextmanager
def collector_paused() -> Iterator[None]:
    """Decode many payloads without the cyclic garbage collector.

    They are trees, in which there is nothing for it to find, but every few hundred new objects it walks them
    again: that was half of the time of a bulk lookup. Nested and concurrent use is harmless.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
