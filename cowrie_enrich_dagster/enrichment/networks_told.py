"""What services said of the networks of addresses, which serves the other addresses in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cowrie_enrich_dagster.services import Facts
from cowrie_enrich_dagster.services.lists import Network, as_text, parse_network

if TYPE_CHECKING:
    from cowrie_enrich_dagster.services.lists.matching import NetworkTable

NETWORK_FACTS = frozenset({"as_number", "as_organization", "country_iso_code"})
"""What holds for all addresses of a network that an answer names."""
_LEVELS = {4: (12, 16, 18, 20, 21, 22, 23, 24), 6: (24, 32, 36, 40, 44, 48)}
"""One address of each block of these lengths is asked about before the others: its network may be theirs."""
_BITS = {4: 32, 6: 128}


@dataclass(frozen=True)
class NetworkTold:
    """What a service said of a network, when it was asked about one of its addresses."""

    network: str
    facts: Facts
    fetched_at: datetime

    @property
    def known(self) -> frozenset[str]:
        """The facts that it tells of every address of the network."""
        return frozenset(name for name in NETWORK_FACTS if getattr(self.facts, name) is not None)


class NetworksTold:
    """The networks that one service has told, and the blocks in which it was asked."""

    def __init__(self, told: Iterable[tuple[str, Facts, datetime]]) -> None:
        self._networks: list[Network] = []
        self._told: list[NetworkTold] = []
        self._blocks: set[Network] = set()
        for key, facts, fetched_at in told:
            network = parse_network(facts.network) if facts.network else None
            if (address := parse_network(key)) is not None:
                self._blocks.update(_blocks_of(address))
            if network is not None:
                self._networks.append(network)
                self._told.append(NetworkTold(as_text(network), facts, fetched_at))
        self._table: NetworkTable | None = None
        if self._networks:
            from cowrie_enrich_dagster.services.lists.matching import NetworkTable  # numpy takes its time

            self._table = NetworkTable.of(self._networks)

    def of(self, addresses: Iterable[str]) -> dict[str, NetworkTold]:
        """For each address the most specific network that was told and holds it."""
        if self._table is None:
            return {}
        rows = self._table.rows_of(addresses)
        return {
            address: self._told[max(of_address, key=lambda row: self._networks[row][1])]
            for address, of_address in rows.items()
        }

    def head(self, address: str, heads: dict[Network, str]) -> str:
        """The address that is asked about first in the largest block of this one in which nobody was yet.

        That is the one that `heads`, which is kept from call to call, has for the block, else this one.
        """
        parsed = parse_network(address)
        if parsed is None:
            return address
        block = next((block for block in _blocks_of(parsed) if block not in self._blocks), None)
        return address if block is None else heads.setdefault(block, address)


def _blocks_of(address: Network) -> list[Network]:
    version, _, first = address
    bits = _BITS[version]
    return [(version, length, first >> (bits - length) << (bits - length)) for length in _LEVELS[version]]
