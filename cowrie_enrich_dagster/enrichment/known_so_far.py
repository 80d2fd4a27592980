"""What every service has told of some keys by now: the answers that hold, and what serves a whole network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, text

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.enrichment.networks_told import NetworksTold
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime
from cowrie_enrich_dagster.vocabulary import Subject

KEYS_AT_ONCE = 5_000
"""So many answers are held in memory, of one service."""


class Told(NamedTuple):
    """What one service told of a key: the facts in its answer, whether that still holds, and those that it
    told of the key's network when it was asked about another address."""

    facts: frozenset[str] = frozenset()
    is_fresh: bool = False
    of_network: frozenset[str] = frozenset()


class State:
    """What each service (by name) told of a key; all keys of which the same was told share one."""

    def __init__(self, told: Mapping[str, Told]) -> None:
        self.told = told


class KnownSoFar:
    """Looks every key up once, at all services about its subject; as of then."""

    def __init__(self, services: Mapping[str, Service], database: Database, tier: DatabaseCache) -> None:
        self._services = services
        self._database = database
        self._tier = tier
        self._networks: dict[str, NetworksTold] = {}
        self._states: dict[tuple[Told, ...], State] = {}
        self._of_key: dict[Subject, dict[str, State]] = {subject: {} for subject in Subject}

    def states(self, subject: Subject, keys: Sequence[str]) -> Iterator[tuple[str, State]]:
        """Each of the keys with what is known of it."""
        of_key = self._of_key[subject]
        missing = [key for key in keys if key not in of_key]
        for start in range(0, len(missing), KEYS_AT_ONCE):
            self._look_up(subject, missing[start : start + KEYS_AT_ONCE])
        for key in keys:
            yield key, of_key[key]

    def _look_up(self, subject: Subject, keys: Sequence[str]) -> None:
        peers = [service for service in self._services.values() if service.subject is subject]
        names = [service.name for service in peers]
        now = self._database.moment()
        by_service = [self._told_by(service, keys, now) for service in peers]
        for key, *told in zip(keys, *by_service, strict=True):
            among = tuple(told)
            if among not in self._states:
                self._states[among] = State(dict(zip(names, among, strict=True)))
            self._of_key[subject][key] = self._states[among]

    def _told_by(self, service: Service, keys: Sequence[str], now: datetime) -> list[Told]:
        entries = self._tier.get_many(service.name, keys)
        by_network = self.networks(service).of(keys) if "network" in service.tells else {}
        return [
            Told(
                _facts_in(service, entry) if (entry := entries.get(key)) else frozenset(),
                entry is not None and entry.is_fresh(now),
                by_network[key].known if key in by_network else frozenset(),
            )
            for key in keys
        ]

    def networks(self, service: Service) -> NetworksTold:
        """The networks that the service has told, of answers that still hold."""
        if service.name not in self._networks:
            self._networks[service.name] = NetworksTold(self._answers(service))
        return self._networks[service.name]

    @survives_outage
    def _answers(self, service: Service) -> list[tuple[str, Facts, datetime]]:
        query = (
            text("""
                SELECT cache_key, cache_value, fetched_at FROM enrichment_cache
                WHERE service = :service AND expires_at > :now
            """)
            .bindparams(bindparam("now", type_=UtcDateTime()))
            .columns(cache_value=Json, fetched_at=UtcDateTime())
        )
        with self._database.read() as connection:
            values: dict[str, Any] = {"service": service.name, "now": self._database.now(connection)}
            return [
                (key, service.facts(payload) if payload else Facts(), fetched_at)
                for key, payload, fetched_at in connection.execute(query, values)
            ]


def _facts_in(service: Service, entry: CacheEntry) -> frozenset[str]:
    if not entry.payload:
        return frozenset()
    facts = service.facts(entry.payload)
    return frozenset(name for name in service.tells if getattr(facts, name, None) is not None)
