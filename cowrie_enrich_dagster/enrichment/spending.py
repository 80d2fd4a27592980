"""Calls only where they change something: what a service could tell of a key that is wanted and not known.

Services are asked in the order of trust: what one that is believed more is about to tell, the others are not
asked for. But nobody waits for what it cannot tell: of a service that may be asked about a hundred keys more
today a hundred are expected, and the others are asked for the rest. Columns that hold for a whole network
(its AS, its country) are known for all its addresses once a service told them, with the network, about one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from cowrie_enrich_dagster.cache import DatabaseCache
from cowrie_enrich_dagster.enrichment.facts import COLUMNS
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.enrichment.known_so_far import KnownSoFar, State
from cowrie_enrich_dagster.enrichment.networks_told import NETWORK_FACTS, NetworksTold
from cowrie_enrich_dagster.enrichment.reach import Reach
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.order import CLASS_STEP
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Subject

KNOWN, NETWORK, FIRST, UNWANTED, BLOCK = "known", "network", "asked_first", "unwanted", "network_asked"
"""Why a key is not asked about: all is known; its network is; a more trusted service is asked first;
nothing of the service is wanted; another address of its block is asked first."""


_NOTHING: frozenset[str] = frozenset()
_IS_TOR = frozenset({"is_tor"})


class _Judged(NamedTuple):
    """What a service could tell of keys in one state: the facts that are `open`, those that would be but for
    networks, and the more trusted services that may be asked about the key."""

    open: frozenset[str]
    but_for_networks: frozenset[str]
    asked_before: tuple[Service, ...]


class Spending:
    """What is worth a call, as of now; one for each plan, in which services come in the order of trust."""

    def __init__(
        self,
        want: Collection[str] | None,
        services: Mapping[str, Service],
        calls_left: Callable[[str], float],
        database: Database,
        tier: DatabaseCache,
        on_tor_lists: Callable[[Sequence[str]], Collection[str]],
    ) -> None:
        self.want = want
        self._services = services
        self._calls_left = calls_left
        self._on_tor_lists = on_tor_lists
        self._known = KnownSoFar(services, database, tier)
        self._judged: dict[tuple[str, State], _Judged] = {}
        self._reaches: dict[str, Reach] = {}
        self._left: dict[str, float] = {}
        self._columns: dict[frozenset[str], tuple[str, ...]] = {}

    def wanted_of(self, service: Service) -> frozenset[str]:
        """The facts that the service tells and that fill a wanted column."""
        if self.want is None:
            return service.tells
        return frozenset(fact for fact in service.tells if self._columns_of(frozenset([fact])))

    def _columns_of(self, facts: frozenset[str]) -> tuple[str, ...]:
        """The wanted columns that these facts fill, in alphabetical order."""
        if facts not in self._columns:
            columns = sorted(column for fact in facts for column in COLUMNS.get(fact, ()))
            self._columns[facts] = tuple(c for c in columns if self.want is None or c in self.want)
        return self._columns[facts]

    def columns_of(self, service: Service) -> frozenset[str]:
        """The wanted columns that an answer of the service may fill."""
        return frozenset(self._columns_of(self.wanted_of(service)))

    def purpose_of(self, service: Service) -> str | None:
        """What the service is asked for at all, as a lookup says it (None: for everything)."""
        return None if self.want is None else ",".join(sorted(self.columns_of(service)))

    def networks(self, service: Service) -> NetworksTold:
        """The networks that the service has told, of answers that still hold."""
        return self._known.networks(service)

    def open_facts(
        self, service: Service, keys: Sequence[str]
    ) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        """For each key the wanted facts that the service is to tell; where that is none, why."""
        wanted = self.wanted_of(service)
        if not wanted:
            return {}, dict.fromkeys(keys, UNWANTED)
        on_tor_lists = set(self._on_tor_lists(keys)) if "is_tor" in wanted else _NOTHING
        left: dict[str, frozenset[str]] = {}
        why: dict[str, str] = {}
        for key, state in self._known.states(service.subject, keys):
            judged = self._judge(service, state)
            listed = _IS_TOR if key in on_tor_lists else _NOTHING
            expected = _NOTHING.union(*(self._expected(one, key) for one in judged.asked_before))
            if facts := judged.open - listed - expected:
                left[key] = facts
            elif judged.open - listed:
                why[key] = FIRST
            else:
                why[key] = NETWORK if judged.but_for_networks - listed else KNOWN
        return left, why

    def _judge(self, service: Service, state: State) -> _Judged:
        judged = self._judged.get((service.name, state))
        if judged is None:
            judged = self._judged[service.name, state] = self._judge_anew(service, state)
        return judged

    def _judge_anew(self, service: Service, state: State) -> _Judged:
        wanted = self.wanted_of(service)
        told, of_networks, before = _NOTHING, _NOTHING, []
        for name, one in state.told.items():
            other = self._services[name]
            is_better = other.rank < service.rank
            if is_better and not one.is_fresh and wanted & other.tells:
                before.append(other)
            # Whom an address more costs no call is asked, whatever those say that are believed less.
            if other is service or is_better or not service.is_free:
                told |= one.facts if one.is_fresh else _NOTHING
                of_networks |= _NOTHING if one.is_fresh else one.of_network
        return _Judged(wanted - told - of_networks, wanted - told, tuple(before))

    def _expected(self, service: Service, key: str) -> frozenset[str]:
        """What a service that is believed more will tell; of one that this plan is not about, all it can."""
        reach = self._reaches.get(service.name)
        is_expected = self._left_of(service) > 0 if reach is None else key in reach
        return self.wanted_of(service) if is_expected else _NOTHING

    def _left_of(self, service: Service) -> float:
        if service.name not in self._left:
            self._left[service.name] = self._calls_left(service.name)
        return self._left[service.name]

    def weigh(self, service: Service, keys: Sequence[Key]) -> tuple[dict[str, str], dict[str, Wanted]]:
        """Which of the keys (in the order of asking) are not worth a call, and why; the others as the queue
        takes them: what they are asked for and, within their class, what that is worth."""
        if self.want is None:
            return {}, {key.value: key.wanted for key in keys}
        left, why = self.open_facts(service, [key.value for key in keys])
        reach = self._reach_of(service)
        followers, served = self._blocks(service, [key for key in keys if key.value in left], left, reach)
        wanted: dict[str, Wanted] = {}
        waiting: dict[str, Wanted] = {}
        for key in keys:
            facts = left.get(key.value, _NOTHING)
            if facts_of_it := facts - NETWORK_FACTS if key.value in followers else facts:
                wanted[key.value] = self._wanted(key, facts_of_it, served[key.value])
            elif facts:
                why[key.value] = BLOCK
                waiting[key.value] = self._wanted(key, facts, 0)
        reach.plan(wanted, waiting)
        return why, wanted

    def _blocks(
        self, service: Service, keys: Sequence[Key], left: Mapping[str, frozenset[str]], reach: Reach
    ) -> tuple[set[str], Counter[str]]:
        """Addresses whose network another's answer may tell, and what they are worth, by whose answer it is.

        Where many addresses go in a request, each may as well be in it.
        """
        followers: set[str] = set()
        served: Counter[str] = Counter()
        if service.batch_size > 1 or "network" not in service.tells:
            return followers, served
        networks = self.networks(service)
        for key in keys:
            if left[key.value] & NETWORK_FACTS:
                head = networks.head(key.value, reach.heads)
                if head != key.value:
                    followers.add(key.value)
                    served[head] += key.business
        return followers, served

    def _wanted(self, key: Key, facts: frozenset[str], served: int) -> Wanted:
        """Worth the wanted columns that are filled, in the key's own sessions and in those that it serves."""
        of_networks = self._columns_of(facts & NETWORK_FACTS)
        worth = key.business * len(self._columns_of(facts)) + served * len(of_networks)
        priority = key.priority - key.business + min(worth, CLASS_STEP - 1)
        return key.wanted._replace(priority=priority, purpose=",".join(self._columns_of(facts)))

    def _reach_of(self, service: Service) -> Reach:
        if service.name not in self._reaches:
            self._reaches[service.name] = Reach(self._left_of(service) * service.batch_size)
        return self._reaches[service.name]

    def may_be_sent(self, key: Key) -> bool:
        """Whether any service may be asked about an address."""
        services = self._services.values()
        return any(key.may_be_sent_to(one) for one in services if one.subject is Subject.IP)

    def known_columns(self, addresses: Sequence[Key]) -> dict[str, set[str]]:
        """The wanted columns that each address has by now, from whoever told them."""
        keys = [address.value for address in addresses]
        known = {key.value: {"source_is_scanner"} if key.is_scanner else set() for key in addresses}
        for key, state in self._known.states(Subject.IP, keys):
            for name, told in state.told.items():
                facts = told.facts if told.facts or told.is_fresh else told.of_network
                known[key].update(self._columns_of(facts & self._services[name].tells))
        for key in self._on_tor_lists(keys):
            known[key].add("source_is_tor")
        return known
