"""The lookup queue: the single-flight through which every question to a service goes.

One row per (service, key) in `lookups`. A row is opened when an answer is missing, claimed by one worker at a
time, and closed in the same transaction that stores the answer; so a key is asked once, whoever asks. A
claim lives for `CLAIM_TTL` unless its worker renews it: a killed worker's keys are free again after that.

What waits costs nothing: a claim reads the head of an index of what may be claimed now, in the order of
asking, and counts come from `LookupCounts`. That a service is held is the limiter's to know, not the rows'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Date, bindparam, text
from sqlalchemy.sql.elements import TextClause

from cowrie_enrich_dagster.lookups.counts import LookupCounts
from cowrie_enrich_dagster.lookups.order import BY_WORTH, CLASS_STEP
from cowrie_enrich_dagster.storage.engine import Database, survives_outage
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import LookupStatus

CLAIM_TTL = timedelta(seconds=20)
ASKED_TTL = timedelta(seconds=60)
"""A key that is being asked about is ours for as long as its request may take, and as long again: whoever is
frozen between question and answer finds it unasked by others."""
WAKE_EVERY = timedelta(seconds=1)
"""How often who claims looks for what has slept enough, and for claims that have expired."""

UNSEEN_FOR = timedelta(days=30)
LEFT = f"left the queue: not seen for {UNSEEN_FOR.days} days, and its turn never came at this pace"
"""Why a lookup was given up whose key nobody has seen again (`leave`)."""

_MOMENTS = (
    "now", "until", "furthest", "next_attempt_at", "valid_until", "claim_expires_at", "opened_before", "since"
)  # fmt: skip
_DAYS = ("first", "last", "seen_before")


class Wanted(NamedTuple):
    """A key to be asked about, what that is worth (see `priority_of`), and the last UTC day it was seen."""

    key: str
    priority: int = 0
    last_day: date = date(1970, 1, 1)


@dataclass(frozen=True)
class Among:
    """Some keys of a service: an SQL condition on the column `key`, with its parameters."""

    condition: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


EVERY_KEY = Among("true")


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


class News(NamedTuple):
    """A lookup that ended at `ended_at`."""

    service: str
    key: str
    ended_at: datetime


class LastStatus(NamedTuple):
    """How the latest lookup of a key ended, and why it is not answered (None: nothing was said of that)."""

    status: LookupStatus
    detail: str | None = None


def _sql(statement: str) -> TextClause:
    clause = text(statement)
    moments = [bindparam(name, type_=UtcDateTime()) for name in _MOMENTS if f":{name}" in statement]
    days = [bindparam(name, type_=Date()) for name in _DAYS if f":{name}" in statement]
    return clause.bindparams(*moments, *days)


class LookupQueue:
    """The queue in one database, shared by every thread, process and container that uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counts = LookupCounts(database)
        self._woke_at: dict[str, datetime] = {}
        if database.is_sqlite:
            self._rows = (
                "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS priority, "
                "json_extract(value, '$[2]') AS last_day FROM json_each(:rows)"
            )
            self._lock = self._skip_locked = ""
            self._one_of = "key IN ({})"
        else:
            self._rows = (
                "SELECT item->>0 AS key, (item->>1)::int AS priority, (item->>2)::date AS last_day "
                "FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS item"
            )
            self._lock, self._skip_locked = "FOR UPDATE", "FOR UPDATE SKIP LOCKED"
            # As an array the planner takes it for a few keys, which it is, and goes by the primary key.
            self._one_of = "key = ANY (ARRAY({}))"

    def keys(self, keys: Iterable[str]) -> Among:
        """Just these keys; some hundreds at most, for they travel with every statement."""
        return Among(self._database.among("key"), {"keys": to_json(list(keys))})

    @survives_outage
    def open(self, service: str, wanted: Iterable[Wanted]) -> set[str]:
        """Open a row for each wanted key that is neither open nor validly answered; a few thousand at a time.

        A row that is open already may rise in the order, and what failed before is due again. Rows that stay
        as they are are not written. Returns the keys that are closed and stay so: another worker answered
        them since the caller looked into the cache.
        """
        rows = [(want.key, want.priority, want.last_day.isoformat()) for want in wanted]
        if not rows:
            return set()
        reopen = (
            "(lookups.next_attempt_at IS NULL "
            "AND (lookups.valid_until IS NULL OR lookups.valid_until <= excluded.updated_at))"
        )
        # Whoever plans again may have mended the cause of a fault, or got a better key.
        again = (
            "(lookups.next_attempt_at IS NOT NULL AND NOT lookups.ready AND lookups.claimed_by IS NULL "
            "AND (lookups.attempts < 5 OR lookups.status IN ('deferred', 'rate_limited')))"
        )
        rises = (
            "(lookups.next_attempt_at IS NOT NULL "
            "AND (excluded.priority > lookups.priority OR excluded.last_day > lookups.last_day))"
        )
        # Sorted by key: two planners that lock the same rows in one order cannot deadlock.
        statement = f"""
            INSERT INTO lookups (service, key, priority, value_class, last_day, is_refresh, ready, status,
                attempts, next_attempt_at, created_at, opened_at, updated_at)
            SELECT :service, key, priority, priority / {CLASS_STEP}, last_day, false, true, 'deferred',
                0, :now, :now, :now, :now
            FROM ({self._rows}) AS wanted WHERE true ORDER BY key
            ON CONFLICT (service, key) DO UPDATE SET
                priority = {_greater("priority")},
                value_class = {_greater("value_class")},
                last_day = {_greater("last_day")},
                is_refresh = CASE WHEN {reopen} THEN lookups.valid_until IS NOT NULL
                                  ELSE lookups.is_refresh END,
                ready = {reopen} OR {again} OR lookups.ready,
                status = CASE WHEN {reopen} THEN excluded.status ELSE lookups.status END,
                last_error = CASE WHEN {reopen} THEN NULL ELSE lookups.last_error END,
                attempts = CASE WHEN {reopen} THEN 0 ELSE lookups.attempts END,
                next_attempt_at = CASE WHEN {reopen} OR {again} THEN excluded.next_attempt_at
                                       ELSE lookups.next_attempt_at END,
                opened_at = CASE WHEN {reopen} THEN excluded.opened_at ELSE lookups.opened_at END,
                updated_at = CASE WHEN {reopen} THEN excluded.updated_at ELSE lookups.updated_at END
            WHERE {reopen} OR {again} OR {rises}
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(_sql(statement), {"service": service, "rows": to_json(rows), "now": now})
            answered = connection.execute(
                text(
                    "SELECT key FROM lookups "
                    f"WHERE service = :service AND next_attempt_at IS NULL AND {self._database.among('key')}"
                ),
                {"service": service, "keys": to_json([row[0] for row in rows])},
            )
            return set(answered.scalars())

    @survives_outage
    def reopen(self, service: str, keys: Iterable[str], *, is_refresh: bool = False) -> None:
        """Open closed rows whatever they say: their answers are gone from the cache, or about to expire."""
        statement = f"""
            UPDATE lookups
            SET next_attempt_at = :now, ready = true, is_refresh = :is_refresh, valid_until = NULL,
                status = 'deferred', last_error = NULL, attempts = 0, opened_at = :now, updated_at = :now
            WHERE service = :service AND key IN (
                SELECT key FROM lookups
                WHERE service = :service AND next_attempt_at IS NULL AND {self._database.among("key")}
                ORDER BY key {self._lock}
            )
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            values = {"service": service, "keys": to_json(list(keys)), "now": now, "is_refresh": is_refresh}
            connection.execute(_sql(statement), values)

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
            rows = connection.execute(_sql(statement), parameters).all()
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
            connection.execute(_sql(statement), {"service": service, "now": now})

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
            connection.execute(_sql(statement), parameters)

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
            return set(connection.execute(_sql(statement), parameters).scalars())

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

    def finish(self, connection: Connection, service: str, outcomes: Iterable[Outcome]) -> None:
        """Close (answers) or put off (everything else) claimed rows, in the caller's transaction.

        `deferred` means that nothing was asked and does not count as an attempt. What was closed meanwhile no
        failure opens again.
        """
        statement = _sql(
            """
            UPDATE lookups SET
                status = :status, next_attempt_at = :next_attempt_at, valid_until = :valid_until,
                ready = false, claimed_by = NULL, claim_expires_at = NULL, last_error = :detail,
                has_news = true, updated_at = :now, attempts = attempts + :tried
            WHERE service = :service AND key = :key
              AND (next_attempt_at IS NOT NULL OR :next_attempt_at IS NULL)
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

    def close(
        self,
        connection: Connection,
        keys: Sequence[str],
        status: LookupStatus,
        *,
        service: str | None = None,
        claimed: bool = False,
    ) -> None:
        """Close the open lookups of keys, at one service or at all, in the caller's transaction.

        Who is just asking about one closes it himself, unless `claimed` says that it must not be asked about.
        """
        statement = f"""
            UPDATE lookups
            SET status = :status, next_attempt_at = NULL, ready = false, claimed_by = NULL,
                claim_expires_at = NULL, updated_at = :now
            WHERE (service, key) IN (
                SELECT service, key FROM lookups
                WHERE next_attempt_at IS NOT NULL AND {self._database.among("key")}
                  {"AND service = :service" if service else ""}
                  {"" if claimed else "AND (claim_expires_at IS NULL OR claim_expires_at <= :now)"}
                ORDER BY service, key {self._lock}
            )
        """
        values = {"keys": to_json(list(keys)), "status": status.value, "now": self._database.now(connection)}
        connection.execute(_sql(statement), values | ({"service": service} if service else {}))

    @survives_outage
    def leave(self) -> dict[str, int]:
        """Close what was never asked and whose key nobody has seen for `UNSEEN_FOR`; how many, by service.

        It was opened as long ago, too: a backfill of old days gets its turn like others.
        """
        statement = f"""
            UPDATE lookups
            SET next_attempt_at = NULL, ready = false,
                last_error = :reason, has_news = true, updated_at = :now
            WHERE (service, key) IN (
                SELECT service, key FROM lookups
                WHERE ready AND attempts = 0 AND opened_at < :opened_before AND last_day < :seen_before
                ORDER BY service, key {self._skip_locked}
            ) RETURNING service
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            before = now - UNSEEN_FOR
            values = {"now": now, "opened_before": before, "seen_before": before.date(), "reason": LEFT}
            services = connection.execute(_sql(statement), values).scalars().all()
        return {service: services.count(service) for service in sorted(set(services))}

    @survives_outage
    def news(self, services: Collection[str], limit: int) -> list[News]:
        """Lookups that ended, whose outcome is not in the rows of their sessions yet; see `written`."""
        statement = f"""
            SELECT service, key, updated_at FROM lookups WHERE has_news AND {self._database.among("service")}
            ORDER BY service, key LIMIT :limit
        """
        with self._database.read() as connection:
            clause = _sql(statement).columns(updated_at=UtcDateTime())
            rows = connection.execute(clause, {"keys": to_json(list(services)), "limit": limit})
            return [News(*row) for row in rows]

    def written(self, connection: Connection, news: Iterable[News]) -> None:
        """The outcomes are in the rows, in the caller's transaction; what ended anew meanwhile stays news."""
        statement = _sql("""
            UPDATE lookups SET has_news = false
            WHERE service = :service AND key = :key AND updated_at <= :since
        """)
        rows = [{"service": service, "key": key, "since": ended_at} for service, key, ended_at in news]
        if rows:
            connection.execute(statement, rows)

    @survives_outage
    def attempts(self, service: str, keys: Sequence[str]) -> dict[str, int]:
        """How often each open key was asked in vain so far."""
        statement = (
            f"SELECT key, attempts FROM lookups WHERE service = :service AND {self._database.among('key')}"
        )
        with self._database.read() as connection:
            rows = connection.execute(text(statement), {"service": service, "keys": to_json(list(keys))})
            return {row.key: row.attempts for row in rows}

    @survives_outage
    def open_among(self, service: str, among: Among) -> OpenLookups:
        """Count the open rows of some keys of a service; see `backlog` for all of them."""
        statement = f"""
            SELECT
                coalesce(sum(CASE WHEN claim_expires_at > :now THEN 1 ELSE 0 END), 0) AS claimed,
                coalesce(sum(CASE WHEN (claim_expires_at IS NULL OR claim_expires_at <= :now)
                              AND next_attempt_at <= :now THEN 1 ELSE 0 END), 0) AS due,
                count(*) AS total,
                min(CASE WHEN next_attempt_at > :now THEN next_attempt_at END) AS next_attempt_at
            FROM lookups WHERE service = :service AND next_attempt_at IS NOT NULL AND {among.condition}
        """
        with self._database.read() as connection:
            parameters = {"service": service, "now": self._database.now(connection), **among.parameters}
            clause = _sql(statement).columns(next_attempt_at=UtcDateTime())
            row = connection.execute(clause, parameters).one()
        return OpenLookups(
            due=int(row.due),
            claimed=int(row.claimed),
            later=int(row.total) - int(row.due) - int(row.claimed),
            next_attempt_at=row.next_attempt_at,
        )

    @survives_outage
    def backlog(self) -> dict[str, OpenLookups]:
        """The open rows of every service that has any; costs the same however many there are."""
        return {
            service: self._open_of(service, volume.open)
            for service, volume in sorted(self.counts.volumes().items())
            if volume.open
        }

    def backlog_of(self, service: str) -> OpenLookups:
        """The open rows of one service; as cheap as `backlog`."""
        volume = self.counts.volumes().get(service)
        return self._open_of(service, volume.open if volume else 0)

    def _open_of(self, service: str, total: int) -> OpenLookups:
        asleep = """
            SELECT count(*) AS later, min(next_attempt_at) AS next_attempt_at FROM lookups
            WHERE service = :service AND next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL
              AND next_attempt_at > :now
        """
        claimed = """
            SELECT count(*) FROM lookups
            WHERE claimed_by IS NOT NULL AND service = :service AND claim_expires_at > :now
        """
        with self._database.read() as connection:
            values = {"service": service, "now": self._database.now(connection)}
            waiting = connection.execute(_sql(asleep).columns(next_attempt_at=UtcDateTime()), values).one()
            busy = int(connection.execute(_sql(claimed), values).scalar_one())
        later = int(waiting.later)
        return OpenLookups(max(0, total - later - busy), busy, later, waiting.next_attempt_at)

    @survives_outage
    def statuses(self, service: str, keys: Sequence[str]) -> dict[str, LastStatus]:
        """The last known status of each key that has ever been queued."""
        statement = (
            "SELECT key, status, CASE WHEN next_attempt_at IS NULL THEN last_error END AS detail "
            f"FROM lookups WHERE service = :service AND {self._database.among('key')}"
        )
        with self._database.read() as connection:
            rows = connection.execute(text(statement), {"service": service, "keys": to_json(list(keys))})
            return {row.key: LastStatus(LookupStatus(row.status), row.detail) for row in rows}

    @survives_outage
    def why_open(self, service: str, among: Among) -> str:
        """What most of the open rows of some keys of a service wait for; empty if none is open."""
        statement = f"""
            SELECT status, last_error FROM lookups
            WHERE service = :service AND next_attempt_at IS NOT NULL AND {among.condition}
            GROUP BY status, last_error ORDER BY count(*) DESC, status LIMIT 1
        """
        with self._database.read() as connection:
            row = connection.execute(_sql(statement), {"service": service, **among.parameters}).one_or_none()
        if row is None:
            return ""
        return f"{row.status}: {row.last_error}" if row.last_error else str(row.status)


def _greater(column: str) -> str:
    return f"CASE WHEN excluded.{column} > lookups.{column} THEN excluded.{column} ELSE lookups.{column} END"
