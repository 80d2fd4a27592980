"""The lookup queue: the single-flight through which every question to a service goes.

One row per (service, key) in `lookups`. A row is opened when an answer is missing, claimed by one worker at a
time, and closed in the same transaction that stores the answer; so a key is asked once, whoever asks. A
claim lives for `CLAIM_TTL` unless its worker renews it: a killed worker's keys are free again after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.sql.elements import TextClause

from cowrie_enrich_dagster.storage.engine import Database, survives_outage
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import LookupStatus

CLAIM_TTL = timedelta(seconds=20)
ASKED_TTL = timedelta(seconds=60)
"""A key that is being asked about is ours for as long as its request may take, and as long again: whoever is
frozen between question and answer finds it unasked by others."""
_MOMENTS = ("now", "until", "furthest", "next_attempt_at", "valid_until", "claim_expires_at")


@dataclass(frozen=True)
class Outcome:
    """How one claimed lookup ended.

    An answer carries `valid_until`; anything else carries `next_attempt_at`, when it may be tried again.
    """

    key: str
    status: LookupStatus
    valid_until: datetime | None = None
    next_attempt_at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True)
class OpenLookups:
    """The open rows among some keys: how many are due, being asked right now, or waiting for their time."""

    due: int
    claimed: int
    later: int
    next_attempt_at: datetime | None

    @property
    def total(self) -> int:
        return self.due + self.claimed + self.later


def _sql(statement: str) -> TextClause:
    clause = text(statement)
    moments = [name for name in _MOMENTS if f":{name}" in statement]
    return clause.bindparams(*(bindparam(name, type_=UtcDateTime()) for name in moments))


class LookupQueue:
    """The queue in one database, shared by every thread, process and container that uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._among = database.among("key")
        if database.is_sqlite:
            self._rows = (
                "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS priority "
                "FROM json_each(:rows)"
            )
            self._lock = self._skip_locked = ""
        else:
            self._rows = (
                "SELECT item->>0 AS key, (item->>1)::int AS priority "
                "FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS item"
            )
            self._lock, self._skip_locked = "FOR UPDATE", "FOR UPDATE SKIP LOCKED"

    @survives_outage
    def open(self, service: str, wanted: Mapping[str, int]) -> set[str]:
        """Open a row for each key of `wanted` (key -> priority) that is neither open nor validly answered.

        Returns the keys that another worker answered since the caller looked into the cache.
        """
        if not wanted:
            return set()
        reopen = (
            "lookups.next_attempt_at IS NULL "
            "AND (lookups.valid_until IS NULL OR lookups.valid_until <= excluded.updated_at)"
        )
        # Whoever plans again may have mended the cause of a fault, or got a better key. Whether a limit still
        # stands the limiter knows best: it puts them off again without sending anything.
        again = (
            "lookups.next_attempt_at IS NOT NULL "
            "AND (lookups.attempts < 5 OR lookups.status IN ('deferred', 'rate_limited'))"
        )
        # Sorted by key: two planners that lock the same rows in one order cannot deadlock.
        statement = f"""
            INSERT INTO lookups
                (service, key, priority, status, attempts, next_attempt_at, created_at, updated_at)
            SELECT :service, key, priority, 'deferred', 0, :now, :now, :now
            FROM ({self._rows}) AS wanted WHERE true ORDER BY key
            ON CONFLICT (service, key) DO UPDATE SET
                priority = CASE WHEN excluded.priority > lookups.priority
                                THEN excluded.priority ELSE lookups.priority END,
                status = CASE WHEN {reopen} THEN excluded.status ELSE lookups.status END,
                attempts = CASE WHEN {reopen} THEN 0 ELSE lookups.attempts END,
                next_attempt_at = CASE WHEN {reopen} OR {again} THEN excluded.next_attempt_at
                                       ELSE lookups.next_attempt_at END,
                updated_at = CASE WHEN {reopen} THEN excluded.updated_at ELSE lookups.updated_at END
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            rows = to_json([[key, priority] for key, priority in wanted.items()])
            connection.execute(_sql(statement), {"service": service, "rows": rows, "now": now})
            answered = connection.execute(
                text(
                    "SELECT key FROM lookups "
                    f"WHERE service = :service AND next_attempt_at IS NULL AND {self._among}"
                ),
                {"service": service, "keys": to_json(list(wanted))},
            )
            return set(answered.scalars())

    @survives_outage
    def reopen(self, service: str, keys: Iterable[str]) -> None:
        """Open closed rows whatever they say: their answers are no longer in the cache."""
        statement = f"""
            UPDATE lookups
            SET next_attempt_at = :now, valid_until = NULL, status = 'deferred', updated_at = :now
            WHERE service = :service AND key IN (
                SELECT key FROM lookups WHERE service = :service AND next_attempt_at IS NULL AND {self._among}
                ORDER BY key {self._lock}
            )
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(_sql(statement), {"service": service, "keys": to_json(list(keys)), "now": now})

    @survives_outage
    def claim(
        self, service: str, worker: str, limit: int, *, among: Sequence[str] | None = None
    ) -> list[str]:
        """Take up to `limit` due keys for `worker`, most valuable first; `among` restricts the choice."""
        statement = f"""
            WITH chosen AS (
                SELECT service, key FROM lookups
                WHERE service = :service AND next_attempt_at <= :now
                  AND (claim_expires_at IS NULL OR claim_expires_at <= :now)
                  {"AND " + self._among if among is not None else ""}
                ORDER BY priority DESC, next_attempt_at, key LIMIT :limit {self._skip_locked}
            )
            UPDATE lookups SET claimed_by = :worker, claim_expires_at = :until
            WHERE service = :service AND key IN (SELECT key FROM chosen)
            RETURNING key, priority
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            parameters = {
                "service": service, "worker": worker, "limit": limit, "now": now, "until": now + CLAIM_TTL,
                **({"keys": to_json(list(among))} if among is not None else {}),
            }  # fmt: skip
            rows = connection.execute(_sql(statement), parameters).all()
        return [key for key, _ in sorted(rows, key=lambda row: (-row.priority, row.key))]

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
        self._for_claims_of(worker, "claimed_by = NULL, claim_expires_at = NULL", self._lock)

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
            connection.execute(_sql(statement), parameters)

    @survives_outage
    def still_mine(self, service: str, worker: str, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that `worker` holds at this moment, its claims on them renewed for `ASKED_TTL`.

        One that had run out is held again, unless another worker has taken it.
        """
        statement = f"""
            UPDATE lookups SET claim_expires_at = :until
            WHERE service = :service AND claimed_by = :worker AND {self._among}
            RETURNING key
        """
        with self._database.write() as connection:
            parameters = {
                "service": service, "worker": worker, "keys": to_json(sorted(keys)),
                "until": self._database.now(connection) + ASKED_TTL,
            }  # fmt: skip
            return set(connection.execute(_sql(statement), parameters).scalars())

    @survives_outage
    def give_back(self, service: str, worker: str, keys: Sequence[str]) -> None:
        """Give back the worker's claims on these keys, unasked."""
        statement = f"""
            UPDATE lookups SET claimed_by = NULL, claim_expires_at = NULL
            WHERE service = :service AND claimed_by = :worker AND {self._among}
        """
        with self._database.write() as connection:
            parameters = {"service": service, "worker": worker, "keys": to_json(sorted(keys))}
            connection.execute(text(statement), parameters)

    @survives_outage
    def put_off(self, service: str, status: LookupStatus, until: datetime, reason: str) -> None:
        """Let every due key of the service that nobody is asking wait until then."""
        statement = f"""
            UPDATE lookups
            SET status = :status, next_attempt_at = :until, last_error = :reason, updated_at = :now
            WHERE service = :service AND key IN (
                SELECT key FROM lookups WHERE service = :service AND next_attempt_at <= :now
                  AND (claim_expires_at IS NULL OR claim_expires_at <= :now)
                ORDER BY key {self._lock}
            )
        """
        with self._database.write() as connection:
            parameters = {
                "service": service, "status": status.value, "until": until, "reason": reason[:500],
                "now": self._database.now(connection),
            }  # fmt: skip
            connection.execute(_sql(statement), parameters)

    def finish(self, connection: Connection, service: str, outcomes: Iterable[Outcome]) -> None:
        """Close (answers) or put off (everything else) claimed rows, in the caller's transaction.

        `deferred` means that nothing was asked and does not count as an attempt.
        """
        statement = _sql(
            """
            UPDATE lookups SET
                status = :status, next_attempt_at = :next_attempt_at, valid_until = :valid_until,
                claimed_by = NULL, claim_expires_at = NULL, last_error = :detail, updated_at = :now,
                attempts = attempts + :tried
            WHERE service = :service AND key = :key
            """
        )
        now = self._database.now(connection)
        rows = [
            {
                "service": service, "key": outcome.key, "status": outcome.status.value, "now": now,
                "next_attempt_at": outcome.next_attempt_at, "valid_until": outcome.valid_until,
                "detail": outcome.detail[:500] or None,
                "tried": 0 if outcome.status is LookupStatus.DEFERRED else 1,
            }
            for outcome in sorted(outcomes, key=lambda outcome: outcome.key)
        ]  # fmt: skip
        if rows:
            connection.execute(statement, rows)

    def close(self, connection: Connection, service: str, keys: Sequence[str]) -> None:
        """Close the open lookups of keys that were answered by other means, in the caller's transaction.

        Who is just asking about one closes it himself.
        """
        statement = f"""
            UPDATE lookups SET status = 'found', next_attempt_at = NULL, updated_at = :now
            WHERE service = :service AND key IN (
                SELECT key FROM lookups
                WHERE service = :service AND next_attempt_at IS NOT NULL AND {self._among}
                  AND (claim_expires_at IS NULL OR claim_expires_at <= :now)
                ORDER BY key {self._lock}
            )
        """
        now = self._database.now(connection)
        connection.execute(_sql(statement), {"service": service, "keys": to_json(list(keys)), "now": now})

    @survives_outage
    def attempts(self, service: str, keys: Sequence[str]) -> dict[str, int]:
        """How often each open key was asked in vain so far."""
        statement = f"SELECT key, attempts FROM lookups WHERE service = :service AND {self._among}"
        with self._database.read() as connection:
            rows = connection.execute(text(statement), {"service": service, "keys": to_json(list(keys))})
            return {row.key: row.attempts for row in rows}

    @survives_outage
    def open_among(self, service: str, keys: Sequence[str] | None = None) -> OpenLookups:
        """Count the open rows of a service, or of some keys of it."""
        statement = f"""
            SELECT
                coalesce(sum(CASE WHEN claim_expires_at > :now THEN 1 ELSE 0 END), 0) AS claimed,
                coalesce(sum(CASE WHEN (claim_expires_at IS NULL OR claim_expires_at <= :now)
                              AND next_attempt_at <= :now THEN 1 ELSE 0 END), 0) AS due,
                count(*) AS total,
                min(CASE WHEN next_attempt_at > :now THEN next_attempt_at END) AS next_attempt_at
            FROM lookups WHERE service = :service AND next_attempt_at IS NOT NULL
            {"AND " + self._among if keys is not None else ""}
        """
        with self._database.read() as connection:
            parameters: dict[str, object] = {"service": service, "now": self._database.now(connection)}
            if keys is not None:
                parameters["keys"] = to_json(list(keys))
            clause = _sql(statement).columns(next_attempt_at=UtcDateTime())
            row = connection.execute(clause, parameters).one()
        return OpenLookups(
            due=int(row.due),
            claimed=int(row.claimed),
            later=int(row.total) - int(row.due) - int(row.claimed),
            next_attempt_at=row.next_attempt_at,
        )

    @survives_outage
    def statuses(self, service: str, keys: Sequence[str]) -> dict[str, LookupStatus]:
        """The last known status of each key that has ever been queued."""
        statement = f"SELECT key, status FROM lookups WHERE service = :service AND {self._among}"
        with self._database.read() as connection:
            rows = connection.execute(text(statement), {"service": service, "keys": to_json(list(keys))})
            return {row.key: LookupStatus(row.status) for row in rows}

    def why_open(self, service: str, keys: Sequence[str] | None = None) -> str:
        """What most of the open rows of a service, or of some keys of it, wait for; empty if none is open."""
        statement = f"""
            SELECT status, last_error FROM lookups WHERE service = :service AND next_attempt_at IS NOT NULL
            {"AND " + self._among if keys is not None else ""}
            GROUP BY status, last_error ORDER BY count(*) DESC, status LIMIT 1
        """
        parameters = {"service": service} | ({"keys": to_json(list(keys))} if keys is not None else {})
        with self._database.read() as connection:
            row = connection.execute(text(statement), parameters).one_or_none()
        if row is None:
            return ""
        return f"{row.status}: {row.last_error}" if row.last_error else str(row.status)

    def backlog(self) -> dict[str, OpenLookups]:
        """The open rows of every service that has any."""
        with self._database.read() as connection:
            rows = connection.execute(
                text("SELECT DISTINCT service FROM lookups WHERE next_attempt_at IS NOT NULL")
            )
            services = sorted(rows.scalars())
        return {service: self.open_among(service) for service in services}
