"""What is known about keys, and what was known when: the latest answers and those before them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import text

from cowrie_enrich_dagster.cache import DatabaseCache, Hit, HybridEnrichmentCache, is_fresh
from cowrie_enrich_dagster.enrichment.keys import Key, that_may_be_sent
from cowrie_enrich_dagster.enrichment.networks_told import NetworkTold
from cowrie_enrich_dagster.enrichment.spending import Spending
from cowrie_enrich_dagster.enrichment.written_days import forget_written
from cowrie_enrich_dagster.lookups.model import LastStatus
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime, moment_of
from cowrie_enrich_dagster.vocabulary import LookupStatus, Scope

FEED, HISTORY = "feed", "history"
"""What answers without a call beside the cache's tiers: a list; an answer of the time, expired since."""

_OPEN_NOW = {status for status in LookupStatus if status.is_answer or status is LookupStatus.DEFERRED}
"""Last statuses of what has no answer, but is to have one: one that there was has been purged since."""


@dataclass(frozen=True)
class AskedService:
    """A service that takes part in this run, whether we have what it takes to ask it, and are refused."""

    service: Service
    has_key: bool
    is_refused: bool = False


@dataclass(frozen=True)
class Observed:
    """One answer. `stale`: expired, or replaced by a newer lookup's. `feed`: the list it was read off."""

    status: LookupStatus
    payload: Mapping[str, Any] | None
    fetched_at: datetime
    expires_at: datetime
    stale: bool
    feed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel`; the answer itself stands in `answers`.

        It stands in every session of the address: what is usual is left out, and so are fractions.
        """
        moment = f"{self.fetched_at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        told: dict[str, Any] = {"status": self.status.value, "fetched_at": moment}
        if self.stale:
            told["stale"] = True
        return {**told, "feed": self.feed} if self.feed else told


@dataclass
class Knowledge:
    """All that one service had told about some keys by `gathered_at`; what not, `statuses` explains.

    That may leave out what is open and waits for its turn.
    `networks`: what it told of the networks of addresses that it has not answered; `spared`: why keys are not
    worth a call of it.
    """

    asked: AskedService
    keys: Sequence[Key]
    history: Mapping[str, list[Observed]]
    statuses: Mapping[str, LastStatus]
    gathered_at: datetime
    tiers: Counter[str] = field(default_factory=Counter)
    networks: Mapping[str, NetworkTold] = field(default_factory=dict)
    spared: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.asked.service.name

    def changes(self, key: str) -> list[datetime]:
        """The moments at which another answer may be the one that was known (see `as_of`)."""
        history = self.history.get(key, [])
        if len(history) < 2:
            return []
        return [moment for told in history for moment in (told.fetched_at, told.expires_at)]

    def as_of(self, key: str, moment: datetime) -> Observed | None:
        """The answer that was known at the moment and still held, else the first that came later.

        Where none came later, the last one before, stale though it was.
        """
        history = self.history.get(key, [])
        place = bisect_right(history, moment, key=lambda observed: observed.fetched_at)
        earlier = history[place - 1] if place else None
        later = history[place] if place < len(history) else None
        held = earlier is not None and moment < earlier.expires_at
        return earlier if held else later or earlier

    def latest(self, key: str) -> Observed | None:
        """The newest answer there is."""
        history = self.history.get(key)
        return history[-1] if history else None

    def facts(self, observed: Observed) -> Facts:
        """An answer in the columns that all services share."""
        return self.asked.service.facts(observed.payload) if observed.payload else Facts()

    def status(self, key: Key) -> LookupStatus:
        """How the latest lookup ended, or why there was none."""
        if history := self.history.get(key.value):
            return history[-1].status
        if not key.may_be_sent_to(self.asked.service):
            return LookupStatus.SKIPPED_POLICY
        if not self.asked.has_key:
            return LookupStatus.SKIPPED_NO_KEY
        last = self.statuses.get(key.value)
        if last is None and key.value in self.spared:
            return LookupStatus.SKIPPED_POLICY
        if last is None or last.status in _OPEN_NOW:
            return LookupStatus.AUTH_FAILED if self.asked.is_refused else LookupStatus.DEFERRED
        return last.status

    def by_status(self) -> dict[LookupStatus, list[Key]]:
        """The keys by their `status`, in the order in which each comes first.

        Of most keys nothing was ever told: of those that may be sent, or not, one speaks for all.
        """
        of_some = self.history.keys() | self.statuses.keys() | self.spared.keys()
        sent = {key.value for key in that_may_be_sent(self.keys, self.asked.service)}
        of_others: dict[bool, LookupStatus] = {}
        keys: dict[LookupStatus, list[Key]] = {}
        for key in self.keys:
            is_sent = key.value in sent
            if key.value in of_some:
                status = self.status(key)
            elif is_sent in of_others:
                status = of_others[is_sent]
            else:
                status = of_others[is_sent] = self.status(key)
            keys.setdefault(status, []).append(key)
        return keys

    @property
    def stale(self) -> int:
        """How many keys have a newest answer that is stale."""
        return sum(last.stale for key in self.keys if (last := self.latest(key.value)))

    def without_answer(self, key: Key) -> dict[str, Any]:
        """As it stands in `enriched_sessions.intel` where nothing is known: why not."""
        spared = None
        if not key.may_be_sent_to(self.asked.service):
            spared = "listed as a known scanner" if key.known_scanner else key.scanner_list
        of_network = self.networks.get(key.value)
        known = f"known of {of_network.network}" if of_network else self.spared.get(key.value)
        last = self.statuses.get(key.value)
        detail = spared or (last and last.detail) or known
        told = {"status": self.status(key).value}
        return {**told, "detail": detail} if detail else told


@repeats_after_outage
def gather(
    database: Database,
    cache: HybridEnrichmentCache,
    queue: LookupQueue,
    asked: AskedService,
    keys: Sequence[Key],
    spending: Spending | None = None,
) -> Knowledge:
    """Everything one service has told about the keys, by one query per tier and one for the history.

    An expired answer counts, marked stale, where there is no newer one (stale-if-error, RFC 5861).
    """
    name = asked.service.name
    gathered_at = database.moment()
    sent = [key.value for key in keys if key.scope is Scope.GLOBAL]
    hits = cache.get_many(name, sent, allow_stale=True)
    history = _history(database, asked.service, sent)
    tiers = Counter(FEED if told[-1].feed else HISTORY for key, told in history.items() if key not in hits)
    tiers.update(hit.tier for hit in hits.values())
    for key, hit in hits.items():
        history.setdefault(key, []).append(_observed(hit))
        history[key].sort(key=lambda observed: observed.fetched_at)  # a feed may tell later than a lookup
    known = _without_answers(queue, asked, keys, sent, history, gathered_at, spending)
    known.tiers.update(tiers)
    return known


def _without_answers(
    queue: LookupQueue,
    asked: AskedService,
    keys: Sequence[Key],
    sent: Sequence[str],
    history: Mapping[str, list[Observed]],
    gathered_at: datetime,
    spending: Spending | None,
) -> Knowledge:
    """The knowledge that `history` is, with why the other keys that were sent have no answer."""
    missing = [key for key in sent if key not in history]
    networks: dict[str, NetworkTold] = {}
    spared: dict[str, str] = {}
    if spending is not None and spending.want is not None:
        if "network" in asked.service.tells:
            networks = spending.networks(asked.service).of(missing)
        _, spared = spending.open_facts(asked.service, missing)
    of_keys = queue.statuses if spared else queue.told_statuses  # what is open is not spared yet
    statuses = of_keys(asked.service.name, missing) if missing and asked.has_key else {}
    return Knowledge(asked, keys, history, statuses, gathered_at, networks=networks, spared=spared)


@repeats_after_outage
def standing(
    database: Database,
    cache: DatabaseCache,
    queue: LookupQueue,
    asked: AskedService,
    keys: Sequence[Key],
    spending: Spending | None = None,
) -> Knowledge:
    """How the latest lookup of each key ended, and whether its answer is stale: `gather` without the answers.

    Nothing counts as a hit of any tier.
    """
    name = asked.service.name
    gathered_at = database.moment()
    sent = [key.value for key in keys if key.scope is Scope.GLOBAL]
    query = text(f"""
        SELECT key, status, max(coalesce(told_until, fetched_at)) AS fetched_at,
            feed IS NOT NULL AS is_feed
        FROM {database.rows_among("observations", "key")} AND service = :service
        GROUP BY key, status, feed IS NOT NULL
    """).columns(fetched_at=UtcDateTime())
    history: dict[str, list[Observed]] = {}
    with database.read() as connection:
        for row in connection.execute(query, {"service": name, "keys": to_json(sent)}):
            status = LookupStatus(row.status)
            expires_at = row.fetched_at + ttl_of(asked.service, status)
            stale = not row.is_feed or expires_at <= gathered_at
            told = Observed(status, None, row.fetched_at, expires_at, stale)
            history.setdefault(row.key, []).append(told)
    for key, status, fetched_at, expires_at in cache.standing(name, sent):
        stale = not is_fresh(fetched_at, expires_at, gathered_at)
        told = Observed(status, None, fetched_at, expires_at, stale)
        history.setdefault(key, []).append(told)
    for of_key in history.values():
        of_key.sort(key=lambda observed: observed.fetched_at)
    return _without_answers(queue, asked, keys, sent, history, gathered_at, spending)


def _observed(hit: Hit) -> Observed:
    entry = hit.entry
    return Observed(entry.status, entry.payload, entry.fetched_at, entry.expires_at, hit.stale)


def _history(database: Database, service: Service, keys: Sequence[str]) -> dict[str, list[Observed]]:
    query = text(
        "SELECT key, status, payload, fetched_at, told_at, feed "
        f"FROM {database.rows_among('observations', 'key')} AND service = :service ORDER BY key, fetched_at"
    ).columns(fetched_at=UtcDateTime(), payload=Json, told_at=Json)
    history: dict[str, list[Observed]] = {}
    with database.read() as connection:
        now = database.now(connection)
        for row in connection.execute(query, {"service": service.name, "keys": to_json(list(keys))}):
            status = LookupStatus(row.status)
            of_key = history.setdefault(row.key, [])
            for moment in (row.fetched_at, *map(moment_of, row.told_at or ())):
                expires_at = moment + ttl_of(service, status)
                stale = row.feed is None or expires_at <= now
                of_key.append(Observed(status, row.payload, moment, expires_at, stale, row.feed))
    for of_key in history.values():
        of_key.sort(key=lambda observed: observed.fetched_at)
    return history


def ttl_of(service: Service, status: LookupStatus) -> timedelta:
    """How long such an answer of the service holds."""
    return service.ttl if status is LookupStatus.FOUND else service.not_found_ttl


def forget(database: Database, service: str | None, keys: Sequence[str] | None) -> int:
    """Delete from `observations` what a service, or a feed of that name, told (of some keys); how many rows.

    Everything, where no service is named.
    """
    conditions = ["(service = :service OR feed = :service)"] if service else []
    conditions += [database.among("key")] if keys else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    values = {"service": service} if service else {}
    with database.write() as connection:
        parameters = {**values, **({"keys": to_json(list(keys))} if keys else {})}
        gone = connection.execute(text(f"DELETE FROM observations{where}"), parameters).rowcount
        forget_written(database, connection)
    return gone
