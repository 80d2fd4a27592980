"""Which lists hold an address, and since and until when: all entries of all lists, held in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select, text

from cowrie_enrich_dagster.enrichment.list_store import NEVER_TAKEN, TAKEN, version
from cowrie_enrich_dagster.settings import ListSettings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import AddressList, ListEntry, UtcDateTime, table_of

if TYPE_CHECKING:
    from cowrie_enrich_dagster.services.lists.matching import NetworkTable

LATE = " (late)"
AT_ONCE = 20_000
"""Networks that are read at once."""
_BY_SPAN = {
    "sqlite": """
        SELECT list, seen_from, seen_until, count(*), group_concat(network, ' ')
        FROM list_entries GROUP BY rowid / 20000, list, seen_from, seen_until
    """,
    "postgresql": """
        SELECT list, seen_from, seen_until, count(*), string_agg(network, ' ')
        FROM (SELECT *, row_number() OVER () / 20000 AS lot FROM list_entries) AS entries
        GROUP BY lot, list, seen_from, seen_until
    """,
}
"""The networks of each span together, for most of a list's entries share one: the database writes them into
a text faster than a driver hands them over one by one. By some thousand rows, which bounds the texts."""
_LISTS, _ENTRIES = table_of(AddressList), table_of(ListEntry)
_FOREVER = datetime(9999, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Span:
    """An address is on a list that `says` something, from one look to another.

    `is_first`: from the first look at the list ever. What it said before nobody knows; then it counts for
    earlier moments too, as late.
    """

    name: str
    says: str
    seen_from: datetime
    seen_until: datetime
    is_first: bool

    def holds(self, moment: datetime) -> str | None:
        """How it is shown for the moment (`list:name`, `list:name (late)`), or None where it is not on it."""
        if self.seen_from <= moment < self.seen_until:
            return f"list:{self.name}"
        if self.is_first and moment < self.seen_from:
            return f"list:{self.name}{LATE}"
        return None


Spans = Mapping[str, Sequence[Span]]
"""By address, the spans in which lists held it; addresses that none ever held are left out."""

NO_SPANS: Spans = {}


def moments_of(spans: Iterable[Span]) -> set[datetime]:
    """The moments at which the answer of `Span.holds` may change."""
    found = {moment for span in spans for moment in (span.seen_from, span.seen_until)}
    return found - {_FOREVER}


class ListBook:
    """The entries of all lists; read again when a list changed, whoever changed it.

    What a list says is what is configured now, else what it said at its last look.
    """

    def __init__(self, database: Database, lists: Collection[ListSettings]) -> None:
        self._database = database
        self._configured = {one.name: one.says for one in lists}
        self._version: tuple[Any, ...] | None = None
        self._spans: list[Span] = []
        self._ends: list[int] = []
        self._table: NetworkTable | None = None

    def spans(self, addresses: Collection[str]) -> Spans:
        """When which lists held these addresses."""
        self._read()
        if self._table is None:
            return {}
        rows = self._table.rows_of(addresses)
        return {
            address: [self._spans[bisect_right(self._ends, row)] for row in of_address]
            for address, of_address in rows.items()
        }

    def holding(self, says: str, addresses: Collection[str], but: Collection[str] = ()) -> dict[str, str]:
        """The addresses that a list of this kind holds now, each with the list; some lists left out."""
        found = {}
        for address, spans in self.spans(addresses).items():
            names = [
                span.name
                for span in spans
                if span.seen_until == _FOREVER and span.says == says and span.name not in but
            ]
            if names:
                found[address] = min(names)
        return found

    @survives_outage
    def networks(self, says: str) -> list[str]:
        """What lists of this kind hold now, in CIDR notation."""
        with self._database.read() as connection:
            names = [name for name, word in self._said(connection).items() if word == says]
            query = select(_ENTRIES.c.network).where(
                _ENTRIES.c.list.in_(names), _ENTRIES.c.seen_until.is_(None)
            )
            return list(connection.execute(query).scalars())

    def _said(self, connection: Connection) -> dict[str, str]:
        said = text("""
            SELECT list, says FROM address_lists AS a WHERE fetched_at = (
                SELECT max(fetched_at) FROM address_lists AS b WHERE b.list = a.list
            )
        """)
        return {row[0]: row[1] for row in connection.execute(said)} | self._configured

    def _read(self) -> None:
        newest = version(self._database)
        if newest != self._version and newest != NEVER_TAKEN:
            self._load()
        self._version = newest

    @survives_outage
    def _load(self) -> None:
        from cowrie_enrich_dagster.services.lists.matching import NetworkTable, Packer  # numpy takes its time

        firsts = select(_LISTS.c.list, func.min(_LISTS.c.fetched_at)).where(_LISTS.c.status == TAKEN)
        packer, lot, held = Packer(), list[str](), 0
        spans: list[Span] = []
        counts: list[int] = []
        with self._database.read() as connection:
            first = {row[0]: row[1] for row in connection.execute(firsts.group_by(_LISTS.c.list))}
            says = self._said(connection)
            entries = text(_BY_SPAN[connection.dialect.name])
            for name, since, until, count, networks in connection.execute(
                entries.columns(seen_from=UtcDateTime(), seen_until=UtcDateTime()),
                execution_options={"yield_per": 100},
            ):
                is_first = since == first.get(name)
                spans.append(Span(name, says.get(name, ""), since, until or _FOREVER, is_first))
                counts.append(count)
                lot.append(networks)
                held += count
                if held >= AT_ONCE:
                    packer.add(" ".join(lot))
                    lot, held = [], 0
        if lot:
            packer.add(" ".join(lot))
        self._spans, self._ends = spans, list(accumulate(counts))
        self._table = NetworkTable(packer.packed()) if spans else None
