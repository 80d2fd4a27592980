"""How many sessions have each wanted column, now and after each hundred of the calls that are planned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.enrichment.spending import Spending
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.order import place_of
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.vocabulary import WANTED_GROUPS, Subject

STEP = 100
KEYS_AT_ONCE = 5_000
_OF_FILES = frozenset(WANTED_GROUPS["files"])
_OF_PASSWORDS = frozenset(WANTED_GROUPS["passwords"])


@dataclass(frozen=True)
class ColumnShares:
    """The share of the sessions that have each column once so many `calls` were answered."""

    calls: int
    shares: Mapping[str, float]


class _Asked(NamedTuple):
    place: tuple[int, int, int, str]
    rank: int
    calls: float
    sessions: int
    columns: frozenset[str]


class ColumnCourse:
    """Notes what is planned, and tells what it is worth.

    As if every answer told what its service can tell, the most valuable keys of all services first. Of
    columns about addresses: sessions whose address may be sent. What waits for these answers is not in it.
    """

    def __init__(self, spending: Spending) -> None:
        self._spending = spending
        self._asked: list[_Asked] = []

    def weigh(self, service: Service, keys: Sequence[Key]) -> tuple[Mapping[str, str], Mapping[str, Wanted]]:
        """As `Spending.weigh`, noting what is left to be asked about addresses."""
        why, wanted = self._spending.weigh(service, keys)
        if service.subject is Subject.IP:
            sessions = {key.value: key.sessions for key in keys}
            columns = self._spending.columns_of(service)
            for want in wanted.values():
                share = 1 / service.batch_size
                self._asked.append(_Asked(place_of(want), service.rank, share, sessions[want.key], columns))
        return why, wanted

    def shares(self, keys: Iterable[Key]) -> list[ColumnShares]:
        """The course of the columns about addresses; `keys` are all addresses."""
        columns = self._columns()
        sent = [key for key in keys if self._spending.may_be_sent(key)]
        total = sum(key.sessions for key in sent)
        if not columns or not total:
            return []
        known: dict[str, set[str]] = {}
        have: Counter[str] = Counter()
        for start in range(0, len(sent), KEYS_AT_ONCE):
            lot = sent[start : start + KEYS_AT_ONCE]
            told = self._spending.known_columns(lot)
            for key in lot:
                have.update(dict.fromkeys(told[key.value] & columns, key.sessions))
            known |= told
        points = [_point(0, have, columns, total)]
        spent = 0.0
        for one in sorted(self._asked):
            of_key = known.setdefault(one.place[-1], set())
            new = one.columns - of_key
            have.update(dict.fromkeys(new, one.sessions))
            of_key |= new
            spent += one.calls
            if spent >= points[-1].calls + STEP:
                points.append(_point(math.floor(spent / STEP) * STEP, have, columns, total))
        if spent:
            points.append(_point(math.ceil(spent), have, columns, total))
        return points

    def _columns(self) -> frozenset[str]:
        return frozenset(self._spending.want or ()) - _OF_FILES - _OF_PASSWORDS


def _point(calls: int, have: Counter[str], columns: Collection[str], total: int) -> ColumnShares:
    return ColumnShares(calls, {column: have[column] / total for column in sorted(columns)})
