"""What there is to ask about in some sessions: addresses, file hashes, password prefixes, and its worth."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Date, bindparam, text

from cowrie_enrich_dagster.lookups.model import Among, Wanted
from cowrie_enrich_dagster.lookups.order import BY_WORTH, CLASS_STEP
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import FREE, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Scope, Subject

PREFIX_CHARS = 5
"""How much of a password's SHA-1 leaves the machine (HIBP's k-anonymity)."""

ROWS_AT_ONCE = 5_000
_ARRAYS = {Subject.FILE_SHA256: "file_hashes", Subject.PASSWORD_SHA1_PREFIX: "passwords_sha1"}
"""The JSON arrays of `sessions` in which these keys, or what they are cut from, stand."""


def may_be_sent(service: Service, scope: Scope, is_scanner: bool) -> bool:
    """Whether a service may be asked about what is of this scope, and on a list of scanners or not.

    Such lists spare calls: whom an address more costs none is asked all the same. The rule is said here, and
    of rows of `session_ips AS a` in `rows_that_may_be_sent`, and of what is open in `close_unsent`.
    """
    return scope is Scope.GLOBAL and (service.is_free or not is_scanner)


def rows_that_may_be_sent(service: Service) -> str:
    """The same as a condition in SQL."""
    is_global = f"a.scope = '{Scope.GLOBAL.value}'"
    return is_global if service.is_free else f"{is_global} AND NOT a.known_scanner AND a.scanner_list IS NULL"


def close_unsent(
    queue: LookupQueue, connection: Connection, never: Sequence[str], scanners: Collection[str]
) -> None:
    """End, unasked, the lookups that were open about what may not be sent: not global, or a scanner's."""
    queue.close(connection, never, LookupStatus.SKIPPED_POLICY, claimed=True)
    queue.close(connection, list(scanners), LookupStatus.SKIPPED_POLICY, but=FREE, claimed=True)


@dataclass(frozen=True)
class Key:
    """One distinct key: what it is worth, in how many sessions it occurs, when the first of them began.

    `last_day` is the newest UTC day on which it was seen. `scanner_list` is the scanners' list that holds it.
    """

    value: str
    scope: Scope
    priority: int
    sessions: int
    first_seen: datetime
    last_day: date
    known_scanner: bool = False
    scanner_list: str | None = None

    @property
    def is_scanner(self) -> bool:
        """Whether it is on the operator's list of scanners, or on somebody's now."""
        return self.known_scanner or self.scanner_list is not None

    @property
    def business(self) -> int:
        """What it is worth within its class."""
        return self.priority % CLASS_STEP

    def may_be_sent_to(self, service: Service) -> bool:
        """Whether a service may be asked about it."""
        return may_be_sent(service, self.scope, self.is_scanner)

    @property
    def wanted(self) -> Wanted:
        """It as the queue takes it."""
        return Wanted(self.value, self.priority, self.last_day)


@dataclass(frozen=True)
class Chosen:
    """Some sessions: an SQL condition on `sessions AS s`, one on `session_ips AS a`, and their parameters."""

    sessions: str
    addresses: str
    parameters: Mapping[str, Any]

    @classmethod
    def of_days(cls, days: Days) -> Chosen:
        """The sessions that began on these days."""
        span = "{}.day BETWEEN :first AND :last"
        return cls(span.format("s"), span.format("a"), {"first": days.first, "last": days.last})

    def bound(self, statement: str) -> Any:
        """A statement with these conditions in it, ready to be executed."""
        clause = text(statement)
        return clause.bindparams(*(bindparam(name, value, Date) for name, value in self.parameters.items()))


TOUCHED = Chosen(
    "(s.sensor, s.session_id, s.started_at) IN (SELECT sensor, session_id, started_at FROM touched)",
    "a.src_ip IN (SELECT src_ip FROM touched)",
    {},
)
"""The sessions in the temporary table that `touch` makes."""


EVERY_SESSION = Chosen("true", "true", {})


def touch(database: Database, connection: Connection, news: Mapping[Subject, Sequence[str]]) -> list[date]:
    """Make the temporary table `touched` of the sessions in which these keys occur; returns their days."""
    array, moment = _each(database), "text" if database.is_sqlite else "timestamptz"
    connection.execute(text("DROP TABLE IF EXISTS touched"))
    connection.execute(
        text(f"CREATE TEMPORARY TABLE touched (sensor text, session_id text, started_at {moment}, day date, "
             "src_ip text, PRIMARY KEY (sensor, session_id, started_at))")
    )  # fmt: skip
    for subject, keys in news.items():
        if subject is Subject.IP:
            source, key = "sessions AS s", "s.src_ip"
        else:
            source, key = f"sessions AS s, {array}(s.{_ARRAYS[subject]}) AS item", _value(subject)
        connection.execute(
            text(f"""
                INSERT INTO touched SELECT DISTINCT s.sensor, s.session_id, s.started_at, s.day, s.src_ip
                FROM {source} WHERE {database.among(key)} ON CONFLICT DO NOTHING
            """),
            {"keys": to_json(list(keys))},
        )
    days = text("SELECT DISTINCT day FROM touched ORDER BY day").columns(day=Date())
    return list(connection.execute(days).scalars())


def keys_of(database: Database, connection: Connection, chosen: Chosen, subject: Subject) -> Iterator[Key]:
    """The distinct keys of the chosen sessions, in the order of asking, `ROWS_AT_ONCE` held at a time."""
    if subject is Subject.IP:
        keys = f"""
            SELECT a.src_ip AS key, max(a.scope) AS scope, max(a.priority) AS priority,
                sum(a.sessions) AS sessions, min(a.first_seen) AS first_seen, max(a.day) AS last_day,
                max(CASE WHEN a.known_scanner THEN 1 ELSE 0 END) AS known_scanner,
                max(a.scanner_list) AS scanner_list
            FROM session_ips AS a WHERE {chosen.addresses} GROUP BY a.src_ip
        """
    else:
        keys = f"""
            SELECT {_value(subject)} AS key, '{Scope.GLOBAL.value}' AS scope,
                CASE WHEN count(*) < {CLASS_STEP} THEN count(*) ELSE {CLASS_STEP - 1} END AS priority,
                count(*) AS sessions, min(s.started_at) AS first_seen, max(s.day) AS last_day,
                0 AS known_scanner, NULL AS scanner_list
            FROM sessions AS s, {_each(database)}(s.{_ARRAYS[subject]}) AS item
            WHERE {chosen.sessions} GROUP BY {_value(subject)}
        """
    statement = chosen.bound(f"""
        SELECT key, scope, priority, sessions, first_seen, last_day, known_scanner, scanner_list,
            priority / {CLASS_STEP} AS value_class, false AS is_refresh
        FROM ({keys}) AS keys ORDER BY {BY_WORTH}
    """).columns(first_seen=UtcDateTime(), last_day=Date())
    rows = connection.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    for key, scope, priority, sessions, first_seen, last_day, scanner, scanner_list, *_ in rows:
        yield Key(
            key, Scope(scope), int(priority), int(sessions), first_seen, last_day, bool(scanner), scanner_list
        )


def occurring(database: Database, days: Days, subject: Subject) -> Among:
    """The keys of these days, as a condition on the queue's rows."""
    chosen = Chosen.of_days(days)
    if subject is Subject.IP:
        keys = f"SELECT a.src_ip FROM session_ips AS a WHERE {chosen.addresses}"
    else:
        source = f"sessions AS s, {_each(database)}(s.{_ARRAYS[subject]}) AS item"
        keys = f"SELECT {_value(subject)} FROM {source} WHERE {chosen.sessions}"
    return Among(f"key IN ({keys})", chosen.parameters)


def password_hashes(database: Database, connection: Connection, chosen: Chosen) -> list[str]:
    """The distinct SHA-1 hashes (upper-case hex) of the passwords tried in the chosen sessions."""
    source = f"sessions AS s, {_each(database)}(s.passwords_sha1) AS item"
    statement = f"SELECT DISTINCT item.value FROM {source} WHERE {chosen.sessions}"
    return list(connection.execute(chosen.bound(statement)).scalars())


def keys_seen_since(
    database: Database, connection: Connection, subject: Subject, keys: Sequence[str], day: date
) -> set[str]:
    """Which of the keys occur on the day or later."""
    if subject is Subject.IP:
        source, of_day, key = "session_ips AS a", "a.day", "a.src_ip"
    else:
        source = f"sessions AS s, {_each(database)}(s.{_ARRAYS[subject]}) AS item"
        of_day, key = "s.day", _value(subject)
    statement = f"SELECT DISTINCT {key} FROM {source} WHERE {of_day} >= :day AND {database.among(key)}"
    clause = text(statement).bindparams(bindparam("day", day, Date))
    return set(connection.execute(clause, {"keys": to_json(list(keys))}).scalars())


def _each(database: Database) -> str:
    """The SQL function that makes rows with the column `value` of a JSON array."""
    return "json_each" if database.is_sqlite else "jsonb_array_elements_text"


def _value(subject: Subject) -> str:
    return "item.value" if subject is Subject.FILE_SHA256 else f"substr(item.value, 1, {PREFIX_CHARS})"
