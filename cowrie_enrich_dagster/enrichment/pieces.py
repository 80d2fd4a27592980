"""What a day's logs hold of sessions, put in the place of what was known of that day.

A session is the joined pieces of one id on one sensor, and its pieces may lie on any days. Most sessions are
one piece, and their row is all there is of them. Where a session has several, they are kept in
`session_pieces`, so that any day can be read again, alone and in any order: the same logs give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Date,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    literal,
    select,
    text,
    union_all,
)

from cowrie_enrich_dagster.cowrie import NOTHING_DONE, DayOfPieces, Row, Session, sessions_of
from cowrie_enrich_dagster.cowrie.sessions import LISTS
from cowrie_enrich_dagster.enrichment.campaigns import note_sessions_changed
from cowrie_enrich_dagster.enrichment.changed_sessions import note_any_changed, note_some_changed
from cowrie_enrich_dagster.enrichment.growing import begin_reading
from cowrie_enrich_dagster.storage.bulk import insert_packed_rows, insert_plain_rows, insert_rows, upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import (
    MovedDay,
    SessionPiece,
    SessionRecord,
    UtcDateTime,
    table_of,
)
from cowrie_enrich_dagster.storage.temporary import make_anew
from cowrie_enrich_dagster.vocabulary import Days

_SESSIONS, _PIECES, _MOVED = table_of(SessionRecord), table_of(SessionPiece), table_of(MovedDay)
_COLUMNS = Session._fields
_KEYS = "sensor, session_id"
_PLACES = [_COLUMNS.index(name) for name in ("sensor", "session_id")]
_ROWS_AT_ONCE = 1_000
_MET_AGAIN = Table(
    "met_again", MetaData(),
    Column("sensor", Text, primary_key=True), Column("session_id", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)  # fmt: skip
"""The ids whose sessions are made anew of all their pieces."""
_IDS_MET_AGAIN = f"SELECT {_KEYS} FROM met_again"
_IS_MET_AGAIN = f"({_KEYS}) IN ({_IDS_MET_AGAIN})"
_BOTH = union_all(
    *(
        select(literal(is_piece).label("is_piece"), *(table.c[name] for name in _COLUMNS)).where(
            text(_IS_MET_AGAIN)
        )
        for is_piece, table in ((0, _SESSIONS), (1, _PIECES))
    )
).subquery()
_OF_EACH_ID = select(_BOTH).order_by(_BOTH.c.sensor, _BOTH.c.session_id)
_OTHERS = (
    # What stood in several pieces before, or does now.
    f"SELECT {_KEYS} FROM session_pieces WHERE day = :day",
    # What other days hold of the same id.
    """
    SELECT s.sensor, s.session_id FROM sessions AS s JOIN sessions AS o
    ON o.sensor = s.sensor AND o.session_id = s.session_id AND o.started_at <> s.started_at
    WHERE s.day = :day
    """,
    """
    SELECT s.sensor, s.session_id FROM sessions AS s JOIN session_pieces AS p
    ON p.sensor = s.sensor AND p.session_id = s.session_id WHERE s.day = :day
    """,
)


def replace_day(database: Database, of_day: DayOfPieces, days: Days) -> str:
    """Replace what is known of one day; the token of its reading comes back (see `growing`).

    Sessions of other days that it completes or parts are written anew, and those days noted as moved, unless
    they are among `days`, of which the caller will do what follows from `sessions` anyway.
    """
    day = bindparam("day", of_day.day, Date)
    others: list[list[Row]] = []
    with database.write(packed=of_day.packed) as connection:
        _begin(database, connection)
        token = begin_reading(connection, of_day.day, is_alone=days.first == days.last)
        _note_met_again(connection, _OTHERS[0], day)
        connection.execute(delete(_PIECES).where(_PIECES.c.day == of_day.day))
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.day == of_day.day))
        if of_day.packed:
            insert_packed_rows(connection, _SESSIONS, _COLUMNS, of_day.packed, NOTHING_DONE)
        insert_plain_rows(connection, _SESSIONS, _COLUMNS, of_day.alone(others), NOTHING_DONE)
        several = (piece for of_id in others for piece in of_id)
        insert_plain_rows(connection, _PIECES, _COLUMNS, several, NOTHING_DONE)
        for keys in _OTHERS:
            _note_met_again(connection, keys, day)
        if not database.is_sqlite:  # of a table that nobody has looked at thousands of rows are expected
            connection.execute(text("ANALYZE met_again"))
        changed = {of_day.day} | _join_again(connection)
        note_any_changed(connection, changed)
        _end(database, connection, changed, days)
    return token


def add_to_day(
    database: Database, day: date, pieces: Sequence[Sequence[Row]], then: Callable[[Connection], None]
) -> None:
    """Replace what one day holds of some ids, of which all its pieces are given; else as `replace_day`.

    `then` is called at the end of the transaction.
    """
    with database.write() as connection:
        _begin(database, connection)
        if pieces:
            keys = ([of_id[0][place] for place in _PLACES] for of_id in pieces)
            insert_rows(connection, _MET_AGAIN, list(_MET_AGAIN.columns.keys()), keys)
            for table in (_SESSIONS, _PIECES):
                of_day = f"{database.not_by('day')} = :day"
                statement = f"DELETE FROM {table.name} WHERE {of_day} AND {_IS_MET_AGAIN}"
                connection.execute(text(statement).bindparams(bindparam("day", day, Date)))
            alone = (of_id[0] for of_id in pieces if len(of_id) == 1)
            several = (piece for of_id in pieces if len(of_id) > 1 for piece in of_id)
            insert_plain_rows(connection, _SESSIONS, _COLUMNS, alone, NOTHING_DONE)
            insert_plain_rows(connection, _PIECES, _COLUMNS, several, NOTHING_DONE)
            joined = _join_again(connection)
            note_some_changed(database, connection, day, _IDS_MET_AGAIN)
            note_any_changed(connection, joined - {day})
            _end(database, connection, {day} | joined, Days(day, day))
        then(connection)


def day_has(database: Database, day: date, keys: Iterable[tuple[str, str]]) -> bool:
    """Whether the day holds anything of one of these (sensor, id)."""
    if database.is_sqlite:
        wanted = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:keys)"
    else:
        wanted = "SELECT item ->> 0, item ->> 1 FROM jsonb_array_elements(CAST(:keys AS jsonb)) AS item"
    of_day = f"{database.not_by('day')} = :day"
    parts = (
        f"SELECT 1 FROM {t.name} WHERE ({_KEYS}) IN ({wanted}) AND {of_day}" for t in (_SESSIONS, _PIECES)
    )
    found = text(f"SELECT 1 FROM ({' UNION ALL '.join(parts)}) AS held LIMIT 1")
    with database.read() as connection:
        bound = found.bindparams(bindparam("day", day, Date))
        return connection.execute(bound, {"keys": to_json([*keys])}).first() is not None


def _begin(database: Database, connection: Connection) -> None:
    if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('sessions'))"))
    make_anew(connection, _MET_AGAIN)


def _end(database: Database, connection: Connection, changed: set[date], days: Days) -> None:
    note_sessions_changed(database, connection, sorted(changed))
    if moved := changed - set(days):
        now = database.now(connection)
        rows = [(other, now) for other in sorted(moved)]
        upsert_rows(connection, _MOVED, ["day", "moved_at"], rows, key=["day"])
    _MET_AGAIN.drop(connection)


def _note_met_again(connection: Connection, keys: str, day: Any) -> None:
    connection.execute(
        text(f"INSERT INTO met_again SELECT DISTINCT {_KEYS} FROM ({keys}) AS k "
             "WHERE true ON CONFLICT DO NOTHING").bindparams(day)
    )  # fmt: skip


def _join_again(connection: Connection) -> set[date]:
    """Make sessions of all pieces of the ids in `met_again`; returns the days whose sessions change."""
    old: list[Session] = []
    new: list[Session] = []
    kept: list[Session] = []
    for rows, pieces in _of_each_id(connection):
        days = {piece.day for piece in pieces}
        parts = [*pieces, *(row for row in rows if row.day not in days)]
        joined = sessions_of(parts)
        sessions = [session for session, _ in joined]
        old += [row for row in rows if row not in sessions]
        new += [session for session in sessions if session not in rows]
        if any(number > 1 for _, number in joined):
            kept += parts
    key = [_SESSIONS.c[name] == bindparam(f"of_{name}") for name in ("sensor", "session_id", "started_at")]
    if old:
        gone = [
            {"of_sensor": row.sensor, "of_session_id": row.session_id, "of_started_at": row.started_at}
            for row in old
        ]
        connection.execute(delete(_SESSIONS).where(*key), gone)
    insert_rows(connection, _SESSIONS, _COLUMNS, new)
    connection.execute(text(f"DELETE FROM session_pieces WHERE {_IS_MET_AGAIN}"))
    insert_rows(connection, _PIECES, _COLUMNS, kept)
    return {session.day for session in (*old, *new)}


def _of_each_id(connection: Connection) -> Iterator[tuple[list[Session], list[Session]]]:
    """The rows in `sessions` and in `session_pieces` of each id in `met_again`."""
    found = connection.execute(_OF_EACH_ID, execution_options={"yield_per": _ROWS_AT_ONCE}).mappings()
    for _, group in groupby(found, key=lambda row: (row["sensor"], row["session_id"])):
        rows: tuple[list[Session], list[Session]] = ([], [])
        for row in group:
            rows[row["is_piece"]].append(_session(row))
        yield rows


def _session(row: Any) -> Session:
    values = {name: row[name] for name in _COLUMNS}
    return Session(**values | {name: tuple(values[name] or ()) for name in LISTS})


@survives_outage
def moved_days(database: Database) -> dict[date, datetime]:
    """The days that were moved, and when, and whose other rows do not follow yet."""
    with database.read() as connection:
        return {row.day: row.moved_at for row in connection.execute(select(_MOVED).order_by(_MOVED.c.day))}


def followed(connection: Connection, day: date, moved_at: datetime) -> None:
    """The other rows of the day follow what was moved at this moment."""
    statement = text("DELETE FROM moved_days WHERE day = :day AND moved_at <= :moved_at")
    connection.execute(
        statement.bindparams(bindparam("day", day, Date), bindparam("moved_at", moved_at, UtcDateTime))
    )
