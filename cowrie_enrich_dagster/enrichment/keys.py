"""What there is to ask about in some sessions: addresses, file hashes, password prefixes, and its worth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Date, MetaData, Row, Table, Text, bindparam, func, select, text

from cowrie_enrich_dagster.lookups.model import Among, Wanted
from cowrie_enrich_dagster.lookups.order import BY_WORTH, CLASS_STEP
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import FREE, Service
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import UtcDateTime, moment_of
from cowrie_enrich_dagster.storage.temporary import make_anew
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Scope, Subject

PREFIX_CHARS = 5
"""How much of a password's SHA-1 leaves the machine (HIBP's k-anonymity)."""

ROWS_AT_ONCE = 5_000
_ARRAYS = {Subject.FILE_SHA256: "file_hashes", Subject.PASSWORD_SHA1_PREFIX: "passwords_sha1"}
"""The JSON arrays of `sessions` in which these keys, or what they are cut from, stand."""
_SCOPES = {scope.value: scope for scope in Scope}


def rows_that_may_be_sent(service: Service) -> str:
    """As `Key.may_be_sent_to`, a condition in SQL on rows of `session_ips AS a`."""
    is_global = f"a.scope = '{Scope.GLOBAL.value}'"
    return is_global if service.is_free else f"{is_global} AND NOT a.known_scanner AND a.scanner_list IS NULL"


def close_unsent(
    queue: LookupQueue, connection: Connection, never: Sequence[str], scanners: Collection[str]
) -> None:
    """End, unasked, the lookups that were open about what may not be sent: not global, or a scanner's."""
    queue.close(connection, never, LookupStatus.SKIPPED_POLICY, claimed=True)
    queue.close(connection, list(scanners), LookupStatus.SKIPPED_POLICY, but=FREE, claimed=True)


class Key(NamedTuple):
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
        """Whether a service may be asked about it.

        Lists of scanners spare calls: whom an address more costs none is asked all the same. The rule is said
        here, of many in `that_may_be_sent`, as SQL in `rows_that_may_be_sent`, and of what is open in
        `close_unsent`.
        """
        return self.scope is Scope.GLOBAL and (service.is_free or not self.is_scanner)

    @property
    def wanted(self) -> Wanted:
        """It as the queue takes it."""
        return Wanted(self.value, self.priority, self.last_day)


def that_may_be_sent(keys: Iterable[Key], service: Service) -> list[Key]:
    """Those of the keys that a service may be asked about, as `Key.may_be_sent_to` says."""
    known = [key for key in keys if key.scope is Scope.GLOBAL]
    if service.is_free:
        return known
    return [key for key in known if not key.known_scanner and key.scanner_list is None]


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
        # Of one day the addresses stand in order of their keys: nothing is to be sorted to count each once.
        addresses = "a.day = :first" if days.first == days.last else span.format("a")
        return cls(span.format("s"), addresses, {"first": days.first, "last": days.last})

    def bound(self, statement: str) -> Any:
        """A statement with these conditions in it, ready to be executed."""
        told = {name: day for name, day in self.parameters.items() if f":{name}" in statement}
        return text(statement).bindparams(*(bindparam(name, day, Date) for name, day in told.items()))


TOUCHED = Chosen(
    "(s.sensor, s.session_id, s.started_at) IN (SELECT sensor, session_id, started_at FROM touched)",
    "a.src_ip IN (SELECT src_ip FROM touched)",
    {},
)
"""The sessions in the temporary table that `touch` makes."""


def touched_of(day: date) -> Chosen:
    """Those of a day. An address is what that day's row says: those of other days may follow former lists."""
    return replace(TOUCHED, addresses=f"a.day = '{day}' AND {TOUCHED.addresses}")


EVERY_SESSION = Chosen("true", "true", {})


_SESSIONS_TOUCHED = Table(
    "touched", MetaData(),
    *(Column(name, Text, primary_key=True) for name in ("sensor", "session_id")),
    Column("started_at", UtcDateTime, primary_key=True), Column("day", Date), Column("src_ip", Text),
    prefixes=["TEMPORARY"],
)  # fmt: skip


def touch_none(connection: Connection) -> None:
    """Make the temporary table `touched` of sessions, without any."""
    make_anew(connection, _SESSIONS_TOUCHED)


def all_touched(connection: Connection) -> list[Row[Any]]:
    """The rows of `touched`, as `touch_again` takes them."""
    return list(connection.execute(select(_SESSIONS_TOUCHED)).all())


def number_touched(connection: Connection) -> int:
    """How many rows `touched` has."""
    return connection.execute(select(func.count()).select_from(_SESSIONS_TOUCHED)).scalar_one()


def touch_again(connection: Connection, rows: Iterable[Row[Any]]) -> None:
    """Add the rows of a former `touched`."""
    insert_rows(connection, _SESSIONS_TOUCHED, list(_SESSIONS_TOUCHED.columns.keys()), rows)


def touch(
    database: Database,
    connection: Connection,
    news: Mapping[Subject, Sequence[str]],
    days: Days | None = None,
) -> None:
    """Add the sessions (of some days) in which these keys occur to `touched`."""
    span = "s.day BETWEEN :first AND :last AND" if days else ""
    for subject, keys in news.items():
        if not keys:
            continue
        if subject is Subject.IP:
            source, key = "sessions AS s", "s.src_ip"
        else:
            source, key = _items(database, subject), _value(subject)
        statement = text(f"""
            INSERT INTO touched SELECT DISTINCT s.sensor, s.session_id, s.started_at, s.day, s.src_ip
            FROM {source} WHERE {span} {database.among(key)} ON CONFLICT DO NOTHING
        """)
        if days:
            bounds = {"first": days.first, "last": days.last}
            statement = statement.bindparams(*(bindparam(name, day, Date) for name, day in bounds.items()))
        connection.execute(statement, {"keys": to_json(list(keys))})


def days_touched(connection: Connection) -> list[date]:
    """The days of the sessions in `touched`."""
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
        array = _ARRAYS[subject]
        # What was brought or tried together mostly was so in many sessions: each array is taken apart once.
        keys = f"""
            SELECT {_value(subject)} AS key, '{Scope.GLOBAL.value}' AS scope,
                CAST(CASE WHEN sum(s.sessions) < {CLASS_STEP} THEN sum(s.sessions) ELSE {CLASS_STEP - 1} END
                    AS integer) AS priority,
                sum(s.sessions) AS sessions, min(s.first_seen) AS first_seen, max(s.last_day) AS last_day,
                0 AS known_scanner, NULL AS scanner_list
            FROM (
                SELECT s.{array}, count(*) AS sessions,
                    min(s.started_at) AS first_seen, max(s.day) AS last_day
                FROM sessions AS s WHERE s.{array} <> '[]' AND {chosen.sessions} GROUP BY s.{array}
            ) AS s JOIN {_each(database)}(s.{array}) AS item ON true GROUP BY {_value(subject)}
        """
    statement = chosen.bound(f"""
        SELECT key, scope, priority, CAST(sessions AS bigint), first_seen, last_day, known_scanner,
            scanner_list
        FROM (
            SELECT *, priority / {CLASS_STEP} AS value_class, false AS is_refresh FROM ({keys}) AS keys
        ) AS classed ORDER BY {BY_WORTH}
    """)
    day = _day if database.is_sqlite else _as_it_is
    rows = connection.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    for page in rows.partitions():
        for key, scope, priority, sessions, first_seen, last_day, scanner, on_list in page:
            yield Key(
                key,
                _SCOPES[scope],
                priority,
                sessions,
                moment_of(first_seen),
                day(last_day),
                scanner == 1,
                on_list,
            )


_day = lru_cache(date.fromisoformat)
"""Few days are told of many keys."""


def _as_it_is(value: Any) -> Any:
    return value


def occurring(database: Database, days: Days, subject: Subject) -> Among:
    """The keys of these days, as a condition on the queue's rows."""
    chosen = Chosen.of_days(days)
    if subject is Subject.IP:
        keys = "SELECT src_ip FROM session_ips WHERE day BETWEEN :first AND :last"
    else:
        source = _items(database, subject)
        keys = f"SELECT {_value(subject)} FROM {source} WHERE {chosen.sessions}"
    return Among(f"key IN ({keys})", chosen.parameters)


def password_hashes(database: Database, connection: Connection, chosen: Chosen) -> list[str]:
    """The distinct SHA-1 hashes (upper-case hex) of the passwords tried in the chosen sessions."""
    source = _items(database, Subject.PASSWORD_SHA1_PREFIX)
    statement = f"SELECT DISTINCT item.value FROM {source} WHERE {chosen.sessions}"
    return list(connection.execute(chosen.bound(statement)).scalars())


def keys_seen_since(
    database: Database, connection: Connection, subject: Subject, keys: Sequence[str], day: date
) -> set[str]:
    """Which of the keys occur on the day or later."""
    if subject is Subject.IP:
        source, of_day, key = "session_ips AS a", "a.day", "a.src_ip"
    else:
        source = _items(database, subject)
        of_day, key = "s.day", _value(subject)
    statement = f"SELECT DISTINCT {key} FROM {source} WHERE {of_day} >= :day AND {database.among(key)}"
    clause = text(statement).bindparams(bindparam("day", day, Date))
    return set(connection.execute(clause, {"keys": to_json(list(keys))}).scalars())


def _items(database: Database, subject: Subject) -> str:
    """SQL: `sessions AS s` with each `item.value` of the array in which keys of the subject stand."""
    array = f"s.{_ARRAYS[subject]}"
    # Most are empty, which is cheaper to see than to take apart.
    return f"sessions AS s JOIN {_each(database)}({array}) AS item ON {array} <> '[]'"


def _each(database: Database) -> str:
    return "json_each" if database.is_sqlite else "jsonb_array_elements_text"


def _value(subject: Subject) -> str:
    return "item.value" if subject is Subject.FILE_SHA256 else f"substr(item.value, 1, {PREFIX_CHARS})"
