"""Looking at the queue: how much is open, what keys wait for, what ended. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from sqlalchemy import text

from cowrie_enrich_dagster.lookups.counts import LookupCounts
from cowrie_enrich_dagster.lookups.model import Among, LastStatus, News, OpenLookups, queue_sql
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import LookupStatus


class Waiting:
    """What is open, and what became of the rest; `LookupQueue` adds what changes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counts = LookupCounts(database)

    def keys(self, keys: Iterable[str]) -> Among:
        """Just these keys; some hundreds at most, for they travel with every statement."""
        return Among(self._database.among("key"), {"keys": to_json(list(keys))})

    @survives_outage
    def news(self, services: Collection[str], limit: int) -> list[News]:
        """Lookups that ended, whose outcome is not in the rows of their sessions yet; see `written`."""
        statement = f"""
            SELECT service, key, updated_at FROM lookups WHERE has_news AND {self._database.among("service")}
            ORDER BY service, key LIMIT :limit
        """
        with self._database.read() as connection:
            clause = queue_sql(statement).columns(updated_at=UtcDateTime())
            rows = connection.execute(clause, {"keys": to_json(list(services)), "limit": limit})
            return [News(*row) for row in rows]

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
            clause = queue_sql(statement).columns(next_attempt_at=UtcDateTime())
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
            waiting = connection.execute(
                queue_sql(asleep).columns(next_attempt_at=UtcDateTime()), values
            ).one()
            busy = int(connection.execute(queue_sql(claimed), values).scalar_one())
        later = int(waiting.later)
        return OpenLookups(max(0, total - later - busy), busy, later, waiting.next_attempt_at)

    def statuses(self, service: str, keys: Sequence[str]) -> dict[str, LastStatus]:
        """The last known status of each key that has ever been queued."""
        return self._statuses(service, keys, "true")

    def told_statuses(self, service: str, keys: Sequence[str]) -> dict[str, LastStatus]:
        """The same, but for what is open and waits for its turn: on a live day that is nearly all."""
        return self._statuses(service, keys, "(next_attempt_at IS NULL OR status <> 'deferred')")

    @survives_outage
    def _statuses(self, service: str, keys: Sequence[str], those: str) -> dict[str, LastStatus]:
        statement = (
            "SELECT key, status, CASE WHEN next_attempt_at IS NULL THEN last_error END AS detail "
            f"FROM {self._database.rows_among('lookups', 'key')} AND service = :service AND {those}"
        )
        with self._database.read() as connection:
            values = {"service": service, "keys": to_json(list(dict.fromkeys(keys)))}
            rows = connection.execute(text(statement), values).all()
            ended = lru_cache(lambda status, detail: LastStatus(LookupStatus(status), detail))  # few differ
            return {key: ended(status, detail) for key, status, detail in rows}

    @survives_outage
    def why_open(self, service: str, among: Among) -> LastStatus | None:
        """What most of the open rows of some keys of a service wait for; None if none is open."""
        statement = f"""
            SELECT status, last_error FROM lookups
            WHERE service = :service AND next_attempt_at IS NOT NULL AND {among.condition}
            GROUP BY status, last_error ORDER BY count(*) DESC, status LIMIT 1
        """
        with self._database.read() as connection:
            values = {"service": service, **among.parameters}
            row = connection.execute(queue_sql(statement), values).one_or_none()
        return None if row is None else LastStatus(LookupStatus(row.status), row.last_error)
