"""How far down its queue a service is asked within a day: what may be expected of it, and what not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest

from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.order import place_of
from cowrie_enrich_dagster.services.lists import Network


class Reach:
    """What one service is planned to be asked, of which it can answer `keys` keys within a day.

    Those that `wait` are asked about after the others, if these do not tell their network: they are reached
    with what is left then. Of lookups of other days that are in its queue already nothing is counted: as a
    rule they are older, and come later. `heads` has for each block of addresses the one that is asked first.
    """

    def __init__(self, keys: float) -> None:
        self._keys = keys
        self._planned: dict[str, Wanted] = {}
        self._waiting: dict[str, Wanted] = {}
        self._reached: set[str] | None = None
        self.heads: dict[Network, str] = {}

    def plan(self, wanted: Mapping[str, Wanted], waiting: Mapping[str, Wanted]) -> None:
        """It is to be asked about these, and perhaps about those that wait for their answers."""
        self._planned |= wanted
        self._waiting |= waiting
        self._reached = None

    def __contains__(self, key: str) -> bool:
        if self._reached is None:
            self._reached = _first(self._planned.values(), self._keys)
            self._reached |= _first(self._waiting.values(), self._keys - len(self._planned))
        return key in self._reached


def _first(wanted: Iterable[Wanted], number: float) -> set[str]:
    listed = list(wanted)
    if number < len(listed):
        listed = nsmallest(max(0, int(number)), listed, key=place_of)
    return {want.key for want in listed}
