"""`sessions` -> campaigns: the artefacts of each session, and the sessions that shared ones join.

A day costs what changed on it: its sessions are compared with what stands in `session_artefacts`, and only
the campaigns that a changed one touches follow (see `campaign_groups`). Days are noted where their sessions
are written. A lot of days is one transaction, so that what stands is always whole. What is found depends on
the sessions alone (see `campaigns.components`), except for `merged_into`: only ids that were given out are
remembered, and which were depends on the order of the days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache

from sqlalchemy import Column, Connection, Date, MetaData, String, Table, Text, bindparam, func, select, text

from cowrie_enrich_dagster.campaigns import Artefact, artefacts_of, set_id
from cowrie_enrich_dagster.cowrie import few_collections
from cowrie_enrich_dagster.enrichment.campaign_groups import analyse, begin_grouping, group
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.bulk import insert_rows, upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import from_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime, table_of
from cowrie_enrich_dagster.storage.temporary import make_anew
from cowrie_enrich_dagster.vocabulary import Days

SESSIONS_AT_ONCE = 200_000
"""About so many sessions of days are put in place in one transaction (a day at least)."""
_ROWS_AT_ONCE = 5_000
_DEEDS_AT_ONCE = 2_000
_CHANGED = table_of(tables.DayWithoutCampaigns)
_SESSIONS = table_of(tables.SessionRecord)
_ARTEFACTS, _IN_SETS = table_of(tables.Artefact), table_of(tables.ArtefactInSet)
_OF_SESSIONS = table_of(tables.SessionArtefacts)
_COLUMNS = [column.name for column in _OF_SESSIONS.columns]

_FOUND = Table(
    "found_artefacts", MetaData(),
    Column("sensor", Text, primary_key=True), Column("session_id", Text, primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True), Column("day", Date), Column("src_ip", Text),
    Column("set_id", String(16)),
    prefixes=["TEMPORARY"],
)  # fmt: skip
_WITH_DEEDS = """
    SELECT sensor, session_id, started_at, day, src_ip, CAST(logins AS text),
        CAST(command_lines AS text), CAST(files AS text), CAST(urls AS text) FROM sessions
    WHERE day = :day AND (command_lines <> '[]' OR files <> '[]' OR urls <> '[]' OR {has_key})
"""
_HAS_KEY = {
    "sqlite": """logins LIKE '%"key":"%'""",
    "postgresql": """CAST(logins AS text) LIKE '%"key": "%'""",
}
_STALE = """
    FROM session_artefacts WHERE day IN ({days}) AND NOT EXISTS (
        SELECT 1 FROM found_artefacts AS f WHERE f.sensor = session_artefacts.sensor
        AND f.session_id = session_artefacts.session_id AND f.started_at = session_artefacts.started_at
        AND f.set_id = session_artefacts.set_id
        AND coalesce(f.src_ip, '') = coalesce(session_artefacts.src_ip, ''))
"""
_NEW = """
    FROM found_artefacts AS f WHERE NOT EXISTS (
        SELECT 1 FROM session_artefacts AS s
        WHERE s.sensor = f.sensor AND s.session_id = f.session_id AND s.started_at = f.started_at)
"""
_TOUCH = "INSERT INTO touched_sets SELECT DISTINCT set_id {rows} ON CONFLICT DO NOTHING"
_FORGET = """
    UPDATE artefact_sets SET first_forgotten = (
        SELECT min(s.started_at) FROM session_artefacts AS s
        WHERE s.set_id = artefact_sets.set_id AND s.day = :day)
    WHERE campaign_id IS NOT NULL AND first_forgotten IS NULL
    AND set_id IN (SELECT set_id FROM session_artefacts WHERE day = :day)
"""


@dataclass
class FoundCampaigns:
    """The days whose campaigns were found, and how many sessions have artefacts that did not before."""

    days: list[date] = field(default_factory=list)
    sessions: int = 0


def note_sessions_changed(database: Database, connection: Connection, days: Sequence[date]) -> None:
    """The sessions of these days are new, in the caller's transaction: their campaigns are to be found."""
    now = database.now(connection)
    upsert_rows(connection, _CHANGED, ["day", "changed_at"], [(day, now) for day in days], key=["day"])


def find_campaigns(database: Database, days: Days | None = None) -> FoundCampaigns:
    """Find the campaigns of every day whose sessions changed since, and of `days` again."""
    if days:
        _note_again(database, days)
    found = FoundCampaigns()
    for lot in _lots(*_changed_days(database)):
        found.sessions += _find_lot(database, lot)
        found.days += lot
    return found


@survives_outage
def _note_again(database: Database, days: Days) -> None:
    with database.write() as connection:
        known = select(_SESSIONS.c.day).where(_SESSIONS.c.day.between(*days.ends)).distinct()
        note_sessions_changed(database, connection, list(connection.execute(known).scalars()))


@repeats_after_outage
def _find_lot(database: Database, lot: Mapping[date, datetime]) -> int:
    """Put the sessions of these days in place; returns how many have artefacts that they did not have."""
    with database.write() as connection:
        _begin(database, connection)
        for day in lot:
            _gather(database, connection, day)
        sessions = _replace(connection, list(lot))
        group(database, connection)
        done = text("DELETE FROM days_without_campaigns WHERE day = :day AND changed_at <= :changed_at")
        done = done.bindparams(bindparam("day", type_=Date), bindparam("changed_at", type_=UtcDateTime))
        connection.execute(done, [{"day": day, "changed_at": at} for day, at in lot.items()])
    return sessions


@repeats_after_outage
def forget_campaigns_of(database: Database, day: date) -> None:
    """Take a day's sessions out of their campaigns. Which artefact of a campaign came first stays known."""
    with database.write() as connection:
        _begin(database, connection)
        of_day = {"day": day}
        bound = bindparam("day", type_=Date)
        connection.execute(text(_TOUCH.format(rows=_STALE.format(days=":day"))).bindparams(bound), of_day)
        connection.execute(text(_FORGET).bindparams(bound), of_day)
        connection.execute(_OF_SESSIONS.delete().where(_OF_SESSIONS.c.day == day))
        connection.execute(_CHANGED.delete().where(_CHANGED.c.day == day))
        group(database, connection)


@survives_outage
def _changed_days(database: Database) -> tuple[dict[date, datetime], dict[date, int]]:
    """The days to be done and when they changed; how many sessions each has."""
    with database.read() as connection:
        changed = {row.day: row.changed_at for row in connection.execute(select(_CHANGED).order_by("day"))}
        if len(changed) < 2:  # a lot is a day at least
            return changed, {}
        number = select(_SESSIONS.c.day, func.count()).group_by(_SESSIONS.c.day)
        number = number.where(_SESSIONS.c.day.between(min(changed), max(changed)))
        return changed, {row[0]: row[1] for row in connection.execute(number)}


def _lots(changed: Mapping[date, datetime], sessions: Mapping[date, int]) -> Iterator[dict[date, datetime]]:
    """As many days at once as is good for one transaction."""
    lot: dict[date, datetime] = {}
    size = 0
    for day, at in changed.items():
        if lot and size + sessions.get(day, 0) > SESSIONS_AT_ONCE:
            yield lot
            lot, size = {}, 0
        lot[day] = at
        size += sessions.get(day, 0)
    if lot:
        yield lot


def _begin(database: Database, connection: Connection) -> None:
    if not database.is_sqlite:  # one at a time; on SQLite all writers are
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('campaigns'))"))
    begin_grouping(connection)
    make_anew(connection, _FOUND)


@few_collections()
def _gather(database: Database, connection: Connection, day: date) -> None:
    """The artefacts of the day's sessions -> `found_artefacts`, and their sets."""
    query = (
        text(_WITH_DEEDS.format(has_key=_HAS_KEY[connection.dialect.name]))
        .bindparams(bindparam("day", day, Date))
        .columns(started_at=UtcDateTime, day=Date)
    )
    known: set[str] = set()
    # Bots do the same again and again; and what is remembered is less than a page holds.
    by_deeds = lru_cache(_DEEDS_AT_ONCE)(_artefacts_by_id)
    for page in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).partitions():
        artefacts: dict[str, Artefact] = {}
        in_sets: dict[str, list[str]] = {}
        rows = []
        for *key, logins, lines, files, urls in page:
            together, by_id = by_deeds(logins, lines, files, urls)
            if not by_id:
                continue
            rows.append((*key, together))
            if together not in known:
                known.add(together)
                in_sets[together] = list(by_id)
                artefacts |= by_id
        insert_rows(connection, _FOUND, _COLUMNS, rows)
        upsert_rows(
            connection, _ARTEFACTS, ["artefact_id", "kind", "value"],
            ((name, artefact.kind, artefact.shown) for name, artefact in sorted(artefacts.items())),
            key=["artefact_id"], keep=["kind", "value"],
        )  # fmt: skip
        pairs = ((together, name) for together, names in in_sets.items() for name in names)
        upsert_rows(connection, _IN_SETS, ["set_id", "artefact_id"], pairs, key=["set_id", "artefact_id"])


def _artefacts_by_id(*deeds: str | None) -> tuple[str, dict[str, Artefact]]:
    """The artefacts of a session of these deeds (JSON texts), by their ids, and the id of their set."""
    by_id = {one.artefact_id: one for one in artefacts_of(*(from_json(of or "[]") or () for of in deeds))}
    return set_id(by_id), by_id


def _replace(connection: Connection, days: Sequence[date]) -> int:
    """Put what was found in the place of what stands; returns how many sessions changed."""
    marks = {f"day_{number}": day for number, day in enumerate(days)}
    stale = _STALE.format(days=", ".join(f":{name}" for name in marks))
    bound = [bindparam(name, day, Date) for name, day in marks.items()]
    analyse(connection, _FOUND)
    connection.execute(text(_TOUCH.format(rows=stale)).bindparams(*bound))
    connection.execute(text(f"DELETE {stale}").bindparams(*bound))
    connection.execute(text(_TOUCH.format(rows=_NEW)))
    columns = ", ".join(_COLUMNS)
    return connection.execute(
        text(f"INSERT INTO session_artefacts ({columns}) SELECT {columns} {_NEW}")
    ).rowcount
