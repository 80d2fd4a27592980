"""How well the cache keeps what was paid for: of what it should have known, how much it did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import bindparam, text

from cowrie_enrich_dagster.cache import Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime

MIN_SESSIONS_AN_ADDRESS = 5
"""From so many sessions a key on, asking once a key must spare most of the calls."""


@dataclass
class HitRates:
    """Of some keys: `expected` an earlier run had answered, unexpired; a tier `answered` so many of them.

    `l1_expected` Redis was given and should still hold; so many of them it `l1_answered`.
    """

    expected: int = 0
    answered: int = 0
    l1_expected: int = 0
    l1_answered: int = 0

    @property
    def cache(self) -> float | None:
        """The share answered by any tier; None where nothing was expected."""
        return _share(self.answered, self.expected)

    @property
    def l1(self) -> float | None:
        """The share that Redis gave of what it should hold."""
        return _share(self.l1_answered, self.l1_expected)

    def add(self, more: HitRates) -> None:
        """Count others in."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(more, one.name))

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: `{cache: {expected, answered, hit_rate}, l1: ...}`."""
        return {
            "cache": {"expected": self.expected, "answered": self.answered, "hit_rate": self.cache},
            "l1": {"expected": self.l1_expected, "answered": self.l1_answered, "hit_rate": self.l1},
        }


def total(rates: Iterable[HitRates]) -> HitRates:
    """All of them together."""
    together = HitRates()
    for one in rates:
        together.add(one)
    return together


class Tally:
    """Counts one service's keys as they are looked up, lot by lot, before anything is asked.

    It remembers what was missed: asking makes it answered, and then it could not be counted by day.
    """

    def __init__(self, database: Database, cache: HybridEnrichmentCache, service: str) -> None:
        self.rates = HitRates()
        self._database = database
        self._cache = cache
        self._service = service
        self._missed: set[str] = set()
        self._l1_missed: set[str] = set()

    def count(self, keys: Sequence[str], hits: Mapping[str, Hit]) -> None:
        """Count a lot: `hits` is what the tiers gave."""
        expected = _answered_before(self._database, self._service, keys)
        in_redis = self._cache.given.expected(self._service, keys) if self._cache.given else set()
        from_redis = {key for key, hit in hits.items() if hit.tier == "redis"}
        self._missed |= expected - hits.keys()
        self._l1_missed |= in_redis - from_redis
        self.rates.add(_rates(expected, self._missed, in_redis, self._l1_missed))

    def of_some(self, keys: Collection[str]) -> HitRates:
        """The same figures for some of the keys that were counted, such as those of one day."""
        listed = list(keys)
        known = _answered_before(self._database, self._service, listed)
        in_redis = self._cache.given.expected(self._service, listed) if self._cache.given else set()
        return _rates(
            known | self._missed.intersection(listed), self._missed,
            in_redis | self._l1_missed.intersection(listed), self._l1_missed,
        )  # fmt: skip


def _rates(expected: set[str], missed: set[str], in_redis: set[str], l1_missed: set[str]) -> HitRates:
    return HitRates(len(expected), len(expected - missed), len(in_redis), len(in_redis - l1_missed))


@survives_outage
def _answered_before(database: Database, service: str, keys: Sequence[str]) -> set[str]:
    """Those that the queue remembers as answered, unexpired, whatever the tiers have kept."""
    query = text(f"""
        SELECT key FROM {database.rows_among("lookups", "key")} AND service = :service AND valid_until > :now
    """).bindparams(bindparam("now", type_=UtcDateTime()))
    with database.read() as connection:
        values = {"service": service, "keys": to_json(list(keys)), "now": database.now(connection)}
        return set(connection.execute(query, values).scalars())


@dataclass(frozen=True)
class SessionsWithoutCall:
    """Of one service in one run: sessions with an answer, over how many keys, and the calls they cost."""

    sessions: int
    keys: int
    calls: int

    @property
    def share(self) -> float | None:
        """1 - calls / sessions; None without sessions."""
        return None if not self.sessions else max(0.0, 1 - self.calls / self.sessions)

    @property
    def is_judged(self) -> bool:
        """Whether the sessions share their keys enough for the share to say something."""
        return self.sessions >= MIN_SESSIONS_AN_ADDRESS * max(1, self.keys)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "hit_rate": self.share}


@dataclass
class AnswersOfDay:
    """How many answers about a day's keys there are, and by service the share of its sessions covered."""

    sessions: int
    answers: int = 0
    coverage: dict[str, float | None] = field(default_factory=dict)

    def count(self, service: str, sent: Iterable[Key], held: Collection[str]) -> None:
        """Count one service's in: of the keys that may be `sent` it has answered those `held`."""
        weights = {key.value: key.sessions for key in sent}
        self.answers += len(held)
        self.coverage[service] = _share(sum(weights[key] for key in held), sum(weights.values()))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
