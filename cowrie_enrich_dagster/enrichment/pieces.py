"""What a day's logs hold of sessions, put in the place of what was known of that day.

A session is the joined pieces of one id on one sensor, and its pieces may lie on any days. Most sessions are
one piece, and their row is all there is of them. Where a session has several, they are kept in
`session_pieces`, so that any day can be read again, alone and in any order: the same logs give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Date, bindparam, delete, literal, select, text, union_all

from cowrie_enrich_dagster.cowrie import NOTHING_DONE, DayOfPieces, Row, Session, sessions_of
from cowrie_enrich_dagster.cowrie.sessions import LISTS
from cowrie_enrich_dagster.enrichment.campaigns import note_sessions_changed
from cowrie_enrich_dagster.storage.bulk import insert_plain_rows, insert_rows, upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import (
    MovedDay,
    SessionPiece,
    SessionRecord,
    UtcDateTime,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import Days

_SESSIONS, _PIECES, _MOVED = table_of(SessionRecord), table_of(SessionPiece), table_of(MovedDay)
_COLUMNS = Session._fields
_KEYS = "sensor, session_id"
_ROWS_AT_ONCE = 1_000
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


def replace_day(database: Database, of_day: DayOfPieces, days: Days) -> None:
    """Replace what is known of one day.

    Sessions of other days that it completes or parts are written anew, and those days noted as moved, unless
    they are among `days`, of which the caller will do what follows from `sessions` anyway.
    """
    day = bindparam("day", of_day.day, Date)
    several: list[Row] = []

    def alone() -> Iterator[Row]:
        for pieces in of_day.pieces:
            if len(pieces) == 1:
                yield pieces[0]
            else:
                several.extend(pieces)

    with database.write() as connection:
        if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('sessions'))"))
        connection.execute(text("DROP TABLE IF EXISTS met_again"))
        connection.execute(
            text(f"CREATE TEMPORARY TABLE met_again (sensor text, session_id text, PRIMARY KEY ({_KEYS}))")
        )
        _note_met_again(connection, _OTHERS[0], day)
        connection.execute(delete(_PIECES).where(_PIECES.c.day == of_day.day))
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.day == of_day.day))
        insert_plain_rows(connection, _SESSIONS, _COLUMNS, alone(), NOTHING_DONE)
        insert_plain_rows(connection, _PIECES, _COLUMNS, several, NOTHING_DONE)
        for keys in _OTHERS:
            _note_met_again(connection, keys, day)
        if not database.is_sqlite:  # of a table that nobody has looked at thousands of rows are expected
            connection.execute(text("ANALYZE met_again"))
        changed = _join_again(connection)
        note_sessions_changed(database, connection, sorted({of_day.day} | changed))
        if moved := changed - set(days):
            now = database.now(connection)
            rows = [(other, now) for other in sorted(moved)]
            upsert_rows(connection, _MOVED, ["day", "moved_at"], rows, key=["day"])
        connection.execute(text("DROP TABLE met_again"))


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
    connection.execute(text(f"DELETE FROM session_pieces WHERE ({_KEYS}) IN (SELECT {_KEYS} FROM met_again)"))
    insert_rows(connection, _PIECES, _COLUMNS, kept)
    return {session.day for session in (*old, *new)}


def _of_each_id(connection: Connection) -> Iterator[tuple[list[Session], list[Session]]]:
    """The rows in `sessions` and in `session_pieces` of each id in `met_again`."""
    of_ids = text(f"({_KEYS}) IN (SELECT {_KEYS} FROM met_again)")
    both = union_all(
        *(
            select(literal(is_piece).label("is_piece"), *(table.c[name] for name in _COLUMNS)).where(of_ids)
            for is_piece, table in ((0, _SESSIONS), (1, _PIECES))
        )
    ).subquery()
    query = select(both).order_by(both.c.sensor, both.c.session_id)
    found = connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).mappings()
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
