"""One fetch per key at a time within this process; the other threads wait for its result."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Who is fetching what. Thread-safe.

    Whoever `claim`s keys must `land` or `fail` the ones it got, whatever happens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[tuple[str, str], Future[_T | None]] = {}
        self.landings = 0
        """How many flights have landed: if it has not changed, no answer has come in meanwhile."""

    def claim(self, service: str, keys: Iterable[str]) -> tuple[list[str], dict[str, Future[_T | None]]]:
        """The keys that the caller is to fetch, and for the others the results of those who fetch them."""
        mine: list[str] = []
        others: dict[str, Future[_T | None]] = {}
        with self._lock:
            for key in keys:
                flight = self._flying.get((service, key))
                if flight is None:
                    self._flying[service, key] = Future()
                    mine.append(key)
                else:
                    others[key] = flight
        return mine, others

    def land(self, service: str, keys: Iterable[str], results: Mapping[str, _T]) -> None:
        """Hand out the results of claimed keys; None for those without."""
        for key, flight in self._take(service, keys):
            flight.set_result(results.get(key))

    def fail(self, service: str, keys: Iterable[str], error: BaseException) -> None:
        """Hand out an error to everybody who waits for the claimed keys."""
        for _, flight in self._take(service, keys):
            flight.set_exception(error)

    def _take(self, service: str, keys: Iterable[str]) -> list[tuple[str, Future[_T | None]]]:
        with self._lock:
            self.landings += 1
            return [(key, self._flying.pop((service, key))) for key in keys]
