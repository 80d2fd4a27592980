"""Calls only where they change something: what a service could still tell of a key that is wanted.

Services are asked in the order of trust: while one that is believed more is yet to answer, the others wait,
for its answer would stand. Columns that hold for a whole network (its AS, its country) are known for all its
addresses once a service told them, with the network, about one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

from cowrie_enrich_dagster.cache import DatabaseCache
from cowrie_enrich_dagster.enrichment.facts import COLUMNS
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.services.lists import Network, as_text, parse_network
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime
from cowrie_enrich_dagster.vocabulary import Subject

if TYPE_CHECKING:
    from cowrie_enrich_dagster.services.lists.matching import NetworkTable

NETWORK_FACTS = frozenset({"as_number", "as_organization", "country_iso_code"})
"""What holds for all addresses of a network that an answer names."""
_LEVELS = {4: (12, 16, 18, 20, 21, 22, 23, 24), 6: (24, 32, 36, 40, 44, 48)}
"""One address of each block of these lengths is asked about before the others: its network may be theirs."""
_BITS = {4: 32, 6: 128}
KNOWN, NETWORK, FIRST, UNWANTED, BLOCK = "known", "network", "asked_first", "unwanted", "network_asked"
"""Why a key is not asked about: all is known; its network is; a more trusted service is asked first;
nothing of the service is wanted; another address of its block is asked first."""


@dataclass(frozen=True)
class NetworkTold:
    """What a service said of a network, when it was asked about one of its addresses."""

    network: str
    facts: Facts
    fetched_at: datetime


class _Networks:
    """The networks that one service has told, and the blocks in which it was asked."""

    def __init__(self, told: Iterable[tuple[str, Facts, datetime]]) -> None:
        self._networks: list[Network] = []
        self._told: list[NetworkTold] = []
        self._blocks: set[Network] = set()
        for key, facts, fetched_at in told:
            network = parse_network(facts.network) if facts.network else None
            self._mark(parse_network(key))
            if network is not None:
                self._networks.append(network)
                self._told.append(NetworkTold(as_text(network), facts, fetched_at))
        self._table: NetworkTable | None = None
        if self._networks:
            from cowrie_enrich_dagster.services.lists.matching import NetworkTable  # numpy takes its time

            self._table = NetworkTable.of(self._networks)

    def _mark(self, address: Network | None) -> None:
        if address is not None:
            self._blocks.update(_blocks_of(address))

    def of(self, addresses: Iterable[str]) -> dict[str, NetworkTold]:
        """For each address the most specific network that was told and holds it."""
        if self._table is None:
            return {}
        rows = self._table.rows_of(addresses)
        return {
            address: self._told[max(of_address, key=lambda row: self._networks[row][1])]
            for address, of_address in rows.items()
        }

    def is_first(self, key: str, taken: set[Network]) -> bool:
        """Whether this address is the one of its block to be asked; `taken` are blocks that have one."""
        address = parse_network(key)
        if address is None:
            return True
        block = next((block for block in _blocks_of(address) if block not in self._blocks), None)
        if block is None:
            return True
        if block in taken:
            return False
        taken.add(block)
        return True


def _blocks_of(address: Network) -> list[Network]:
    version, _, first = address
    bits = _BITS[version]
    return [(version, length, first >> (bits - length) << (bits - length)) for length in _LEVELS[version]]


class Spending:
    """What is worth a call, as of now; one for each plan."""

    def __init__(
        self,
        want: Collection[str] | None,
        services: Mapping[str, Service],
        can_ask: Callable[[str], bool],
        database: Database,
        tier: DatabaseCache,
        on_tor_lists: Callable[[Sequence[str]], Collection[str]],
    ) -> None:
        self.want = want
        self._services = services
        self._can_ask = can_ask
        self._database = database
        self._tier = tier
        self._on_tor_lists = on_tor_lists
        self._networks: dict[str, _Networks] = {}
        self._taken: dict[str, set[Network]] = {}

    def wanted_of(self, service: Service) -> frozenset[str]:
        """The facts that the service tells and that fill a wanted column."""
        if self.want is None:
            return service.tells
        return frozenset(fact for fact in service.tells if COLUMNS.get(fact, ()) and self._wants(fact))

    def _wants(self, fact: str) -> bool:
        return any(column in (self.want or ()) for column in COLUMNS.get(fact, ()))

    def open_facts(
        self, service: Service, keys: Sequence[str]
    ) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        """For each key the wanted facts that the service may still tell; where that is none, why."""
        wanted = self.wanted_of(service)
        if not wanted:
            return {}, dict.fromkeys(keys, UNWANTED)
        left = dict.fromkeys(keys, wanted)
        why: dict[str, str] = {}
        if "is_tor" in wanted:
            for key in self._on_tor_lists(keys):
                left[key] = left[key] - {"is_tor"}
        for better in self._services.values():
            shared = wanted & better.tells
            if better.rank < service.rank and better.subject is service.subject and shared:
                self._take_out(better, shared, left, why)
        if service.tells & {"network"}:
            for key, told in self.networks(service).of(k for k, facts in left.items() if facts).items():
                left[key] = left[key] - _network_facts(told.facts)
                if not left[key]:
                    why.setdefault(key, NETWORK)
        return {k: facts for k, facts in left.items() if facts}, {
            key: why.get(key, KNOWN) for key, facts in left.items() if not facts
        }

    def _take_out(
        self, better: Service, shared: frozenset[str], left: dict[str, frozenset[str]], why: dict[str, str]
    ) -> None:
        """Take out of `left` what a more trusted service has told, or is yet to be asked about."""
        keys = [key for key, facts in left.items() if facts & shared]
        entries = self._tier.get_many(better.name, keys)
        now = self._database.moment()
        by_network = self.networks(better).of(keys) if better.tells & {"network"} else {}
        waits = self._can_ask(better.name)
        for key in keys:
            entry = entries.get(key)
            if entry is not None and entry.is_fresh(now):
                facts = better.facts(entry.payload) if entry.payload else Facts()
                left[key] = left[key] - {fact for fact in shared if getattr(facts, fact) is not None}
                continue
            if key in by_network:
                left[key] = left[key] - (_network_facts(by_network[key].facts) & shared)
                if not left[key]:
                    why[key] = NETWORK
            if waits and left[key] & shared:
                left[key] = left[key] - shared
                if not left[key]:
                    why[key] = FIRST

    def spare(self, service: Service, keys: Sequence[Key]) -> tuple[dict[str, str], dict[str, str]]:
        """Which of the keys (in the order of asking) are not worth a call, why; of the others what for."""
        if self.want is None:
            return {}, {}
        wanted, why = self.open_facts(service, [key.value for key in keys])
        if service.batch_size == 1 and service.tells & {"network"}:
            networks, taken = self.networks(service), self._taken.setdefault(service.name, set())
            for key in keys:
                facts = wanted.get(key.value)
                if facts and facts <= NETWORK_FACTS and not networks.is_first(key.value, taken):
                    why[key.value] = BLOCK
        return why, {key: _in_columns(facts) for key, facts in wanted.items() if key not in why}

    def purpose_of(self, service: Service) -> str | None:
        """What the service is asked for at all, as a lookup says it (None: for everything)."""
        return None if self.want is None else _in_columns(self.wanted_of(service))

    def networks(self, service: Service) -> _Networks:
        """The networks that the service has told, of answers that still hold."""
        if service.name not in self._networks:
            self._networks[service.name] = _Networks(self._answers(service))
        return self._networks[service.name]

    @survives_outage
    def _answers(self, service: Service) -> list[tuple[str, Facts, datetime]]:
        query = (
            text("""
                SELECT cache_key, cache_value, fetched_at FROM enrichment_cache
                WHERE service = :service AND expires_at > :now
            """)
            .bindparams(bindparam("now", type_=UtcDateTime()))
            .columns(cache_value=Json, fetched_at=UtcDateTime())
        )
        with self._database.read() as connection:
            values: dict[str, Any] = {"service": service.name, "now": self._database.now(connection)}
            return [
                (key, service.facts(payload) if payload else Facts(), fetched_at)
                for key, payload, fetched_at in connection.execute(query, values)
            ]

    def may_be_sent(self, key: Key) -> bool:
        """Whether any service may be asked about an address."""
        services = self._services.values()
        return any(key.may_be_sent_to(one) for one in services if one.subject is Subject.IP)

    def known_columns(self, addresses: Sequence[Key]) -> dict[str, set[str]]:
        """The wanted columns that each address has by now, from whoever told them."""
        keys = [address.value for address in addresses]
        known = {key.value: {"source_is_scanner"} if key.is_scanner else set() for key in addresses}
        for service in self._services.values():
            facts_of = self.wanted_of(service)
            if not facts_of:
                continue
            by_network = self.networks(service).of(keys) if service.tells & {"network"} else {}
            entries = self._tier.get_many(service.name, keys)
            for key in keys:
                entry = entries.get(key)
                if entry is not None and entry.payload:
                    told = service.facts(entry.payload)
                    have = {fact for fact in facts_of if getattr(told, fact, None) is not None}
                elif key in by_network:
                    have = set(_network_facts(by_network[key].facts) & facts_of)
                else:
                    continue
                known[key].update(column for fact in have for column in COLUMNS[fact])
        for key in self._on_tor_lists(keys):
            known[key].add("source_is_tor")
        return known


def _in_columns(facts: Iterable[str]) -> str:
    return ",".join(sorted(column for fact in facts for column in COLUMNS[fact]))


def _network_facts(facts: Facts) -> frozenset[str]:
    return frozenset(name for name in NETWORK_FACTS if getattr(facts, name) is not None)
