"""The lookup queue: the single-flight through which every question to a service goes.

One row per (service, key) in `lookups`. A row is opened when an answer is missing, claimed by one worker at a
time, and closed in the same transaction that stores the answer; so a key is asked once, whoever asks. A
claim lives for `CLAIM_TTL` unless its worker renews it: a killed worker's keys are free again after that.

What waits costs nothing: a claim reads the head of an index of what may be claimed now, in the order of
asking, and counts come from `LookupCounts`. That a service is held is the limiter's to know, not the rows'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Date, text

from cowrie_enrich_dagster.lookups.claims import Claiming
from cowrie_enrich_dagster.lookups.model import LEFT, UNSEEN_FOR, News, Outcome, Wanted, queue_sql
from cowrie_enrich_dagster.lookups.order import CLASS_STEP
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import LookupStatus


class LookupQueue(Claiming):
    """The queue in one database, shared by every thread, process and container that uses it.

    Here rows are opened and closed; `Claiming` is what a worker does with them, `Waiting` what can be seen.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        if database.is_sqlite:
            self._wanted = (
                "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS priority, "
                "json_extract(value, '$[2]') AS last_day, json_extract(value, '$[3]') AS purpose "
                "FROM json_each(:rows)"
            )
            self._greater = "max"
        else:
            self._wanted = (
                "SELECT item->>0 AS key, (item->>1)::int AS priority, (item->>2)::date AS last_day, "
                "item->>3 AS purpose "
                "FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS item"
            )
            self._greater = "greatest"
        # Materialized: else SQLite reads the keys anew for every row of the service.
        self._with_wanted = f"WITH wanted AS MATERIALIZED ({self._wanted})"

    @survives_outage
    def open(self, service: str, wanted: Iterable[Wanted]) -> set[str]:
        """Open a row for each wanted key that is neither open nor validly answered; a few thousand at a time.

        A row that is open already may rise in the order, and what failed before is due again; it says what it
        is asked for this time, and falls where that is worth less. Rows that stay
        as they are are not written. Returns the keys that are closed and stay so: another worker answered
        them since the caller looked into the cache.
        """
        rows = self._changing(service, wanted)
        if not rows:
            return set()
        of_rows = f"service = :service AND {self._database.among('key')}"
        values: dict[str, object] = {
            "service": service,
            "rows": to_json(rows),
            "keys": to_json([row[0] for row in rows]),
        }
        with self._database.write() as connection:
            values["now"] = self._database.now(connection)
            if connection.execute(queue_sql(self._insertion()), values).rowcount == len(rows):
                return set()
            if self._lock:  # in one order: two planners that lock the same rows cannot deadlock
                connection.execute(
                    text(f"SELECT key FROM lookups WHERE {of_rows} ORDER BY key {self._lock}"), values
                )
            for change in (self._new_question(), self._next_try(of_rows), self._new_purpose(), self._rise()):
                connection.execute(queue_sql(change), values)
            closed = text(f"SELECT key FROM lookups WHERE next_attempt_at IS NULL AND {of_rows}")
            return set(connection.execute(closed, values).scalars())

    def _changing(self, service: str, wanted: Iterable[Wanted]) -> list[tuple[Any, ...]]:
        """What of the wanted is not open as it should be: on a live day nearly all is."""
        wanted = list(wanted)
        statement = text(f"""
            SELECT key, priority, last_day, asked_for FROM {self._database.rows_among("lookups", "key")}
              AND service = :service
              AND next_attempt_at IS NOT NULL AND (ready OR claimed_by IS NOT NULL)
        """).columns(last_day=Date())
        with self._database.read() as connection:
            values = {"service": service, "keys": to_json([want.key for want in wanted])}
            held = {key: of_key for key, *of_key in connection.execute(statement, values).all()}
        changing = []
        for want in wanted:
            key, priority, last_day, purpose = want
            stands = held.get(key)
            if stands is None or (
                priority > stands[0] or last_day > stands[1] or (purpose or "") != (stands[2] or "")
            ):
                changing.append(tuple(want))  # as JSON has it
        return changing

    def _insertion(self) -> str:
        """Keys that were never asked about."""
        return f"""
            INSERT INTO lookups (service, key, priority, value_class, last_day, is_refresh, ready, status,
                attempts, next_attempt_at, created_at, opened_at, updated_at, asked_for)
            SELECT :service, key, priority, priority / {CLASS_STEP}, last_day, false, true, 'deferred',
                0, :now, :now, :now, :now, purpose
            FROM ({self._wanted}) AS wanted WHERE true ORDER BY key
            ON CONFLICT (service, key) DO NOTHING
        """

    def _new_question(self) -> str:
        """Closed rows that have no answer, or one that has expired: they are opened as new ones are."""
        return f"""
            {self._with_wanted}
            UPDATE lookups
            SET next_attempt_at = :now, ready = true, is_refresh = (valid_until IS NOT NULL),
                status = 'deferred', last_error = NULL, attempts = 0, opened_at = :now, updated_at = :now,
                asked_for = wanted.purpose
            FROM wanted
            WHERE lookups.service = :service AND lookups.key = wanted.key
              AND lookups.next_attempt_at IS NULL
              AND (lookups.valid_until IS NULL OR lookups.valid_until <= :now)
        """

    @staticmethod
    def _next_try(of_rows: str) -> str:
        """Open rows that failed and wait: who plans again may have mended the cause, or got a better key."""
        return f"""
            UPDATE lookups SET next_attempt_at = :now, ready = true
            WHERE {of_rows} AND next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL
              AND (attempts < 5 OR status IN ('deferred', 'rate_limited'))
        """

    def _new_purpose(self) -> str:
        """Open rows that are to be asked for other columns than before: they are worth what those are."""
        value_class = f"{self._greater}(lookups.value_class, wanted.priority / {CLASS_STEP})"
        return f"""
            {self._with_wanted}
            UPDATE lookups
            SET asked_for = wanted.purpose, value_class = {value_class},
                priority = {value_class} * {CLASS_STEP} + wanted.priority % {CLASS_STEP}
            FROM wanted
            WHERE lookups.service = :service AND lookups.key = wanted.key
              AND lookups.next_attempt_at IS NOT NULL
              AND coalesce(lookups.asked_for, '') <> coalesce(wanted.purpose, '')
        """

    def _rise(self) -> str:
        """Open rows whose key is worth more, or was seen later, than it was when they were opened."""
        greater = self._greater
        return f"""
            {self._with_wanted}
            UPDATE lookups
            SET priority = {greater}(lookups.priority, wanted.priority),
                value_class = {greater}(lookups.value_class, wanted.priority / {CLASS_STEP}),
                last_day = {greater}(lookups.last_day, wanted.last_day)
            FROM wanted
            WHERE lookups.service = :service AND lookups.key = wanted.key
              AND lookups.next_attempt_at IS NOT NULL
              AND (wanted.priority > lookups.priority OR wanted.last_day > lookups.last_day)
        """

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
            connection.execute(queue_sql(statement), values)

    def finish(self, connection: Connection, service: str, outcomes: Iterable[Outcome]) -> None:
        """Close (answers) or put off (everything else) claimed rows, in the caller's transaction.

        `deferred` means that nothing was asked and does not count as an attempt. What was closed meanwhile no
        failure opens again.
        """
        statement = queue_sql(
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
        but: Sequence[str] = (),
        claimed: bool = False,
    ) -> None:
        """Close the open lookups of keys, at one service or at all `but` some, in the caller's transaction.

        Who is just asking about one closes it himself, unless `claimed` says that it must not be asked about.
        """
        others = {f"but_{number}": name for number, name in enumerate(but)}
        statement = f"""
            UPDATE lookups
            SET status = :status, next_attempt_at = NULL, ready = false, claimed_by = NULL,
                claim_expires_at = NULL, updated_at = :now
            WHERE (service, key) IN (
                SELECT service, key FROM lookups
                WHERE next_attempt_at IS NOT NULL AND {self._database.among("key")}
                  {"AND service = :service" if service else ""}
                  {f"AND service NOT IN ({', '.join(f':{name}' for name in others)})" if others else ""}
                  {"" if claimed else "AND (claim_expires_at IS NULL OR claim_expires_at <= :now)"}
                ORDER BY service, key {self._lock}
            )
        """
        values = {"keys": to_json(list(keys)), "status": status.value, "now": self._database.now(connection)}
        values |= {"service": service} if service else others
        connection.execute(queue_sql(statement), values)

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
            services = connection.execute(queue_sql(statement), values).scalars().all()
        return {service: services.count(service) for service in sorted(set(services))}

    def written(self, connection: Connection, news: Iterable[News]) -> None:
        """The outcomes are in the rows, in the caller's transaction; what ended anew meanwhile stays news."""
        statement = queue_sql("""
            UPDATE lookups SET has_news = false
            WHERE service = :service AND key = :key AND updated_at <= :since
        """)
        rows = [{"service": service, "key": key, "since": ended_at} for service, key, ended_at in news]
        if rows:
            connection.execute(statement, rows)
