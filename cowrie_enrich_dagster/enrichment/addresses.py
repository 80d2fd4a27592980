"""Sessions of a day -> its source addresses, which of them may be asked about, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from sqlalchemy import delete, distinct, func, select

from cowrie_enrich_dagster.cowrie import address_scope
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import SessionIp, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

_SESSIONS = table_of(SessionRecord)
_ADDRESSES = table_of(SessionIp)
_SUMS = ("login_failures", "login_successes", "commands", "downloads", "uploads")


@dataclass(frozen=True)
class AddressReport:
    """How many (day, address) rows there are, by scope, and how many distinct addresses."""

    rows: int
    distinct: int
    by_scope: dict[str, int]


def priority_of(*, sessions: int, sensors: int, login_successes: int, files: int) -> int:
    """What an answer about an address is worth: who got in, who left files, who is seen widely, who is busy.

    The steps are ordered, not weighed: no number of mere connects outweighs one successful login.
    """
    return (
        10_000 * (login_successes > 0)
        + 5_000 * (files > 0)
        + 1_000 * min(sensors - 1, 4)
        + min(sessions, 999)
    )


def summarise_addresses(
    database: Database, days: Days, own: Sequence[IPv4Network | IPv6Network]
) -> AddressReport:
    """Replace the `session_ips` rows of `days` from `sessions`; one aggregate query, one bulk insert."""
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
    scopes: dict[str, Scope] = {}
    by_scope: Counter[str] = Counter()
    with database.write() as connection:
        rows = []
        for row in connection.execute(query).mappings():
            ip = row["src_ip"]
            if ip not in scopes:
                scopes[ip] = address_scope(ip, own)
                by_scope[scopes[ip].value] += 1
            priority = priority_of(
                sessions=row["sessions"],
                sensors=row["sensors"],
                login_successes=row["login_successes"],
                files=row["downloads"] + row["uploads"],
            )
            rows.append([*row.values(), scopes[ip].value, priority])
        connection.execute(delete(_ADDRESSES).where(_ADDRESSES.c.day.between(days.first, days.last)))
        columns = [
            "day",
            "src_ip",
            "sessions",
            "sensors",
            "first_seen",
            "last_seen",
            *_SUMS,
            "scope",
            "priority",
        ]
        insert_rows(connection, _ADDRESSES, columns, rows)
    return AddressReport(len(rows), len(scopes), dict(by_scope))
