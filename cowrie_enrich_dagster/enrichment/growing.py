"""How far a growing day was read (`day_readings`), so that what comes after that is read and written alone.

A reading belongs to the rows in `sessions` that came of it: whoever replaces a day's rows gives it another
token, and a reading is kept, or read on from, only while the token is its own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import metadata

from sqlalchemy import Connection, delete, func, insert, select, text, update

from cowrie_enrich_dagster.cowrie import DayReading
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage

VERSION = metadata.version("cowrie_enrich_dagster")
_READINGS, _SESSIONS = tables.table_of(tables.DayReading), tables.table_of(tables.SessionRecord)


class Overtaken(Exception):
    """Another run has read the day meanwhile."""


@dataclass(frozen=True)
class KnownReading:
    """A reading, and the token by which it is known to be of the rows that stand."""

    reading: DayReading
    token: str


@survives_outage
def known_reading(database: Database, day: date) -> KnownReading | None:
    """How far the day was read; None if it has to be read whole, as when others changed its rows or lines."""
    query = select(_READINGS).where(_READINGS.c.day == day)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
        if row is None or row.reading is None or row.sessions != _sessions(connection, day):
            return None
        reading = DayReading.load(row.reading, VERSION)
        if reading is None or _quarantined(database, connection, reading) != reading.quarantined:
            return None
    return KnownReading(reading, row.token)


def begin_reading(connection: Connection, day: date, *, is_alone: bool) -> str:
    """The day's rows are written anew: a reading of others is none any more. Returns the new rows' token.

    Of a day that is read along with others, how far it was read is not kept.
    """
    token = secrets.token_hex(16)
    connection.execute(delete(_READINGS).where(_READINGS.c.day == day))
    if is_alone:
        connection.execute(insert(_READINGS).values(day=day, token=token))
    return token


def keep_reading(connection: Connection, day: date, token: str, reading: DayReading | None) -> int:
    """Keep how far the day was read, if it is the newest one or the day before that. Raises Overtaken.

    Returns how many sessions the day has.
    """
    text = reading.dump(VERSION) if reading else None
    of_token = (_READINGS.c.day == day) & (_READINGS.c.token == token)
    sessions = _sessions(connection, day)
    values = {"reading": text, "sessions": sessions}
    if not connection.execute(update(_READINGS).where(of_token).values(values)).rowcount:
        raise Overtaken
    newest = connection.execute(select(func.max(_READINGS.c.day))).scalar_one()
    connection.execute(delete(_READINGS).where(_READINGS.c.day < newest - timedelta(days=1)))
    return sessions


def _quarantined(database: Database, connection: Connection, reading: DayReading) -> dict[str, int]:
    """How many lines of what was read stand in quarantine: a slower run may have put its own there since."""
    lines = text(
        f"SELECT path, byte_offset FROM quarantined_lines WHERE line > 0 AND {database.among('path')}"
    )
    counts = dict.fromkeys(reading.quarantined, 0)
    for path, offset in connection.execute(lines, {"keys": to_json(list(counts))}):
        counts[path] += reading.has_read(path, offset)
    return counts


def _sessions(connection: Connection, day: date) -> int:
    query = select(func.count()).select_from(_SESSIONS).where(_SESSIONS.c.day == day)
    return connection.execute(query).scalar_one()
