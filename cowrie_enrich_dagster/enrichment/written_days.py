"""What the rows of days that are not over rest on (`written_days`), and that they do not say it any more.

Who changes what rows rest on, without a lookup or an answer that tells so by its moment, says it here, in the
same transaction. It holds against a run that gathered before and writes its rows after that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, text

from cowrie_enrich_dagster.storage.bulk import upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime, WrittenDay, table_of

_WRITTEN = table_of(WrittenDay)
_FORGOTTEN = ""
"""The `basis` of rows that are all to be written anew; `known_until` is then since when."""


class Written(NamedTuple):
    """Until when what was learned is in the rows of a day, and what else these rest on."""

    known_until: datetime
    basis: str


@survives_outage
def written(database: Database, day: date) -> Written | None:
    """What the rows of the day rest on; None if that is not known."""
    with database.read() as connection:
        row = connection.execute(select(_WRITTEN).where(_WRITTEN.c.day == day)).one_or_none()
    return None if row is None else Written(row.known_until, row.basis)


def note_written(connection: Connection, days: Iterable[date], of: Written) -> None:
    """The rows of these days are written, in the caller's transaction. Days that are over are not noted."""
    today = of.known_until.date()
    rows = [(day, *of) for day in days if day >= today]
    still = f"written_days.basis <> '{_FORGOTTEN}' OR written_days.known_until < excluded.known_until"
    upsert_rows(connection, _WRITTEN, ["day", "known_until", "basis"], rows, key=["day"], only_if=still)
    connection.execute(delete(_WRITTEN).where(_WRITTEN.c.day < today))


def forget_written(
    database: Database,
    connection: Connection,
    days: str = "true",
    keys: Collection[str] = (),
) -> None:
    """All rows of the days for which this SQL condition holds, on `:keys`, are to be written anew.

    Call it last in a transaction, as rows are noted last: so nobody waits for each other.
    """
    statement = text(f"UPDATE written_days SET basis = '{_FORGOTTEN}', known_until = :now WHERE {days}")
    now = bindparam("now", database.now(connection), UtcDateTime())
    connection.execute(statement.bindparams(now), {"keys": to_json(list(keys))} if keys else {})


def has_rows_of(database: Database) -> str:
    """As a condition: one of the addresses in `:keys` has a row on the day already."""
    return f"""EXISTS (
        SELECT 1 FROM enriched_sessions AS e
        WHERE {database.not_by("e.day")} = written_days.day AND {database.among("e.source_ip")}
    )"""
