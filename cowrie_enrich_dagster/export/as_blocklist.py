"""A blocklist: an address a line, of those that tried something, under a header of `#` lines.

Never on it: known scanners, one's own addresses, what is not routed on the internet, and whoever only looked.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import IO

from sqlalchemy import func, select

from cowrie_enrich_dagster.export.fields import Wanted
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

_C = table_of(EnrichedSession).c


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write the addresses in order; returns how many."""
    tried = (
        _C.login_failures + _C.login_successes + _C.commands + _C.downloads + _C.uploads
        + func.coalesce(_C.file_malicious, 0)
    )  # fmt: skip
    query = (
        select(_C.source_ip)
        .where(_C.day.between(days.first, days.last), _C.source_scope == Scope.GLOBAL.value)
        .group_by(_C.source_ip)
        .having(func.sum(tried) > 0)
        # Of one session that is enriched yet and one that is not, the one that knows counts.
        .having(func.count().filter(_C.source_is_scanner) == 0)
    )
    with database.read() as connection:
        found = [ip_address(ip) for ip in connection.execute(query).scalars()]
        now = database.now(connection)
    stream.write(
        f"# Addresses that tried logins, typed commands or left files on Cowrie honeypots, {days} (UTC)\n"
        f"# {len(found)} addresses, written {now:%Y-%m-%dT%H:%M:%SZ} by cowrie_enrich_dagster\n".encode()
    )
    for address in sorted(found, key=lambda address: (address.version, int(address))):
        stream.write(f"{address}\n".encode())
    return len(found)
