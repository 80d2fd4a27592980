"""Which lists hold an address, and since and until when: all entries of all lists, held in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from cowrie_enrich_dagster.enrichment.list_store import TAKEN, version
from cowrie_enrich_dagster.services.lists import Network, as_text, parse_network
from cowrie_enrich_dagster.settings import ListSettings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import AddressList, ListEntry, table_of

if TYPE_CHECKING:
    from cowrie_enrich_dagster.services.lists.matching import NetworkTable

LATE = " (late)"
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
        self._networks: list[Network] = []
        self._table: NetworkTable | None = None

    def spans(self, addresses: Collection[str]) -> Spans:
        """When which lists held these addresses."""
        self._read()
        if self._table is None:
            return {}
        rows = self._table.rows_of(addresses)
        return {address: [self._spans[row] for row in of_address] for address, of_address in rows.items()}

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

    def networks(self, says: str) -> list[str]:
        """What lists of this kind hold now, in CIDR notation."""
        self._read()
        return [
            as_text(network)
            for network, span in zip(self._networks, self._spans, strict=True)
            if span.says == says and span.seen_until == _FOREVER
        ]

    def _read(self) -> None:
        newest = version(self._database)
        if newest == self._version:
            return
        self._load()
        self._version = newest

    @survives_outage
    def _load(self) -> None:
        firsts = select(_LISTS.c.list, func.min(_LISTS.c.fetched_at)).where(_LISTS.c.status == TAKEN)
        said = text("SELECT list, max(says) FROM address_lists GROUP BY list")
        entries = select(_ENTRIES.c.list, _ENTRIES.c.network, _ENTRIES.c.seen_from, _ENTRIES.c.seen_until)
        spans: list[Span] = []
        networks: list[Network] = []
        with self._database.read() as connection:
            first = {row[0]: row[1] for row in connection.execute(firsts.group_by(_LISTS.c.list))}
            says = {row[0]: row[1] for row in connection.execute(said)} | self._configured
            kept: dict[tuple[Any, ...], Span] = {}  # most entries of a list share one
            for name, word, since, until in connection.execute(entries.execution_options(yield_per=10_000)):
                network = parse_network(word)
                if network is None:
                    continue
                span = kept.get((name, since, until))
                if span is None:
                    is_first = since == first.get(name)
                    span = Span(name, says.get(name, ""), since, until or _FOREVER, is_first)
                    kept[name, since, until] = span
                spans.append(span)
                networks.append(network)
        self._spans, self._networks, self._table = spans, networks, None
        if networks:
            from cowrie_enrich_dagster.services.lists.matching import NetworkTable  # numpy takes its time

            self._table = NetworkTable.of(networks)
