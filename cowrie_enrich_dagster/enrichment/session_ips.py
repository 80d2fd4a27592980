"""Sessions of a day -> its source addresses, which of them may be asked about, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Network, IPv6Network, ip_address

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Date,
    MetaData,
    Table,
    distinct,
    func,
    select,
    text,
)

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.enrichment.by_day import count_by_day
from cowrie_enrich_dagster.enrichment.campaigns import note_sessions_changed
from cowrie_enrich_dagster.enrichment.changed_sessions import IPS, Changes, changes, follow
from cowrie_enrich_dagster.enrichment.keys import Chosen, close_unsent
from cowrie_enrich_dagster.enrichment.written_days import forget_written, has_rows_of
from cowrie_enrich_dagster.lookups.order import PRIORITY
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.tables import SessionIp, table_of
from cowrie_enrich_dagster.storage.temporary import make_anew
from cowrie_enrich_dagster.vocabulary import Days, Scope

_ADDRESSES = table_of(SessionIp)
_Network = IPv4Network | IPv6Network
ScannerLists = Callable[[Sequence[str]], Mapping[str, str]]
"""Which addresses a list of scanners holds now, each with the list."""
_SUMS = ("login_failures", "login_successes", "commands", "downloads", "uploads")
_SUMMED_UP = ("day", "src_ip", "sessions", "sensors", "first_seen", "last_seen", *_SUMS, "priority")
_SAID_OF_IT = ("scope", "known_scanner", "scanner_list")
_COLUMNS = (*_SUMMED_UP, *_SAID_OF_IT)


def _temporary(name: str, columns: Sequence[str], key: Sequence[str]) -> Table:
    of = ((column, _ADDRESSES.c[column].type) for column in columns)
    made = (Column(column, type_, primary_key=column in key) for column, type_ in of)
    return Table(name, MetaData(), *made, prefixes=["TEMPORARY"])


_SUMMED = _temporary("summed", _SUMMED_UP, ["day", "src_ip"])
"""The rows as they should be, as far as sessions tell."""
_SAID = _temporary("said", ["src_ip", *_SAID_OF_IT], ["src_ip"])
"""What else is said of an address in each of its rows."""
_SUM_UP = f"""
    INSERT INTO summed ({", ".join(_SUMMED_UP)}) SELECT *, {PRIORITY} FROM (
        SELECT day, src_ip, count(*) AS sessions, count(DISTINCT sensor) AS sensors,
            min(started_at) AS first_seen, max(ended_at) AS last_seen,
            {", ".join(f"sum({name}) AS {name}" for name in _SUMS)}
        FROM sessions WHERE day BETWEEN :first AND :last AND src_ip IS NOT NULL {{those}} GROUP BY day, src_ip
        {{others}}
    ) AS summed_up
"""
_CHANGED = f"""
    SELECT src_ip FROM changed_sessions WHERE day BETWEEN :first AND :last AND follower = '{IPS}'
"""
_AS_BEFORE = f"""
    UNION ALL SELECT {", ".join(name for name in _SUMMED_UP if name != "priority")} FROM session_ips
    WHERE day BETWEEN :first AND :last AND src_ip NOT IN ({_CHANGED})
"""
_NUMBERS = """
    SELECT (SELECT coalesce(sum(sessions), 0) FROM summed),
        (SELECT count(*) FROM sessions WHERE day BETWEEN :first AND :last)
        - (SELECT count(*) FROM sessions WHERE src_ip IS NULL AND {day} BETWEEN :first AND :last)
"""
_CAME_OR_WENT = """
    SELECT day FROM (
        SELECT day, src_ip FROM summed EXCEPT
        SELECT day, src_ip FROM session_ips WHERE day BETWEEN :first AND :last) AS came
    UNION SELECT day FROM (
        SELECT day, src_ip FROM session_ips WHERE day BETWEEN :first AND :last EXCEPT
        SELECT day, src_ip FROM summed) AS went
    ORDER BY day
"""
_SHOULD_BE = f"""
    SELECT {", ".join(f"summed.{name}" for name in _SUMMED_UP)},
        {", ".join(f"said.{name}" for name in _SAID_OF_IT)}
    FROM summed JOIN said ON said.src_ip = summed.src_ip
"""
_JUDGED_ANEW = f"""
    SELECT new.day, new.src_ip FROM ({_SHOULD_BE}) AS new
    LEFT JOIN session_ips AS i ON i.day = new.day AND i.src_ip = new.src_ip
    WHERE new.day IN (SELECT day FROM written_days) AND (
        i.src_ip IS NULL OR {" OR ".join(f"i.{name} {{other}} new.{name}" for name in _SAID_OF_IT)})
"""
"""Of days that grow: the addresses of which other things are said that have a say in what is asked."""
_GONE = f"""
    DELETE FROM session_ips WHERE day BETWEEN :first AND :last
    AND NOT EXISTS (SELECT 1 FROM ({_SHOULD_BE}) AS new
        WHERE new.day = session_ips.day AND new.src_ip = session_ips.src_ip AND {{same}})
"""
_NEW = f"""
    INSERT INTO session_ips ({", ".join(_COLUMNS)})
    {_SHOULD_BE} WHERE NOT EXISTS (
        SELECT 1 FROM session_ips AS i WHERE i.day = summed.day AND i.src_ip = summed.src_ip)
"""


@dataclass(frozen=True)
class AddressReport:
    """How many (day, address) rows there are; distinct addresses, by scope, and known scanners of them."""

    rows: int
    distinct: int
    by_scope: dict[str, int]
    known_scanners: int


class _NetworkSet:
    """Many networks; looking an address up costs a step per prefix length that occurs, not per network."""

    def __init__(self, networks: Iterable[_Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            held = self._by_length.setdefault((network.version, shift), set())
            held.add(int(network.network_address) >> shift)

    def __contains__(self, ip: str) -> bool:
        if not self._by_length:
            return False
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        number, version = int(address), address.version
        return any(number >> shift in held for (of, shift), held in self._by_length.items() if of == version)


def days_of_other_lists(
    database: Database, own: Iterable[_Network], scanners: Iterable[_Network]
) -> list[date]:
    """The days that were summarised when the lists of our own networks and of scanners said something else.

    Their rows follow with the next enrichment of the day.
    """
    ours, listed = _NetworkSet(own), _NetworkSet(scanners)
    said = text("SELECT DISTINCT src_ip, scope, known_scanner FROM session_ips").columns(
        known_scanner=Boolean
    )
    days = text(f"""
        SELECT DISTINCT day FROM session_ips WHERE {database.among("src_ip")} AND (
            (scope = 'own') <> (src_ip IN (SELECT value FROM {_texts(database, ":own")}))
            OR known_scanner <> (src_ip IN (SELECT value FROM {_texts(database, ":scanners")}))
        ) ORDER BY day
    """).columns(day=Date())
    with database.read() as connection:
        rows = connection.execute(said).all()
        is_own = {ip for ip, *_ in rows if ip in ours}
        is_scanner = {ip for ip, *_ in rows if ip in listed}
        other = [
            ip for ip, scope, known in rows
            if (scope == Scope.OWN.value) != (ip in is_own) or known != (ip in is_scanner)
        ]  # fmt: skip
        if not other:
            return []
        lists = {"keys": to_json(other), "own": to_json([*is_own]), "scanners": to_json([*is_scanner])}
        return list(connection.execute(days, lists).scalars())


def _texts(database: Database, parameter: str) -> str:
    if database.is_sqlite:
        return f"json_each({parameter})"
    return f"jsonb_array_elements_text(CAST({parameter} AS jsonb)) AS texts(value)"


@repeats_after_outage
def summarise_addresses(
    database: Database,
    days: Days,
    own: Iterable[_Network] = (),
    scanners: Iterable[_Network] = (),
    scanner_lists: ScannerLists = lambda addresses: {},
) -> AddressReport:
    """Replace the `session_ips` rows of `days` from `sessions`. Rows that stay as they are are not written.

    What is `own` is out of scope, and `scanners` are marked, as are the addresses that `scanner_lists` hold:
    lookups about any of them that are still open are closed, unasked.
    """
    ours, listed = _NetworkSet(own), _NetworkSet(scanners)
    with database.write(large=True) as connection:
        if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('session_ips'))"))
        changed = changes(connection, IPS, days)
        addresses = _sum_up(database, connection, changed)
        scopes = {ip: Scope.OWN if ip in ours else address_scope(ip) for ip in addresses}
        known_scanners = {ip for ip in addresses if ip in listed}
        on_lists = scanner_lists([ip for ip, scope in scopes.items() if scope is Scope.GLOBAL])
        said = ((ip, scope.value, ip in known_scanners, on_lists.get(ip)) for ip, scope in scopes.items())
        insert_rows(connection, _SAID, list(_SAID.columns.keys()), said)
        judged_anew = _judged_anew(database, connection)
        rows, came_or_went = _replace(database, connection, days)
        # What everybody shares is judged by all addresses; another run may have found the days' campaigns.
        note_sessions_changed(database, connection, came_or_went)
        # What was opened before its key was listed is not asked any more.
        never = [ip for ip, scope in scopes.items() if scope is not Scope.GLOBAL]
        close_unsent(LookupQueue(database), connection, never, known_scanners | on_lists.keys())
        follow(database, connection, changed)
        for day, judged in judged_anew.items():
            forget_written(database, connection, f"day = '{day}' AND {has_rows_of(database)}", judged)
    by_scope = Counter(scope.value for scope in scopes.values())
    return AddressReport(rows, len(scopes), dict(by_scope), len(known_scanners))


def _sum_up(database: Database, connection: Connection, changed: Changes) -> list[str]:
    """Fill `summed` from the sessions of the days, and make `said`; the distinct addresses, in order."""
    make_anew(connection, _SUMMED, _SAID)
    chosen = Chosen.of_days(changed.days)
    if changed.any or not _summed_anew(database, connection, chosen):
        connection.execute(chosen.bound(_SUM_UP.format(those="", others="")))
    if not database.is_sqlite:  # of a table that nobody has looked at a thousand rows are expected
        connection.execute(text("ANALYZE summed"))
    return list(connection.execute(text("SELECT DISTINCT src_ip FROM summed ORDER BY src_ip")).scalars())


def _summed_anew(database: Database, connection: Connection, chosen: Chosen) -> bool:
    """Fill `summed` from the sessions of the addresses that changed; the others are as they stand.

    Returns whether those are as many as there are: they are not where a session is gone or has another
    address, or where somebody else wrote to the tables.
    """
    those = f"AND {database.not_by('src_ip')} IN ({_CHANGED})"
    connection.execute(chosen.bound(_SUM_UP.format(those=those, others=_AS_BEFORE)))
    numbers = _NUMBERS.format(day=database.not_by("day"))
    summed, there = connection.execute(chosen.bound(numbers)).one()
    if summed == there:
        return True
    connection.execute(text("DELETE FROM summed"))
    return False


def _judged_anew(database: Database, connection: Connection) -> dict[date, list[str]]:
    found = connection.execute(text(_JUDGED_ANEW.format(other=database.is_other)).columns(day=Date()))
    judged_anew: dict[date, list[str]] = {}
    for day, address in found:
        judged_anew.setdefault(day, []).append(address)
    return judged_anew


def _replace(database: Database, connection: Connection, days: Days) -> tuple[int, list[date]]:
    """Put what is `summed` and `said` in the place of what stands.

    Returns how many rows there are, and the days that gain or lose an address.
    """
    chosen = Chosen.of_days(days)
    came_or_went = list(connection.execute(chosen.bound(_CAME_OR_WENT).columns(day=Date())).scalars())
    same = " AND ".join(f"new.{name} {database.is_same} session_ips.{name}" for name in _COLUMNS)
    connection.execute(chosen.bound(_GONE.format(same=same)))
    connection.execute(text(_NEW))
    rows = connection.execute(text("SELECT count(*) FROM summed")).scalar_one()
    for table in (_SUMMED, _SAID):
        table.drop(connection)
    return rows, came_or_went


def addresses_by_day(database: Database, days: Days) -> dict[date, int]:
    """How many addresses were seen on each of the days that have any."""
    return count_by_day(database, _ADDRESSES.c.day, days)


@survives_outage
def count_addresses(database: Database, days: Days) -> int:
    """How many addresses were seen on `days`, each once."""
    query = select(func.count(distinct(_ADDRESSES.c.src_ip))).where(_ADDRESSES.c.day.between(*days.ends))
    with database.read() as connection:
        return connection.execute(query).scalar_one()
