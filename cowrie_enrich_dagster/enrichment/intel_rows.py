"""What is known, as rows of temporary tables: of each address by spans of time, of each file and password.

What services and lists say is put together here, once per distinct key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text

from cowrie_enrich_dagster.enrichment.facts import OF_ADDRESSES
from cowrie_enrich_dagster.enrichment.keys import PREFIX_CHARS, Key
from cowrie_enrich_dagster.enrichment.knowledge import Knowledge
from cowrie_enrich_dagster.enrichment.list_book import LATE, Spans, moments_of
from cowrie_enrich_dagster.enrichment.networks_told import NETWORK_FACTS
from cowrie_enrich_dagster.services import Facts
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime

_ALWAYS = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FOREVER = datetime(9999, 1, 1, tzinfo=timezone.utc)
_SAID = {"tor": "is_tor", "scanner": "is_scanner"}
"""The facts that public lists tell, by what they say."""
_LISTED = "list"
"""Where a fact comes from that the operator's own list tells."""
IntelRow = dict[str, Any]
"""A row of one of the tables below, by column."""

TEMPORARY = MetaData()
ADDRESS_INTEL = Table(
    "address_intel",
    TEMPORARY,
    Column("src_ip", Text, primary_key=True),
    Column("valid_from", UtcDateTime, primary_key=True),
    Column("valid_to", UtcDateTime),
    Column("scope", String(16)),
    Column("as_number", BigInteger),
    Column("as_organization", Text),
    Column("country_iso_code", String(2)),
    Column("is_scanner", Boolean),
    Column("is_proxy", Boolean),
    Column("is_vpn", Boolean),
    Column("is_tor", Boolean),
    Column("abuse_score", Integer),
    Column("classification", Text),
    Column("reports", BigInteger),
    Column("lists", Json),
    Column("provenance", Json),
    Column("intel", Json),
    Column("known_at", UtcDateTime),
    prefixes=["TEMPORARY"],
)
FILE_INTEL = Table(
    "file_intel",
    TEMPORARY,
    Column("sha256", Text, primary_key=True),
    Column("malicious", Integer),
    Column("label", Text),
    Column("told_by", Text),
    Column("intel", Json),
    prefixes=["TEMPORARY"],
)
PASSWORD_INTEL = Table(
    "password_intel",
    TEMPORARY,
    Column("sha1", Text, primary_key=True),
    Column("breached", Integer),
    Column("told_by", Text),
    prefixes=["TEMPORARY"],
)


def address_rows(
    addresses: Sequence[Key], knowledge: Sequence[Knowledge], spans: Spans
) -> Iterator[IntelRow]:
    """For each address a row per span of time in which the same answers and lists were the known ones."""
    for address in addresses:
        listed = spans.get(address.value, ())
        moments = {moment for known in knowledge for moment in known.changes(address.value)}
        changes = sorted(moments | moments_of(listed))
        for start, end in zip([_ALWAYS, *changes], [*changes, _FOREVER], strict=True):
            facts: dict[str, Any] = dict.fromkeys(OF_ADDRESSES)
            provenance: dict[str, Any] = {}
            intel: dict[str, Any] = {}
            known_at: datetime | None = None
            if address.known_scanner:
                facts["is_scanner"] = True
                provenance["source_is_scanner"] = _LISTED
            on_lists = {name: span.says for span in listed if (name := span.holds(start))}
            _believe(facts, provenance, {name: says for name, says in on_lists.items() if not _is_late(name)})
            for known in knowledge:
                observed = known.as_of(address.value, start)
                if observed is None:
                    intel[known.name] = known.without_answer(address)
                    if (of_network := known.networks.get(address.value)) is None:
                        continue
                    known_at = max(known_at or _ALWAYS, of_network.fetched_at)
                    told, only = of_network.facts, tuple(NETWORK_FACTS)
                else:
                    intel[known.name] = observed.as_dict()
                    known_at = max(known_at or _ALWAYS, observed.fetched_at)
                    told, only = known.facts(observed), tuple(OF_ADDRESSES)
                _merge(facts, provenance, known.name, told, only)
            _believe(facts, provenance, on_lists)  # late ones after whoever was asked at the time
            yield {
                "src_ip": address.value,
                "valid_from": start,
                "valid_to": end,
                "scope": address.scope.value,
                **facts,
                "lists": sorted(on_lists) or None,
                "provenance": provenance,
                "intel": intel,
                "known_at": known_at,
            }


def _is_late(name: str) -> bool:
    return name.endswith(LATE)


def _believe(facts: dict[str, Any], provenance: dict[str, Any], lists: Mapping[str, str]) -> None:
    """Fill the facts that lists tell, each from the first by name, where nothing else does."""
    for name, says in sorted(lists.items()):
        fact = _SAID.get(says)
        if fact is not None and facts[fact] is None:
            facts[fact] = True
            provenance[OF_ADDRESSES[fact]] = name


def _merge(
    facts: dict[str, Any], provenance: dict[str, Any], name: str, told: Facts, only: Collection[str]
) -> None:
    for fact in only:
        if facts[fact] is None and (value := getattr(told, fact)) is not None:
            facts[fact] = value
            provenance[OF_ADDRESSES[fact]] = name


def file_rows(knowledge: Sequence[Knowledge]) -> Iterator[IntelRow]:
    """For each file hash a row: what the first service that has an answer says of it."""
    for key in {key.value: key for known in knowledge for key in known.keys}.values():
        intel: dict[str, Any] = {}
        malicious, label, told_by = None, None, None
        for known in knowledge:
            observed = known.latest(key.value)
            if observed is None:
                intel[known.name] = known.without_answer(key)
                continue
            intel[known.name] = observed.as_dict()
            if malicious is None:
                facts = known.facts(observed)
                malicious, label = int(bool(facts.malicious)), facts.file_label
                told_by = known.name
        yield {
            "sha256": key.value,
            "malicious": malicious,
            "label": label,
            "told_by": told_by,
            "intel": intel,
        }


def password_rows(knowledge: Sequence[Knowledge], passwords: Iterable[str]) -> Iterator[IntelRow]:
    """For each of these SHA-1 digests whose prefix has an answer a row: whether it is in known breaches."""
    for sha1 in passwords if knowledge else ():
        prefix, suffix = sha1[:PREFIX_CHARS], sha1[PREFIX_CHARS:]
        for known in knowledge:
            if observed := known.latest(prefix):
                breached = int(_breached(observed.payload, suffix))
                yield {"sha1": sha1, "breached": breached, "told_by": known.name}
                break


def _breached(payload: Mapping[str, Any] | None, suffix: str) -> bool:
    suffixes = (payload or {}).get("suffixes")
    return isinstance(suffixes, dict) and suffix in suffixes
