"""What must hold for every answer of a service and every fact read from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date, datetime, timezone
from ipaddress import ip_address, ip_network
from typing import Any

import orjson

from cowrie_enrich_dagster.cache import CacheEntry, Unstorable
from cowrie_enrich_dagster.cache.entry import decode, encode, payload_text
from cowrie_enrich_dagster.services import Answer, Facts, Service
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import fixture_of

NOW = datetime(2025, 11, 3, 12, tzinfo=timezone.utc)


def check_answer(service: Service, key: str, answer: Answer) -> None:
    """What says nothing about the key says why, in words that a database holds; what does can be kept."""
    assert (answer.payload is not None) == (answer.status is LookupStatus.FOUND)
    assert bool(answer.detail) == (not answer.status.is_answer)
    assert answer.detail == "" or answer.detail.isprintable()
    assert len(answer.detail) <= 200
    if answer.payload is not None:
        check_facts(service.facts(answer.payload))
        check_storable(service.name, key, answer.payload)


def check_storable(service: str, key: str, payload: Mapping[str, Any]) -> None:
    """The cache takes it and gives it back the same, or says that it cannot be kept."""
    try:
        entry = CacheEntry.of_answer(service, key, payload, fetched_at=NOW, ttl=NOW - NOW)
    except Unstorable:
        return
    text = payload_text(payload)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert orjson.loads(text) == entry.payload
    assert decode(service, key, encode(entry)) == entry


def check_facts(facts: Facts) -> None:
    """Each is of its column's type and range."""
    assert type(facts) is Facts
    for field in fields(Facts):
        value = getattr(facts, field.name)
        if isinstance(value, str):
            assert value == value.strip() != "", field.name
            assert "\0" not in value, field.name
            value.encode()
        elif type(value) is int:
            assert 0 <= value < 2**63, field.name
        else:
            assert value is None or type(value) in (bool, date), field.name
    assert facts.as_number is None or 0 < facts.as_number < 2**32
    assert facts.abuse_score is None or facts.abuse_score <= 100
    assert facts.network is None or str(ip_network(facts.network)) == facts.network
    country = facts.country_iso_code
    assert country is None or (len(country) == 2 and country.isascii() and country.isupper())


def names_its_key(service: str, key: str, body: Any) -> bool:
    """Whether an answer names `key` in one of the places where, as its fixture says, it does."""
    return any(is_about(key, body, place) for place in fixture_of(service)["names_key_at"])


def knows_nothing(service: str, key: str, body: Any) -> bool:
    """Whether a body says, as documented, that nothing is known of the key."""
    if service in _LACKS_ALL:
        return _LACKS_ALL[service](key, body)
    words = fixture_of(service)["nothing_known"]
    return bool(words) and all(_at(body, place) == word for place, word in words.items())


def is_about(key: str, body: Any, place: str) -> bool:
    """Whether the value at `place` (names with dots between them) names the address or hash `key`."""
    value = _at(body, place)
    if not isinstance(value, str):
        return False
    told = value.replace("\0", "").strip()
    try:
        return ip_address(told) == ip_address(key)
    except ValueError:
        return told == key


def _at(body: Any, place: str) -> Any:
    value = body
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _knows_nothing(record: Any, *but: str) -> bool:
    return not any(value for name, value in record.items() if name not in but)


_LACKS_ALL: Mapping[str, Callable[[str, Any], bool]] = {
    "abuseipdb": lambda key, body: (
        is_about(key, body, "data.ipAddress")
        and not body["data"].get("totalReports")
        and not body["data"].get("isp")
    ),
    "dshield": lambda key, body: (
        is_about(key, body, "ip.number") and _knows_nothing(body["ip"], "number", "updated")
    ),
    "greynoise": lambda key, body: is_about(key, body, "ip") and not body["noise"] and not body["riot"],
    "spur": lambda key, body: is_about(key, body, "ip") and _knows_nothing(body, "ip"),
}
"""By service that says "nothing known" by what a body lacks and by no word: whether this one does."""
