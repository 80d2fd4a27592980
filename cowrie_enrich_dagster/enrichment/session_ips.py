"""Sessions of a day -> its source addresses, which of them may be asked about, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from sqlalchemy import Boolean, Connection, Date, bindparam, distinct, func, select, text

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.enrichment.by_day import count_by_day
from cowrie_enrich_dagster.enrichment.campaigns import note_sessions_changed
from cowrie_enrich_dagster.enrichment.keys import close_unsent
from cowrie_enrich_dagster.enrichment.written_days import forget_written, has_rows_of
from cowrie_enrich_dagster.lookups.order import priority_of
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.tables import SessionIp, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

_SESSIONS = table_of(SessionRecord)
_ADDRESSES = table_of(SessionIp)
_Network = IPv4Network | IPv6Network
ScannerLists = Callable[[Sequence[str]], Mapping[str, str]]
"""Which addresses a list of scanners holds now, each with the list."""
_SUMS = ("login_failures", "login_successes", "commands", "downloads", "uploads")
_COLUMNS = (
    *("day", "src_ip", "sessions", "sensors", "first_seen", "last_seen", *_SUMS),
    *("scope", "priority", "known_scanner", "scanner_list"),
)
_JUDGED = [_COLUMNS.index(name) for name in ("scope", "known_scanner", "scanner_list")]
"""Where the columns are on which it depends who is asked about an address."""


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
    """Replace the `session_ips` rows of `days` from `sessions`; one aggregate query, one bulk insert.

    Rows that stay as they are are not written.

    What is `own` is out of scope, and `scanners` are marked, as are the addresses that `scanner_lists` hold:
    lookups about any of them that are still open are closed, unasked.
    """
    query = (
        select(
            _SESSIONS.c.day,
            _SESSIONS.c.src_ip,
            func.count().label("sessions"),
            func.count(distinct(_SESSIONS.c.sensor)).label("sensors"),
            func.min(_SESSIONS.c.started_at).label("first_seen"),
            func.max(_SESSIONS.c.ended_at).label("last_seen"),
            *(func.sum(_SESSIONS.c[name]).label(name) for name in _SUMS),
        )
        .where(_SESSIONS.c.day.between(days.first, days.last), _SESSIONS.c.src_ip.is_not(None))
        .group_by(_SESSIONS.c.day, _SESSIONS.c.src_ip)
        .order_by(_SESSIONS.c.day, _SESSIONS.c.src_ip)
    )
    ours, listed = _NetworkSet(own), _NetworkSet(scanners)
    scopes: dict[str, Scope] = {}
    known_scanners: set[str] = set()
    with database.write() as connection:
        if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('session_ips'))"))
        rows: dict[tuple[date, str], list[Any]] = {}
        for row in connection.execute(query).mappings():
            ip = row["src_ip"]
            if ip not in scopes:
                scopes[ip] = Scope.OWN if ip in ours else address_scope(ip)
                if ip in listed:
                    known_scanners.add(ip)
            priority = priority_of(
                sessions=row["sessions"],
                sensors=row["sensors"],
                login_successes=row["login_successes"],
                files=row["downloads"] + row["uploads"],
            )
            values = [*row.values(), scopes[ip].value, priority, ip in known_scanners]
            rows[row["day"], ip] = values
        on_lists = scanner_lists([ip for ip, scope in scopes.items() if scope is Scope.GLOBAL])
        for (_, ip), values in rows.items():
            values.append(on_lists.get(ip))
        came_or_went, judged_anew = _replace(database, connection, days, rows)
        # What everybody shares is judged by all addresses; another run may have found the days' campaigns.
        note_sessions_changed(database, connection, sorted(came_or_went))
        # What was opened before its key was listed is not asked any more.
        never = [ip for ip, scope in scopes.items() if scope is not Scope.GLOBAL]
        close_unsent(LookupQueue(database), connection, never, known_scanners | on_lists.keys())
        for day, addresses in judged_anew.items():
            forget_written(database, connection, f"day = '{day}' AND {has_rows_of(database)}", addresses)
    by_scope = Counter(scope.value for scope in scopes.values())
    return AddressReport(len(rows), len(scopes), dict(by_scope), len(known_scanners))


def _replace(
    database: Database, connection: Connection, days: Days, rows: Mapping[tuple[date, str], list[Any]]
) -> tuple[set[date], dict[date, list[str]]]:
    """Put the rows in the place of what stands.

    Returns the days that gain or lose an address, and by day those of which other things are said than before
    that have a say in what is asked.
    """
    stands = select(*(_ADDRESSES.c[name] for name in _COLUMNS)).where(_ADDRESSES.c.day.between(*days.ends))
    before = {(row.day, row.src_ip): list(row) for row in connection.execute(stands)}
    for day in days:
        gone = [key[1] for key, values in before.items() if key[0] == day and rows.get(key) != values]
        if gone:
            statement = text(f"DELETE FROM session_ips WHERE day = :day AND {database.among('src_ip')}")
            of_day = bindparam("day", day, Date)
            connection.execute(statement.bindparams(of_day), {"keys": to_json(gone)})
    new = (values for key, values in rows.items() if before.get(key) != values)
    insert_rows(connection, _ADDRESSES, _COLUMNS, new)
    judged_anew: dict[date, list[str]] = {}
    for (day, ip), values in rows.items():
        stood = before.get((day, ip))
        if stood is None or any(stood[place] != values[place] for place in _JUDGED):
            judged_anew.setdefault(day, []).append(ip)
    return {day for day, _ in before.keys() ^ rows.keys()}, judged_anew


def addresses_by_day(database: Database, days: Days) -> dict[date, int]:
    """How many addresses were seen on each of the days that have any."""
    return count_by_day(database, _ADDRESSES.c.day, days)


@survives_outage
def count_addresses(database: Database, days: Days) -> int:
    """How many addresses were seen on `days`, each once."""
    query = select(func.count(distinct(_ADDRESSES.c.src_ip))).where(_ADDRESSES.c.day.between(*days.ends))
    with database.read() as connection:
        return connection.execute(query).scalar_one()
