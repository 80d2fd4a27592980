"""One worker at a time: claims on keys, which expire unless they are renewed, and who holds them.

A claim is a row whose `claimed_by` and `claim_expires_at` are set. Of a row that is open and unclaimed
`ready` says that it may be claimed now; one that failed is made ready again when its time has come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from cowrie_enrich_dagster.lookups.model import (
    ASKED_TTL,
    CLAIM_TTL,
    EVERY_KEY,
    WAKE_EVERY,
    Among,
    queue_sql,
)
from cowrie_enrich_dagster.lookups.order import BY_WORTH
from cowrie_enrich_dagster.lookups.waiting import Waiting
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage


class Claiming(Waiting):
    """The half of `LookupQueue` that a worker uses which asks."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._woke_at: dict[str, datetime] = {}
        if database.is_sqlite:
            self._lock = self._skip_locked = ""
            self._one_of = "key IN ({})"
        else:
            self._lock, self._skip_locked = "FOR UPDATE", "FOR UPDATE SKIP LOCKED"
            # As an array the planner takes it for a few keys, which it is, and goes by the primary key.
            self._one_of = "key = ANY (ARRAY({}))"

    @survives_outage
    def claim(self, service: str, worker: str, limit: int, *, among: Among = EVERY_KEY) -> list[str]:
        """Take up to `limit` due keys for `worker`, in the order of asking; `among` restricts the choice."""
        chosen = f"""
            SELECT key FROM lookups WHERE service = :service AND ready AND {among.condition}
            ORDER BY {BY_WORTH} LIMIT :limit {self._skip_locked}
        """
        statement = f"""
            UPDATE lookups SET ready = false, claimed_by = :worker, claim_expires_at = :until
            WHERE service = :service AND {self._one_of.format(chosen)}
            RETURNING key, priority, value_class, is_refresh, last_day
        """
        # A claim that a crash undoes costs nothing: `still_mine` decides before anything is asked.
        with self._database.write(lasting=False) as connection:
            now = self._database.now(connection)
            since = now - self._woke_at.get(service, now - WAKE_EVERY)
            if abs(since) >= WAKE_EVERY:  # a clock may be set back
                self._wake(connection, service, now)
                self._woke_at[service] = now
            parameters = {
                "service": service, "worker": worker, "limit": limit, "until": now + CLAIM_TTL,
                **among.parameters,
            }  # fmt: skip
            rows = connection.execute(queue_sql(statement), parameters).all()
        in_order = sorted(rows, key=lambda row: row.key)
        in_order.sort(
            key=lambda row: (row.value_class, not row.is_refresh, row.last_day, row.priority), reverse=True
        )
        return [row.key for row in in_order]

    def _wake(self, connection: Connection, service: str, now: datetime) -> None:
        """Make ready whose time has come, and whose claim has expired."""
        for due in (
            "next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL AND next_attempt_at <= :now",
            "claimed_by IS NOT NULL AND claim_expires_at <= :now",
        ):
            awake = f"SELECT key FROM lookups WHERE service = :service AND {due} {self._skip_locked}"
            statement = f"""
                UPDATE lookups SET ready = true, claimed_by = NULL, claim_expires_at = NULL
                WHERE service = :service AND {self._one_of.format(awake)}
            """
            connection.execute(queue_sql(statement), {"service": service, "now": now})

    @survives_outage
    def renew(self, worker: str) -> None:
        """Extend all of the worker's claims; called by a living worker well within `CLAIM_TTL`."""
        # A row that somebody else holds for the moment is left for the next renewal: no wait, no deadlock.
        # The longer claim of a key that is being asked about stays; one that a clock misdated does not.
        kept = "claim_expires_at > :until AND claim_expires_at <= :furthest"
        change = f"claim_expires_at = CASE WHEN {kept} THEN claim_expires_at ELSE :until END"
        self._for_claims_of(worker, change, self._skip_locked)

    @survives_outage
    def release(self, worker: str) -> None:
        """Give back every claim of the worker, unasked."""
        self._for_claims_of(worker, "ready = true, claimed_by = NULL, claim_expires_at = NULL", self._lock)

    def _for_claims_of(self, worker: str, change: str, lock: str) -> None:
        statement = f"""
            UPDATE lookups SET {change} WHERE claimed_by = :worker AND (service, key) IN (
                SELECT service, key FROM lookups WHERE claimed_by = :worker ORDER BY service, key {lock}
            )
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            moments = {"until": now + CLAIM_TTL, "furthest": now + ASKED_TTL}
            parameters = {"worker": worker} | (moments if ":until" in change else {})
            connection.execute(queue_sql(statement), parameters)

    @survives_outage
    def still_mine(self, service: str, worker: str, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that `worker` holds at this moment, its claims on them renewed for `ASKED_TTL`.

        One that had run out is held again, unless another worker has taken it.
        """
        statement = f"""
            UPDATE lookups SET ready = false, claimed_by = :worker, claim_expires_at = :until
            WHERE service = :service AND (claimed_by = :worker OR ready) AND {self._database.among("key")}
            RETURNING key
        """
        with self._database.write() as connection:
            parameters = {
                "service": service, "worker": worker, "keys": to_json(sorted(keys)),
                "until": self._database.now(connection) + ASKED_TTL,
            }  # fmt: skip
            return set(connection.execute(queue_sql(statement), parameters).scalars())

    @survives_outage
    def give_back(self, service: str, worker: str, keys: Sequence[str]) -> None:
        """Give back the worker's claims on these keys, unasked."""
        statement = f"""
            UPDATE lookups SET ready = true, claimed_by = NULL, claim_expires_at = NULL
            WHERE service = :service AND claimed_by = :worker AND {self._database.among("key")}
        """
        with self._database.write() as connection:
            parameters = {"service": service, "worker": worker, "keys": to_json(sorted(keys))}
            connection.execute(text(statement), parameters)


class ClaimLost(Exception):
    """Somebody else has claimed a key meanwhile: we were frozen for longer than a claim lives."""


class Claims:
    """The keys of one service that the threads of one worker hold.

    A claim that has run out, because a clock jumped or the process was frozen, is lost only when another
    worker has taken it; among our own threads a key is never held twice.
    """

    def __init__(self, queue: Claiming, service: str, worker: str) -> None:
        self._queue, self._service, self._worker = queue, service, worker
        self._lock = threading.Lock()
        self._held: set[str] = set()

    def take(self, limit: int, among: Among = EVERY_KEY) -> list[str]:
        """Claim up to `limit` due keys; empty where none is left that none of our threads holds."""
        with self._lock:
            keys = self._queue.claim(self._service, self._worker, limit, among=among)
            fresh = [key for key in keys if key not in self._held]
            self._held.update(fresh)
        return fresh

    def check(self, keys: Sequence[str]) -> None:
        """Call right before a request about `keys` is written; raises `ClaimLost`, and gives them back, where
        one of them is ours no longer."""
        if self._queue.still_mine(self._service, self._worker, keys) < set(keys):
            raise ClaimLost

    def lost(self, keys: Sequence[str]) -> None:
        """Give back those of `keys` that are ours, unasked."""
        self._queue.give_back(self._service, self._worker, keys)
        self.done(keys)

    def done(self, keys: Iterable[str]) -> None:
        """Forget keys that were closed or put off."""
        with self._lock:
            self._held.difference_update(keys)
