"""The tables as pandas DataFrames, for notebooks: moments in UTC, real dtypes, lists as lists.

    from cowrie_enrich_dagster import frames
    frames.logins("2025-11-01..2025-11-07").groupby("password")["attempts"].sum().nlargest(10)

Each function takes days (`A`, `A..B`, or `Days`) and reads the database of the settings, or the one that is
given. What attackers wrote is in them as they wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from sqlalchemy import Boolean, Date, Integer, String, Table, bindparam, select, text

from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import require_current
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Json, SessionIp, UtcDateTime, table_of
from cowrie_enrich_dagster.vocabulary import Days

__all__ = ["campaigns", "commands", "enriched_sessions", "files", "logins", "sources"]

_TEXT, _WHOLE, _TRUTH = "string", "Int64", "boolean"
_DTYPES = {String: _TEXT, Integer: _WHOLE, Boolean: _TRUTH}
_OF_ITEMS = {
    "position": _WHOLE, "username": _TEXT, "password": _TEXT, "key": _TEXT, "success": _TRUTH,
    "attempts": _WHOLE, "command_line": _TEXT, "sha256": _TEXT, "url": _TEXT, "name": _TEXT, "how": _TEXT,
    "sensor": _TEXT, "session_id": _TEXT, "src_ip": _TEXT,
}  # fmt: skip
_OF_CAMPAIGNS = {
    "campaign_id": _TEXT, "label": _TEXT, "sessions": _WHOLE, "sources": _WHOLE, "sensors": _WHOLE,
    "sessions_then": _WHOLE, "sources_then": _WHOLE,
}  # fmt: skip
_CAMPAIGNS = """
    SELECT c.campaign_id, c.label, c.first_seen, c.last_seen, c.sessions, c.sources, c.sensors, c.artefacts,
        t.sessions AS sessions_then, t.sources AS sources_then
    FROM (
        SELECT campaign_id, count(*) AS sessions, count(DISTINCT src_ip) AS sources
        FROM session_campaigns WHERE day BETWEEN :first AND :last GROUP BY campaign_id
    ) AS t JOIN campaigns AS c ON c.campaign_id = t.campaign_id
    ORDER BY t.sessions DESC, c.campaign_id
"""


def enriched_sessions(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per session that began on the days: its deeds, and what is known of its source."""
    return _table(table_of(EnrichedSession), days, database)


def sources(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per day and source address: how active it was."""
    return _table(table_of(SessionIp), days, database)


def logins(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per credential that was tried in a session."""
    return _items("session_logins", days, database)


def commands(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per line that was typed, in order of `position`."""
    return _items("session_commands", days, database)


def files(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per file that a session brought, or tried to."""
    return _items("session_files", days, database)


def campaigns(days: Days | str, database: Database | None = None) -> pd.DataFrame:
    """A row per campaign that has sessions on the days: in all, and its sessions and sources then."""
    span = days if isinstance(days, Days) else Days.parse(days)
    query = (
        text(_CAMPAIGNS)
        .bindparams(bindparam("first", type_=Date), bindparam("last", type_=Date))
        .columns(first_seen=UtcDateTime, last_seen=UtcDateTime, artefacts=Json)
    )
    return _frame(query, {"first": span.first, "last": span.last}, _OF_CAMPAIGNS, database)


@contextmanager
def _opened(database: Database | None) -> Iterator[Database]:
    if database is not None:
        yield database
        return
    settings = load_settings()
    own = Database(settings.database_url.get_secret_value(), makes_file=False)
    try:
        require_current(own, makes=False)
        yield own
    finally:
        own.close()


def _table(table: Table, days: Days | str, database: Database | None) -> pd.DataFrame:
    span = days if isinstance(days, Days) else Days.parse(days)
    query = select(table).where(table.c.day.between(span.first, span.last)).order_by(*table.primary_key)
    kinds = {
        column.name: dtype
        for column in table.columns
        for kind, dtype in _DTYPES.items()
        if isinstance(column.type, kind)
    }
    return _frame(query, {}, kinds, database)


def _items(view: str, days: Days | str, database: Database | None) -> pd.DataFrame:
    span = days if isinstance(days, Days) else Days.parse(days)
    query = (
        text(
            f"SELECT * FROM {view} WHERE day BETWEEN :first AND :last "
            "ORDER BY started_at, sensor, session_id, position"
        )
        .bindparams(bindparam("first", type_=Date), bindparam("last", type_=Date))
        .columns(day=Date, started_at=UtcDateTime)
    )
    return _frame(query, {"first": span.first, "last": span.last}, _OF_ITEMS, database)


def _frame(
    query: Any, parameters: dict[str, Any], kinds: dict[str, str], database: Database | None
) -> pd.DataFrame:
    with _opened(database) as opened, opened.read() as connection:
        found = connection.execute(query, parameters)
        columns = list(found.keys())
        frame: pd.DataFrame = pd.DataFrame([tuple(row) for row in found], columns=columns)
    for name in columns:
        if name in kinds:
            frame[name] = frame[name].astype(kinds[name])
        elif name == "day":
            frame[name] = pd.to_datetime(frame[name])
        elif name in _MOMENTS:
            frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


_MOMENTS = frozenset({"started_at", "event_start", "event_end", "first_seen", "last_seen"})
