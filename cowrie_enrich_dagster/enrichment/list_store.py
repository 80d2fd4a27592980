"""What lists said, as spans of time: taking a new version writes only what came and went."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, TextClause, bindparam, select, text

from cowrie_enrich_dagster.services.lists import Network, ReadList, as_text
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import AddressList, ListEntry, UtcDateTime, table_of

TAKEN, UNCHANGED, REFUSED, FAILED, RETIRED = "taken", "unchanged", "refused", "failed", "retired"
GOOD = (TAKEN, UNCHANGED)
NEVER_TAKEN = (0, None)
"""The `version` where no list was ever taken."""
ROWS_AT_ONCE = 50_000
"""So many are deleted in a transaction."""
_LISTS = table_of(AddressList)
_ENTRIES = table_of(ListEntry)
_LISTED_NOW = Table("listed_now", MetaData(), Column("network", Text, primary_key=True))


@dataclass(frozen=True)
class Look:
    """One look at a list, as it stands in `address_lists`."""

    list: str
    fetched_at: datetime
    says: str
    status: str
    reason: str | None = None
    entries: int | None = None
    came: int = 0
    went: int = 0
    bad_lines: int = 0
    unroutable: int = 0
    size: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    read_as: str | None = None


@dataclass(frozen=True)
class ListState:
    """The last look at a list, the last one that was good, and the last that read it anew; None: none was.

    What was good before the list was retired is not: nothing of it holds any more.
    """

    last: Look | None = None
    good: Look | None = None
    taken: Look | None = None


@survives_outage
def states(database: Database) -> dict[str, ListState]:
    """Where every list stands that was ever looked at."""
    with database.read() as connection:
        return {
            name: _state(connection, name)
            for name in connection.execute(select(_LISTS.c.list).distinct()).scalars().all()
        }


def _state(connection: Connection, name: str) -> ListState:
    gone = _newest(connection, name, (RETIRED,))
    since = gone.fetched_at if gone else None
    last, good, taken = (_newest(connection, name, among, since) for among in ((), GOOD, (TAKEN,)))
    return ListState(last or gone, good, taken)


def _newest(
    connection: Connection, name: str, among: Collection[str] = (), since: datetime | None = None
) -> Look | None:
    query = select(_LISTS).where(_LISTS.c.list == name)
    if among:
        query = query.where(_LISTS.c.status.in_(among))
    if since is not None:
        query = query.where(_LISTS.c.fetched_at > since)
    row = connection.execute(query.order_by(_LISTS.c.fetched_at.desc()).limit(1)).one_or_none()
    return None if row is None else Look(**row._mapping)


@survives_outage
def looks(database: Database, name: str, number: int) -> list[Look]:
    """The newest good looks at a list, the newest first."""
    query = select(_LISTS).where(_LISTS.c.list == name, _LISTS.c.status.in_(GOOD))
    with database.read() as connection:
        rows = connection.execute(query.order_by(_LISTS.c.fetched_at.desc()).limit(number))
        return [Look(**row._mapping) for row in rows]


@survives_outage
def note(database: Database, name: str, says: str, status: str, **told: Any) -> Look:
    """Write down a look that changes no entry."""
    with database.write() as connection:
        look = Look(name, database.now(connection), says, status, **told)
        connection.execute(_LISTS.insert(), asdict(look))
    return look


@survives_outage
def take(database: Database, name: str, says: str, read: ReadList, **told: Any) -> Look:
    """Put a new version of a list in the place of the old one: spans end, and begin, at this look."""
    with database.write(large=True) as connection:
        if not database.is_sqlite:  # two looks at one list take turns; on SQLite all writers do
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('list_entries'))"))
        now = database.now(connection)
        came, went = _replace(connection, name, read.networks, now)
        look = Look(
            name, now, says, TAKEN,
            entries=len(read.networks), came=came, went=went, bad_lines=read.bad_lines,
            unroutable=read.unroutable, **told,
        )  # fmt: skip
        connection.execute(_LISTS.insert(), asdict(look))
    return look


def _replace(
    connection: Connection, name: str, networks: Iterable[Network], now: datetime
) -> tuple[int, int]:
    connection.execute(text("DROP TABLE IF EXISTS listed_now"))
    connection.execute(text("CREATE TEMPORARY TABLE listed_now (network text PRIMARY KEY)"))
    insert_rows(connection, _LISTED_NOW, ["network"], ((as_text(network),) for network in networks))
    went = text("""
        UPDATE list_entries SET seen_until = :now
        WHERE list = :list AND seen_until IS NULL
          AND NOT EXISTS (SELECT 1 FROM listed_now AS n WHERE n.network = list_entries.network)
    """).bindparams(bindparam("now", type_=UtcDateTime()))
    came = text("""
        INSERT INTO list_entries (list, network, seen_from)
        SELECT :list, n.network, :now FROM listed_now AS n
        WHERE NOT EXISTS (
            SELECT 1 FROM list_entries AS e
            WHERE e.list = :list AND e.network = n.network AND e.seen_until IS NULL
        )
    """).bindparams(bindparam("now", type_=UtcDateTime()))
    values = {"list": name, "now": now}
    gone, new = (connection.execute(statement, values).rowcount for statement in (went, came))
    connection.execute(text("DROP TABLE listed_now"))
    return new, gone


def retire(database: Database, kept: Collection[str]) -> list[str]:
    """End the entries of lists that are not configured any more: what they say is not looked at."""
    gone = to_retire(database, kept)
    for name in gone:
        _retire(database, name)
    return gone


@survives_outage
def to_retire(database: Database, kept: Collection[str]) -> list[str]:
    """The lists that still hold entries, though they are none of those that are kept."""
    # By what was looked at: a list's last look says whether it holds anything, its entries may be millions.
    held = [name for name, state in states(database).items() if state.last and state.last.status != RETIRED]
    return sorted(name for name in held if name not in kept and _has_entries(database, name))


@survives_outage
def _has_entries(database: Database, name: str) -> bool:
    query = select(_ENTRIES.c.list).where(_ENTRIES.c.list == name, _ENTRIES.c.seen_until.is_(None)).limit(1)
    with database.read() as connection:
        return connection.execute(query).first() is not None


@survives_outage
def _retire(database: Database, name: str) -> None:
    with database.write() as connection:
        now, before = database.now(connection), _newest(connection, name)
        says = before.says if before else ""
        _, went = _replace(connection, name, (), now)
        look = Look(name, now, says, RETIRED, "it is not configured any more", entries=0, went=went)
        connection.execute(_LISTS.insert(), asdict(look))


def prune(database: Database, before: datetime, *, dry_run: bool) -> int:
    """Delete the entries that ended before any session of ours did, from `before` on; how many (would be)."""
    ended = "seen_until <= :before"
    values = {"before": before}
    moment = bindparam("before", type_=UtcDateTime())
    if dry_run:
        with database.read() as connection:
            query = text(f"SELECT count(*) FROM list_entries WHERE {ended}").bindparams(moment)
            return int(connection.execute(query, values).scalar_one())
    row, among = ("rowid", "IN ({})") if database.is_sqlite else ("ctid", "= ANY(ARRAY({}))")
    some = f"SELECT {row} FROM list_entries WHERE {ended} LIMIT {ROWS_AT_ONCE}"
    statement = text(f"DELETE FROM list_entries WHERE {row} {among.format(some)}").bindparams(moment)
    total, number = 0, ROWS_AT_ONCE
    while number == ROWS_AT_ONCE:
        number = _execute(database, statement, values)
        total += number
    return total


@survives_outage
def _execute(database: Database, statement: TextClause, values: Mapping[str, Any]) -> int:
    with database.write() as connection:
        return connection.execute(statement, values).rowcount


@survives_outage
def version(database: Database) -> tuple[Any, ...]:
    """Changes whenever any entry does."""
    query = text(
        f"SELECT count(*), max(fetched_at) FROM address_lists WHERE status IN ('{TAKEN}', '{RETIRED}')"
    )
    with database.read() as connection:
        return tuple(connection.execute(query).one())
