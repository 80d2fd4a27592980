"""Sets of artefacts -> campaigns, after some sets changed.

A campaign is not read again to grow: it stands as one for all of its sets, and is joined with what shares an
artefact with it. Only one from which something was taken that may have held it together, made it, or given it
its id, is taken apart (`_REOPENED`) and put together anew from all of its sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, text

from cowrie_enrich_dagster.campaigns import ArtefactSet, campaigns_of, is_shared_by_all, label
from cowrie_enrich_dagster.storage.bulk import insert_rows, upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import Campaign, UtcDateTime, table_of
from cowrie_enrich_dagster.storage.temporary import make_anew

TOLD_ARTEFACTS = 20
"""So many of what joins a campaign are told of it."""
_CAMPAIGNS = table_of(Campaign)
_LATE = datetime.max.replace(tzinfo=timezone.utc)
_TEMPORARY = MetaData()


def _temporary(name: str, key: str, *columns: Column[Any]) -> Table:
    first: Column[Any] = Column(key, String(16), primary_key=True)
    return Table(name, _TEMPORARY, first, *columns, prefixes=["TEMPORARY"])


_TOUCHED, _AFFECTED = _temporary("touched_sets", "set_id"), _temporary("affected_sets", "set_id")
_BEFORE = _temporary(
    "sets_before", "set_id",
    Column("campaign_id", String(16)), Column("sessions", Integer), Column("first_seen", UtcDateTime),
)  # fmt: skip
_REOPENED, _LIVE = _temporary("reopened", "campaign_id"), _temporary("live_campaigns", "campaign_id")
_ASSIGNED = _temporary("assigned_sets", "set_id", Column("campaign_id", String(16)))
_RENAMED = _temporary("renamed", "campaign_id", Column("new_id", String(16)))

_COUNT = (
    """
    INSERT INTO sets_before SELECT a.set_id, a.campaign_id, a.sessions, a.first_seen
    FROM touched_sets AS t JOIN artefact_sets AS a ON a.set_id = t.set_id
    """,
    """
    INSERT INTO artefact_sets (set_id, sessions, first_seen, last_seen)
    SELECT set_id, count(*), min(started_at), max(started_at) FROM session_artefacts
    WHERE set_id IN (SELECT set_id FROM touched_sets) GROUP BY set_id
    ON CONFLICT (set_id) DO UPDATE SET sessions = excluded.sessions, first_seen = excluded.first_seen,
        last_seen = excluded.last_seen
    """,
    """
    UPDATE artefact_sets SET sessions = 0 WHERE set_id IN (SELECT set_id FROM touched_sets)
    AND NOT EXISTS (SELECT 1 FROM session_artefacts AS s WHERE s.set_id = artefact_sets.set_id)
    """,
    """
    UPDATE artefacts SET sessions = artefacts.sessions + d.more FROM (
        SELECT i.artefact_id, sum(a.sessions - coalesce(b.sessions, 0)) AS more
        FROM touched_sets AS t JOIN artefact_sets AS a ON a.set_id = t.set_id
        JOIN artefacts_in_sets AS i ON i.set_id = t.set_id
        LEFT JOIN sets_before AS b ON b.set_id = t.set_id
        GROUP BY i.artefact_id
    ) AS d WHERE d.artefact_id = artefacts.artefact_id
    """,
)
_ALL_SOURCES = "SELECT count(*) FROM (SELECT DISTINCT src_ip FROM session_ips) AS sources"
_MAY_BE_SHARED = "SELECT artefact_id, shared_by_all FROM artefacts WHERE shared_by_all OR sessions >= :few"
_SOURCES = """
    SELECT count(*) FROM (
        SELECT DISTINCT s.src_ip FROM artefacts_in_sets AS i
        JOIN session_artefacts AS s ON s.set_id = i.set_id
        WHERE i.artefact_id = :artefact_id AND s.src_ip IS NOT NULL) AS sources
"""
_TURN = (
    "UPDATE artefacts SET shared_by_all = NOT shared_by_all, campaign_id = NULL "
    "WHERE artefact_id = :artefact_id",
    """
    INSERT INTO touched_sets SELECT set_id FROM artefacts_in_sets WHERE artefact_id = :artefact_id
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO reopened SELECT DISTINCT a.campaign_id
    FROM artefacts_in_sets AS i JOIN artefact_sets AS a ON a.set_id = i.set_id
    WHERE i.artefact_id = :artefact_id AND a.campaign_id IS NOT NULL ON CONFLICT DO NOTHING
    """,
)
_REOPEN = (
    # What was seen first is gone, or was seen later.
    """
    SELECT b.campaign_id FROM sets_before AS b JOIN artefact_sets AS a ON a.set_id = b.set_id
    JOIN campaigns AS c ON c.campaign_id = b.campaign_id
    WHERE b.first_seen = c.first_seen AND (a.sessions = 0 OR a.first_seen > b.first_seen)
    """,
    # A set is gone that others were joined over.
    """
    SELECT b.campaign_id FROM sets_before AS b JOIN artefact_sets AS a ON a.set_id = b.set_id
    JOIN artefacts_in_sets AS i ON i.set_id = b.set_id
    JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all
    WHERE b.campaign_id IS NOT NULL AND a.sessions = 0 AND EXISTS (
        SELECT 1 FROM artefacts_in_sets AS o WHERE o.artefact_id = i.artefact_id AND o.set_id <> i.set_id)
    GROUP BY b.campaign_id, b.set_id HAVING count(*) > 1
    """,
    # What is left may be too little.
    """
    SELECT b.campaign_id FROM sets_before AS b JOIN artefact_sets AS a ON a.set_id = b.set_id
    JOIN campaigns AS c ON c.campaign_id = b.campaign_id WHERE a.sessions < b.sessions
    GROUP BY b.campaign_id, c.sessions HAVING c.sessions - sum(b.sessions - a.sessions) < 2
    """,
)
_AFFECT = (
    "SELECT set_id FROM touched_sets",
    "SELECT set_id FROM artefact_sets WHERE campaign_id IN (SELECT campaign_id FROM reopened)",
    # Sets that stood alone.
    """
    SELECT set_id FROM artefacts_in_sets WHERE artefact_id IN (
        SELECT f.artefact_id FROM touched_sets AS t JOIN artefacts_in_sets AS i ON i.set_id = t.set_id
        JOIN artefacts AS f ON f.artefact_id = i.artefact_id
        WHERE f.campaign_id IS NULL AND NOT f.shared_by_all)
    """,
)
_OLD_CAMPAIGNS = """
    SELECT DISTINCT a.campaign_id FROM affected_sets AS t JOIN artefact_sets AS a ON a.set_id = t.set_id
    WHERE a.campaign_id IS NOT NULL
"""
_AFFECTED_SETS = """
    SELECT a.set_id, a.sessions, a.first_seen, a.first_forgotten, f.kind, f.artefact_id
    FROM affected_sets AS t JOIN artefact_sets AS a ON a.set_id = t.set_id
    JOIN artefacts_in_sets AS i ON i.set_id = a.set_id
    JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all
    WHERE a.sessions > 0 OR a.first_forgotten IS NOT NULL
    ORDER BY a.set_id
"""
_WHOLE_CAMPAIGNS = """
    SELECT DISTINCT c.campaign_id, own.kind AS own_kind, c.first_seen, c.sessions, f.kind, f.artefact_id
    FROM affected_sets AS t JOIN artefacts_in_sets AS i ON i.set_id = t.set_id
    JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all
    JOIN campaigns AS c ON c.campaign_id = f.campaign_id
    JOIN artefacts AS own ON own.artefact_id = c.campaign_id
    WHERE c.campaign_id NOT IN (SELECT campaign_id FROM reopened)
    ORDER BY c.campaign_id
"""
_RENAME = (
    "UPDATE {table} SET campaign_id = r.new_id FROM renamed AS r WHERE r.campaign_id = {table}.campaign_id"
)
_ASSIGN = (
    _RENAME.format(table="artefact_sets"),
    _RENAME.format(table="artefacts"),
    """
    UPDATE artefact_sets SET campaign_id =
        (SELECT n.campaign_id FROM assigned_sets AS n WHERE n.set_id = artefact_sets.set_id)
    WHERE set_id IN (SELECT set_id FROM affected_sets)
    """,
    """
    UPDATE artefacts SET campaign_id = (
        SELECT a.campaign_id FROM artefacts_in_sets AS i JOIN artefact_sets AS a ON a.set_id = i.set_id
        WHERE i.artefact_id = artefacts.artefact_id AND a.campaign_id IS NOT NULL LIMIT 1)
    WHERE NOT shared_by_all AND artefact_id IN (
        SELECT i.artefact_id FROM affected_sets AS t JOIN artefacts_in_sets AS i ON i.set_id = t.set_id)
    """,
)
_DEAD_SETS = """
    DELETE FROM artefact_sets WHERE sessions = 0 AND campaign_id IS NULL
    AND set_id IN (SELECT set_id FROM affected_sets)
"""
_DEAD_REST = (
    """
    DELETE FROM artefacts WHERE artefact_id IN (
        SELECT i.artefact_id FROM artefacts_in_sets AS i JOIN affected_sets AS t ON t.set_id = i.set_id)
    AND NOT EXISTS (
        SELECT 1 FROM artefacts_in_sets AS i JOIN artefact_sets AS a ON a.set_id = i.set_id
        WHERE i.artefact_id = artefacts.artefact_id)
    """,
    """
    DELETE FROM artefacts_in_sets WHERE set_id IN (SELECT set_id FROM affected_sets)
    AND set_id NOT IN (SELECT set_id FROM artefact_sets)
    """,
)
_FIGURES = """
    SELECT g.campaign_id, g.first_seen, g.first_forgotten, g.last_seen, g.sessions, d.sources, d.sensors
    FROM (
        SELECT campaign_id, min(first_seen) AS first_seen, min(first_forgotten) AS first_forgotten,
            max(last_seen) AS last_seen, sum(sessions) AS sessions
        FROM artefact_sets WHERE campaign_id IN (SELECT campaign_id FROM live_campaigns) GROUP BY campaign_id
    ) AS g JOIN (
        SELECT a.campaign_id, count(DISTINCT s.src_ip) AS sources, count(DISTINCT s.sensor) AS sensors
        FROM artefact_sets AS a JOIN session_artefacts AS s ON s.set_id = a.set_id
        WHERE a.campaign_id IN (SELECT campaign_id FROM live_campaigns) GROUP BY a.campaign_id
    ) AS d ON d.campaign_id = g.campaign_id
"""
# What joins: at least two sessions have it; or all there is, of a campaign of which one session is left.
_BY_WHAT = """
    SELECT campaign_id, kind, value, sessions FROM (
        SELECT f.campaign_id, f.kind, f.value, f.sessions, row_number() OVER (
            PARTITION BY f.campaign_id ORDER BY f.sessions DESC, f.artefact_id) AS place
        FROM artefacts AS f JOIN live_campaigns AS l ON l.campaign_id = f.campaign_id
        WHERE f.sessions > 1 OR NOT EXISTS (
            SELECT 1 FROM artefacts AS o WHERE o.campaign_id = f.campaign_id AND o.sessions > 1)
    ) AS told WHERE place <= :most ORDER BY campaign_id, place
"""
_OLD_IDS = (
    """
    UPDATE campaigns SET merged_into =
        (SELECT f.campaign_id FROM artefacts AS f WHERE f.artefact_id = campaigns.campaign_id)
    WHERE ({campaign} OR {merged}) AND campaign_id NOT IN (SELECT campaign_id FROM live_campaigns)
    """,
    """
    DELETE FROM campaigns WHERE {campaign} AND merged_into IS NULL
    AND campaign_id NOT IN (SELECT campaign_id FROM live_campaigns)
    """,
    # Of one that was merged before, what its id stood for has gone, too.
    """
    DELETE FROM campaigns WHERE merged_into IS NULL
    AND NOT EXISTS (SELECT 1 FROM artefacts AS f WHERE f.campaign_id = campaigns.campaign_id)
    """,
)


def begin_grouping(connection: Connection) -> None:
    """Make the temporary table `touched_sets`, for the caller to fill, and those that `group` fills."""
    make_anew(connection, *_TEMPORARY.sorted_tables)


def group(database: Database, connection: Connection) -> None:
    """Let campaigns follow the sessions of `touched_sets`."""
    analyse(connection, _TOUCHED)
    for statement in _COUNT:
        connection.execute(text(statement))
    _sort_out_shared(connection)
    analyse(connection, _TOUCHED, _BEFORE)
    for chosen in _REOPEN if connection.execute(text("SELECT 1 FROM sets_before LIMIT 1")).first() else ():
        connection.execute(text(f"INSERT INTO reopened {_distinct(chosen)} ON CONFLICT DO NOTHING"))
    for chosen in _AFFECT:
        connection.execute(text(f"INSERT INTO affected_sets {_distinct(chosen)} ON CONFLICT DO NOTHING"))
    analyse(connection, _AFFECTED, _REOPENED)
    old = set(connection.execute(text(_OLD_CAMPAIGNS)).scalars())
    old |= _put_together(connection)
    for statement in _ASSIGN:
        connection.execute(text(statement))
    if connection.execute(text(_DEAD_SETS)).rowcount:
        for statement in _DEAD_REST:
            connection.execute(text(statement))
    _write_campaigns(connection)
    among = {"campaign": database.among("campaign_id"), "merged": database.among("merged_into")}
    for statement in _OLD_IDS:
        connection.execute(text(statement.format(**among)), {"keys": to_json(sorted(old))})


def _distinct(chosen: str) -> str:
    return f"SELECT DISTINCT * FROM ({chosen}) AS chosen WHERE true"


def _sort_out_shared(connection: Connection) -> None:
    """Tell what everybody shares from what joins; where that changed, every set that has it is touched."""
    everybody = connection.execute(text(_ALL_SOURCES)).scalar_one()
    # An artefact has no more sources than sessions.
    few = next((n for n in range(everybody // 2, everybody + 1) if is_shared_by_all(n, everybody)), None)
    for artefact_id, was_shared in connection.execute(text(_MAY_BE_SHARED), {"few": few}).all():
        of_this = {"artefact_id": artefact_id}
        sources = connection.execute(text(_SOURCES), of_this).scalar_one()
        if is_shared_by_all(sources, everybody) != bool(was_shared):
            for statement in _TURN:
                connection.execute(text(statement), of_this)


def _put_together(connection: Connection) -> set[str]:
    """Fill `assigned_sets`, `renamed` and `live_campaigns`; returns the ids of which there is a new one."""
    campaigns = campaigns_of([*_affected_sets(connection), *_whole_campaigns(connection)])
    named = [(one, campaign) for campaign, names in campaigns.items() for one in names]
    renamed = {
        name[1:]: campaign for name, campaign in named if name.startswith("=") and name[1:] != campaign
    }
    sets = ((name, campaign) for name, campaign in named if name and not name.startswith("="))
    insert_rows(connection, _ASSIGNED, ["set_id", "campaign_id"], sets)
    insert_rows(connection, _RENAMED, ["campaign_id", "new_id"], renamed.items())
    insert_rows(connection, _LIVE, ["campaign_id"], ((campaign,) for campaign in campaigns))
    analyse(connection, _ASSIGNED, _LIVE)
    return set(renamed)


def _affected_sets(connection: Connection) -> Iterator[ArtefactSet]:
    query = text(_AFFECTED_SETS).columns(first_seen=UtcDateTime, first_forgotten=UtcDateTime)
    found = connection.execute(query)
    for (set_id, sessions, first_seen, forgotten), rows in groupby(found, lambda row: row[:4]):
        artefacts = tuple((kind, artefact_id) for *_, kind, artefact_id in rows)
        first = min(first_seen, forgotten or first_seen)
        yield ArtefactSet(set_id, artefacts, sessions, first, forgotten is not None)


def _whole_campaigns(connection: Connection) -> Iterator[ArtefactSet]:
    """A campaign as a set `=ID` of the artefact that gave it its id, and one without a name for each link."""
    query = text(_WHOLE_CAMPAIGNS).columns(first_seen=UtcDateTime)
    found = connection.execute(query)
    for (campaign, kind, first_seen, sessions), links in groupby(found, lambda row: row[:4]):
        yield ArtefactSet(f"={campaign}", ((kind, campaign),), sessions, first_seen, was_forgotten=True)
        for *_, other_kind, artefact in links:
            yield ArtefactSet("", ((kind, campaign), (other_kind, artefact)), 0, _LATE)


def _write_campaigns(connection: Connection) -> None:
    told = connection.execute(text(_BY_WHAT), {"most": TOLD_ARTEFACTS})
    by_what = {
        campaign: [{"kind": kind, "value": value, "sessions": int(n)} for _, kind, value, n in rows]
        for campaign, rows in groupby(told, lambda row: row[0])
    }
    figures = text(_FIGURES).columns(
        first_seen=UtcDateTime, first_forgotten=UtcDateTime, last_seen=UtcDateTime
    )

    def rows() -> Iterator[tuple[Any, ...]]:
        for campaign, first_seen, forgotten, last_seen, *numbers in connection.execute(figures).all():
            first, artefacts = min(first_seen, forgotten or first_seen), by_what[campaign]
            yield campaign, first, last_seen, *map(int, numbers), artefacts, label(artefacts), None

    upsert_rows(
        connection, _CAMPAIGNS,
        ["campaign_id", "first_seen", "last_seen", "sessions", "sources", "sensors", "artefacts", "label",
         "merged_into"],
        rows(), key=["campaign_id"],
    )  # fmt: skip


def analyse(connection: Connection, *filled: Table) -> None:
    """Let the planner look at tables that were just filled: it would take them for large, or for empty."""
    for table in filled:
        connection.execute(text(f"ANALYZE {table.name}"))
