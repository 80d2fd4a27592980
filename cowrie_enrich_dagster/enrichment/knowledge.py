"""What is known about keys, and what was known when: the latest answers and those before them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, text

from cowrie_enrich_dagster.cache import Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.enrichment.queue import LookupQueue
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime
from cowrie_enrich_dagster.vocabulary import LookupStatus, Scope


@dataclass(frozen=True)
class AskedService:
    """A service that takes part in this run, and whether we have what it takes to ask it."""

    service: Service
    has_key: bool


@dataclass(frozen=True)
class Observed:
    """One answer. `stale`: it has expired, and there is no newer one."""

    status: LookupStatus
    payload: Mapping[str, Any] | None
    fetched_at: datetime
    stale: bool

    def as_dict(self) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel`."""
        return {
            "status": self.status.value,
            "fetched_at": self.fetched_at.isoformat(),
            "stale": self.stale,
            "answer": self.payload,
        }


@dataclass
class Knowledge:
    """All that one service has told about some keys; what it has not told, `statuses` explains."""

    asked: AskedService
    keys: Sequence[Key]
    history: Mapping[str, list[Observed]]
    statuses: Mapping[str, LookupStatus]
    tiers: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.asked.service.name

    def changes(self, key: str) -> list[datetime]:
        """The moments at which a newer answer replaced an older one."""
        return [observed.fetched_at for observed in self.history.get(key, [])[1:]]

    def as_of(self, key: str, moment: datetime) -> Observed | None:
        """The answer that was known at the moment, else the first one that came later."""
        history = self.history.get(key)
        if not history:
            return None
        place = bisect_right(history, moment, key=lambda observed: observed.fetched_at)
        return history[max(0, place - 1)]

    def latest(self, key: str) -> Observed | None:
        """The newest answer there is."""
        history = self.history.get(key)
        return history[-1] if history else None

    def facts(self, observed: Observed) -> Facts:
        """An answer in the columns that all services share."""
        return self.asked.service.facts(observed.payload) if observed.payload else Facts()

    def status(self, key: Key) -> LookupStatus:
        """How the latest lookup ended, or why there was none."""
        if latest := self.latest(key.value):
            return latest.status
        if not key.may_be_sent:
            return LookupStatus.SKIPPED_POLICY
        if not self.asked.has_key:
            return LookupStatus.SKIPPED_NO_KEY
        status = self.statuses.get(key.value, LookupStatus.DEFERRED)
        return LookupStatus.DEFERRED if status.is_answer else status  # the answer was purged since

    def without_answer(self, key: Key) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel` where nothing is known: why not."""
        told = {"status": self.status(key).value}
        return {**told, "detail": "listed as a known scanner"} if key.known_scanner else told


def gather(
    database: Database,
    cache: HybridEnrichmentCache,
    queue: LookupQueue,
    asked: AskedService,
    keys: Sequence[Key],
) -> Knowledge:
    """Everything one service has told about the keys, by one query per tier and one for the history.

    An expired answer counts, marked stale, where there is no newer one (stale-if-error, RFC 5861).
    """
    name = asked.service.name
    sent = [key.value for key in keys if key.scope is Scope.GLOBAL]
    hits = cache.get_many(name, sent, allow_stale=True)
    history = _history(database, name, sent)
    for key, hit in hits.items():
        history.setdefault(key, []).append(_observed(hit))
    missing = [key for key in sent if key not in history]
    return Knowledge(
        asked,
        keys,
        history,
        queue.statuses(name, missing) if missing and asked.has_key else {},
        Counter(hit.tier for hit in hits.values()),
    )


def _observed(hit: Hit) -> Observed:
    entry = hit.entry
    return Observed(entry.status, entry.payload, entry.fetched_at, hit.stale)


def _history(database: Database, service: str, keys: Sequence[str]) -> dict[str, list[Observed]]:
    query = text(
        "SELECT key, status, payload, fetched_at FROM observations "
        f"WHERE service = :service AND {database.among('key')} ORDER BY key, fetched_at"
    ).columns(fetched_at=UtcDateTime(), payload=Json)
    history: dict[str, list[Observed]] = {}
    with database.read() as connection:
        for row in connection.execute(query, {"service": service, "keys": to_json(list(keys))}):
            observed = Observed(LookupStatus(row.status), row.payload, row.fetched_at, stale=True)
            history.setdefault(row.key, []).append(observed)
    return history


def archive(database: Database, connection: Connection, service: str, keys: Sequence[str]) -> None:
    """Copy the present answers into `observations`, in the caller's transaction, before they are replaced."""
    statement = f"""
        INSERT INTO observations (service, key, fetched_at, status, payload)
        SELECT service, cache_key, fetched_at, status, cache_value FROM enrichment_cache
        WHERE service = :service AND {database.among("cache_key")}
        ON CONFLICT (service, key, fetched_at) DO NOTHING
    """
    connection.execute(text(statement), {"service": service, "keys": to_json(list(keys))})


def archive_expired(database: Database) -> None:
    """Copy every expired answer into `observations`, before the cache is cleaned of them."""
    statement = text("""
        INSERT INTO observations (service, key, fetched_at, status, payload)
        SELECT service, cache_key, fetched_at, status, cache_value FROM enrichment_cache
        WHERE expires_at <= :now
        ON CONFLICT (service, key, fetched_at) DO NOTHING
    """).bindparams(bindparam("now", type_=UtcDateTime()))
    with database.write() as connection:
        connection.execute(statement, {"now": database.now(connection)})
