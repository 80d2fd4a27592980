"""Sets of artefacts -> campaigns: those that a changed set touches are put together anew."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, text

from cowrie_enrich_dagster.campaigns import ArtefactSet, campaigns_of, is_shared_by_all, label
from cowrie_enrich_dagster.storage.bulk import insert_rows, upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import Campaign, UtcDateTime, table_of

TOLD_ARTEFACTS = 20
"""So many of what joins a campaign are told of it."""
_CAMPAIGNS = table_of(Campaign)
_TEMPORARY = MetaData()
_TOUCHED, _AFFECTED = (
    Table(name, _TEMPORARY, Column("set_id", String(16), primary_key=True), prefixes=["TEMPORARY"])
    for name in ("touched_sets", "affected_sets")
)
_ASSIGNED = Table(
    "assigned_sets", _TEMPORARY,
    Column("set_id", String(16), primary_key=True), Column("campaign_id", String(16)),
    prefixes=["TEMPORARY"],
)  # fmt: skip

_COUNT_SETS = """
    INSERT INTO artefact_sets (set_id, sessions, first_seen, last_seen)
    SELECT set_id, count(*), min(started_at), max(started_at) FROM session_artefacts
    WHERE set_id IN (SELECT set_id FROM touched_sets) GROUP BY set_id
    ON CONFLICT (set_id) DO UPDATE SET sessions = excluded.sessions, first_seen = excluded.first_seen,
        last_seen = excluded.last_seen
"""
_EMPTY_SETS = """
    UPDATE artefact_sets SET sessions = 0 WHERE set_id IN (SELECT set_id FROM touched_sets)
    AND NOT EXISTS (SELECT 1 FROM session_artefacts AS s WHERE s.set_id = artefact_sets.set_id)
"""
_MAY_BE_SHARED = """
    SELECT f.artefact_id, f.shared_by_all
    FROM artefacts AS f JOIN artefacts_in_sets AS i ON i.artefact_id = f.artefact_id
    JOIN artefact_sets AS a ON a.set_id = i.set_id
    GROUP BY f.artefact_id, f.shared_by_all HAVING f.shared_by_all OR sum(a.sessions) >= :few
"""
_SOURCES = """
    SELECT count(*) FROM (
        SELECT DISTINCT s.src_ip FROM artefacts_in_sets AS i
        JOIN session_artefacts AS s ON s.set_id = i.set_id
        WHERE i.artefact_id = :artefact_id AND s.src_ip IS NOT NULL) AS sources
"""
_ALL_SOURCES = "SELECT count(*) FROM (SELECT DISTINCT src_ip FROM session_ips) AS sources"
_NOTE_SHARED = "UPDATE artefacts SET shared_by_all = :is_shared WHERE artefact_id = :artefact_id"
_TOUCH_SETS_OF = """
    INSERT INTO touched_sets SELECT set_id FROM artefacts_in_sets WHERE artefact_id = :artefact_id
    ON CONFLICT DO NOTHING
"""
_AFFECT = (
    "INSERT INTO affected_sets SELECT set_id FROM touched_sets",
    """
    INSERT INTO affected_sets SELECT set_id FROM artefacts_in_sets WHERE artefact_id IN (
        SELECT f.artefact_id FROM touched_sets AS t JOIN artefacts_in_sets AS i ON i.set_id = t.set_id
        JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all)
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO affected_sets SELECT set_id FROM artefact_sets WHERE campaign_id IN (
        SELECT a.campaign_id FROM affected_sets AS t JOIN artefact_sets AS a ON a.set_id = t.set_id)
    ON CONFLICT DO NOTHING
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
_ASSIGN = """
    UPDATE artefact_sets SET campaign_id =
        (SELECT n.campaign_id FROM assigned_sets AS n WHERE n.set_id = artefact_sets.set_id)
    WHERE set_id IN (SELECT set_id FROM affected_sets)
"""
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
        FROM artefact_sets WHERE campaign_id IN (SELECT campaign_id FROM assigned_sets) GROUP BY campaign_id
    ) AS g JOIN (
        SELECT a.campaign_id, count(DISTINCT s.src_ip) AS sources, count(DISTINCT s.sensor) AS sensors
        FROM artefact_sets AS a JOIN session_artefacts AS s ON s.set_id = a.set_id
        WHERE a.campaign_id IN (SELECT campaign_id FROM assigned_sets) GROUP BY a.campaign_id
    ) AS d ON d.campaign_id = g.campaign_id
"""
# What joins: at least two sessions have it. The first is told of a campaign of which one is left, too.
_BY_WHAT = """
    SELECT campaign_id, kind, value, sessions FROM (
        SELECT a.campaign_id, f.kind, f.value, sum(a.sessions) AS sessions, row_number() OVER (
            PARTITION BY a.campaign_id ORDER BY sum(a.sessions) DESC, f.artefact_id) AS place
        FROM artefact_sets AS a JOIN artefacts_in_sets AS i ON i.set_id = a.set_id
        JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all
        WHERE a.campaign_id IN (SELECT campaign_id FROM assigned_sets)
        GROUP BY a.campaign_id, f.kind, f.value, f.artefact_id
    ) AS told WHERE place = 1 OR (place <= :most AND sessions > 1) ORDER BY campaign_id, place
"""
_NOW_IN = """
    (SELECT a.campaign_id FROM artefacts_in_sets AS i
     JOIN artefacts AS f ON f.artefact_id = i.artefact_id AND NOT f.shared_by_all
     JOIN artefact_sets AS a ON a.set_id = i.set_id
     WHERE i.artefact_id = campaigns.campaign_id AND a.campaign_id IS NOT NULL LIMIT 1)
"""
_OLD_IDS = """
    ({campaign} OR {merged}) AND campaign_id NOT IN (SELECT campaign_id FROM assigned_sets)
"""


def begin_grouping(connection: Connection) -> None:
    """Make the temporary table `touched_sets`, for the caller to fill, and those that `group` fills."""
    for table in _TEMPORARY.sorted_tables:
        connection.execute(text(f"DROP TABLE IF EXISTS {table.name}"))
        table.create(connection)


def group(database: Database, connection: Connection) -> None:
    """Put together anew the campaigns that `touched_sets` touch."""
    analyse(connection, _TOUCHED)
    connection.execute(text(_COUNT_SETS))
    connection.execute(text(_EMPTY_SETS))
    _sort_out_shared(connection)
    for statement in _AFFECT:
        connection.execute(text(statement))
    analyse(connection, _AFFECTED)
    old = list(connection.execute(text(_OLD_CAMPAIGNS)).scalars())
    campaigns = campaigns_of(_affected_sets(connection))
    pairs = ((one, campaign) for campaign, sets in campaigns.items() for one in sets)
    insert_rows(connection, _ASSIGNED, ["set_id", "campaign_id"], pairs)
    analyse(connection, _ASSIGNED)
    connection.execute(text(_ASSIGN))
    if connection.execute(text(_DEAD_SETS)).rowcount:
        for statement in _DEAD_REST:
            connection.execute(text(statement))
    _write_campaigns(connection)
    _follow_old_ids(database, connection, old)


def _sort_out_shared(connection: Connection) -> None:
    """Tell what everybody shares from what joins; where that changed, every set that has it is touched."""
    everybody = connection.execute(text(_ALL_SOURCES)).scalar_one()
    # An artefact has no more sources than sessions.
    few = next((n for n in range(everybody // 2, everybody + 1) if is_shared_by_all(n, everybody)), None)
    for artefact_id, was_shared in connection.execute(text(_MAY_BE_SHARED), {"few": few}).all():
        of_this = {"artefact_id": artefact_id}
        sources = connection.execute(text(_SOURCES), of_this).scalar_one()
        if (is_shared := is_shared_by_all(sources, everybody)) == bool(was_shared):
            continue
        connection.execute(text(_NOTE_SHARED), {**of_this, "is_shared": is_shared})
        connection.execute(text(_TOUCH_SETS_OF), of_this)


def _affected_sets(connection: Connection) -> Iterator[ArtefactSet]:
    query = text(_AFFECTED_SETS).columns(first_seen=UtcDateTime, first_forgotten=UtcDateTime)
    for (set_id, sessions, first_seen, forgotten), rows in groupby(
        connection.execute(query), lambda r: r[:4]
    ):
        artefacts = tuple((kind, artefact_id) for *_, kind, artefact_id in rows)
        first = min(first_seen, forgotten or first_seen)
        yield ArtefactSet(set_id, artefacts, sessions, first, forgotten is not None)


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


def _follow_old_ids(database: Database, connection: Connection, old: list[str]) -> None:
    """Say of ids that were given out and are none any more where what they stood for is now, if anywhere."""
    condition = _OLD_IDS.format(campaign=database.among("campaign_id"), merged=database.among("merged_into"))
    for statement in (
        f"UPDATE campaigns SET merged_into = {_NOW_IN} WHERE {condition}",
        f"DELETE FROM campaigns WHERE {database.among('campaign_id')} AND merged_into IS NULL "
        "AND campaign_id NOT IN (SELECT campaign_id FROM assigned_sets)",
    ):
        connection.execute(text(statement), {"keys": to_json(old)})


def analyse(connection: Connection, table: Table) -> None:
    """Let PostgreSQL look at a table that was just filled."""
    if connection.dialect.name == "postgresql":  # of a table that nobody has looked at few rows are expected
        connection.execute(text(f"ANALYZE {table.name}"))
