"""Lists before calls: looking at those whose time has come, and sparing calls that would tell nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from ipaddress import ip_network

from sqlalchemy import Column, Date, MetaData, Table, Text, bindparam, text

from cowrie_enrich_dagster.cache import HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.asking import Asking
from cowrie_enrich_dagster.enrichment.keys import close_unsent
from cowrie_enrich_dagster.enrichment.list_book import ListBook
from cowrie_enrich_dagster.enrichment.list_service import ListService
from cowrie_enrich_dagster.enrichment.list_store import ListState
from cowrie_enrich_dagster.enrichment.lists import (
    ListReport,
    addresses_to_ask,
    greed,
    is_due,
    list_reports,
    refresh_list,
)
from cowrie_enrich_dagster.enrichment.spending import Spending
from cowrie_enrich_dagster.enrichment.written_days import forget_written
from cowrie_enrich_dagster.lookups.model import OpenLookups, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.lookups.source import FetchReport, Source
from cowrie_enrich_dagster.pacing import QuotaStatus, Reason, calls_left
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.services.lists import MAX_BYTES, ListPlace
from cowrie_enrich_dagster.settings import ConfigError, ServiceSettings
from cowrie_enrich_dagster.settings.values import Network
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus

_LISTED = Table(
    "listed_sources", MetaData(), Column("src_ip", Text, primary_key=True), Column("scanner_list", Text)
)


class ListKeeping(Asking):
    """Keeps the lists of the settings, and what follows from them for addresses."""

    @cached_property
    def list_book(self) -> ListBook:
        """What every list said when."""
        return ListBook(self.database, self.settings.lists)

    def lists_due(self) -> bool:
        """Whether the time of any list has come, or there is one that is not configured any more."""
        now, states = self.database.moment(), list_store.states(self.database)
        named = {one.name: one for one in self.settings.lists}
        return any(is_due(one, states.get(name, ListState()), now) for name, one in named.items()) or bool(
            list_store.to_retire(self.database, named)
        )

    def refresh_lists(self, *, until: float = math.inf) -> list[ListReport]:
        """Look at every list whose time has come, and mark the addresses that scanners' lists hold.

        A list that cannot be had, or is none, leaves the last good one in force; its report says so.
        """
        list_store.retire(self.database, {one.name for one in self.settings.lists})
        whole = HybridEnrichmentCache(None, self.cache.database)

        def fetch(service: Service, wanted: Sequence[Wanted]) -> FetchReport:
            return self.fetcher(self._list_source(service, until), cache=whole).fetch(wanted)

        reports = [
            refresh_list(one, database=self.database, queue=self.queue, book=self.list_book, fetch=fetch)
            for one in self.settings.lists
        ]
        held = self.mark_scanners()
        return [replace(report, held=held.get(report.list, "")) for report in reports]

    def require_own_lists(self) -> None:
        """Raise `ConfigError` while a list of our own networks was never read: nobody may be asked then."""
        own = [one for one in self.settings.lists if one.says == "own"]
        states = list_store.states(self.database) if own else {}
        for one in own:
            state = states.get(one.name, ListState())
            if state.good is None:
                why = state.last.reason if state.last and state.last.reason else "it was not looked at yet"
                raise ConfigError(
                    f"[[enrichment.lists]] {one.name}: {why}; while it is not known who is ours, "
                    f"nobody is asked: mend {one.file}, or take the list out"
                )

    def list_reports(self) -> list[ListReport]:
        """Where every list stands, without looking at any."""
        held = self._held(addresses_to_ask(self.database))
        return [
            replace(report, held=held.get(report.list, ""))
            for report in list_reports(self.database, self.settings.lists)
        ]

    def mark_scanners(self) -> dict[str, str]:
        """Let `session_ips` say which addresses a scanners' list holds now; lookups of them end, unasked.

        Returns the lists that hold more of our addresses than they may, and so spare none, each with why.
        """
        if not any(one.says == "scanner" for one in self.settings.lists) and not _has_marks(self.database):
            return {}
        addresses = addresses_to_ask(self.database)
        held = self._held(addresses)
        _mark(self.database, self.queue, self.scanner_lists(addresses, but=tuple(held)))
        return held

    def scanner_lists(self, addresses: Sequence[str], but: Sequence[str] | None = None) -> dict[str, str]:
        """The addresses that a scanners' list holds now, each with the list as it is shown."""
        if not any(one.says == "scanner" for one in self.settings.lists):
            return {}
        without = tuple(self._held(addresses_to_ask(self.database))) if but is None else but
        holding = self.list_book.holding("scanner", addresses, without)
        return {address: f"list:{name}" for address, name in holding.items()}

    def listed_by_day(self, days: Days) -> dict[date, int]:
        """How many addresses of each day some list held at some time."""
        counts = {}
        for day in days:
            addresses = _addresses_of(self.database, day)
            counts[day] = len(self.list_book.spans(addresses))
        return counts

    def _held(self, addresses: Sequence[str]) -> dict[str, str]:
        held = {}
        for one in self.settings.lists:
            if one.says == "scanner":
                others = [name.name for name in self.settings.lists if name.name != one.name]
                spared = len(self.list_book.holding("scanner", addresses, others))
                if why := greed(one, spared, len(addresses)):
                    held[one.name] = why
        return held

    def own_and_scanners(self) -> tuple[Sequence[Network], Sequence[Network]]:
        """Our own networks, wherever they are listed, and the scanners of the operator's file."""
        listed = self.settings.scanners_file
        own = list(self.settings.all_own_networks())
        if any(one.says == "own" for one in self.settings.lists):
            own += map(ip_network, self.list_book.networks("own"))
        return own, listed.networks if listed else ()

    def spending(self) -> Spending:
        """What is worth a call now."""
        return Spending(
            self.settings.want,
            self.services,
            self._calls_left,
            self.database,
            self.cache.database,
            lambda addresses: self.list_book.holding("tor", addresses),
        )

    def _calls_left(self, name: str) -> float:
        """How many requests a service may be asked within a day; none where it does not accept us."""
        if not self.has_key(name):
            return 0
        status = self.source(name).limiter.snapshot()
        return 0 if status.cooldown_reason is Reason.AUTH_FAILED else calls_left(status)

    @survives_outage
    def release(self, name: str, keys: Sequence[str]) -> None:
        """Close the lookups of keys that are not worth a call any more."""
        with self.database.write() as connection:
            self.queue.close(connection, keys, LookupStatus.SKIPPED_POLICY, service=name)

    def _list_source(self, service: Service, until: float = math.inf) -> Source:
        source = self.plain_source(service, ServiceSettings(), until)
        return replace(source, max_body_bytes=MAX_BYTES + 1)

    def _limits_and_backlog(self) -> list[tuple[Source, QuotaStatus, OpenLookups | None]]:
        sources = [
            self._list_source(ListService(one, ListPlace(one.url), _no_keep))
            for one in self.settings.lists
            if one.url is not None
        ]
        of_lists = [(source, source.limiter.snapshot(), None) for source in sources]
        return [*super()._limits_and_backlog(), *of_lists]


def _no_keep(body: bytes | None, place: ListPlace) -> list_store.Look:
    raise NotImplementedError("this list is only shown")


@survives_outage
def _addresses_of(database: Database, day: date) -> list[str]:
    query = text("SELECT src_ip FROM session_ips WHERE day = :day").bindparams(bindparam("day", day, Date))
    with database.read() as connection:
        return list(connection.execute(query).scalars())


@survives_outage
def _has_marks(database: Database) -> bool:
    with database.read() as connection:
        query = text("SELECT 1 FROM session_ips WHERE scanner_list IS NOT NULL LIMIT 1")
        return connection.execute(query).first() is not None


@survives_outage
def _mark(database: Database, queue: LookupQueue, listed: dict[str, str]) -> None:
    other = "coalesce(scanner_list, '') <> coalesce((SELECT l.scanner_list FROM listed_sources AS l " \
            "WHERE l.src_ip = session_ips.src_ip), '')"  # fmt: skip
    with database.write() as connection:
        connection.execute(text("DROP TABLE IF EXISTS listed_sources"))
        connection.execute(
            text("CREATE TEMPORARY TABLE listed_sources (src_ip text PRIMARY KEY, scanner_list text)")
        )
        insert_rows(connection, _LISTED, ["src_ip", "scanner_list"], listed.items())
        days = text(f"SELECT DISTINCT day FROM session_ips WHERE {other}").columns(day=Date())
        judged_anew = [str(day) for day in connection.execute(days).scalars()]
        connection.execute(
            text(
                "UPDATE session_ips SET scanner_list = (SELECT l.scanner_list FROM listed_sources AS l "
                f"WHERE l.src_ip = session_ips.src_ip) WHERE {other}"
            )
        )
        connection.execute(text("DROP TABLE listed_sources"))
        close_unsent(queue, connection, (), list(listed))
        if judged_anew:
            forget_written(database, connection, database.among("CAST(day AS text)"), judged_anew)
