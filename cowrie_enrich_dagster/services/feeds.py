"""Lists of attackers that answer for many addresses at once, before any of them is asked about alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    InvalidAnswer,
    Limits,
    ServiceConfig,
    Window,
    ask,
    json_object,
    json_value,
)

MAX_ENTRIES = 10_000
_LEADING_ZEROS = re.compile(r"\b0+(?=[0-9])")

Payload = dict[str, Any]
_Entry = tuple[str, Payload]


@dataclass(frozen=True)
class DayList:
    """A list as of one UTC day.

    `entries` maps routable addresses, in canonical spelling, to payloads in the shape of the service's own
    answers, so that its `facts` reads them; `dropped` counts what was no such entry.
    """

    as_of: date
    entries: dict[str, Payload] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True)
class Feed:
    """A source of lists: of the `service` whose URL, key and `facts` it shares.

    One feed has three names: its own, under which its lists are kept (`dshield_sources`); its service's,
    which turns it on in ENRICH_FEEDS (`dshield`); and its asset's, made of the latter (`dshield_feed`).

    `limits` are its own where the service counts it apart; None: it is one more request of that service.
    `is_dated`: any day can be asked for; else the list is always the current one, whatever day is asked.
    """

    service: str
    limits: Limits | None
    is_dated: bool
    read: Callable[[date, requests.Session, ServiceConfig], DayList]


def fetch_feed(name: str, day: date, http: requests.Session, config: ServiceConfig) -> DayList:
    """Fetch one feed of `FEEDS`, in one request; its day is `DayList.as_of`, not always the one asked for.

    Raises `InvalidAnswer` for a body that is no such list or does not tell its day, what `Service.fetch`
    raises when the service refuses or is out of reach, and KeyError for an unknown name.
    """
    return FEEDS[name].read(day, http, config)


def _dshield_sources(day: date, http: requests.Session, config: ServiceConfig) -> DayList:
    """`GET /sources/attacks/{limit}/{day}?json`: https://isc.sans.edu/api/#sources.

    A list, or an object with numbers for names beside `METAKEYINFO`; addresses may be padded with zeros.
    """
    path = f"/sources/attacks/{MAX_ENTRIES}/{day.isoformat()}?json"
    body = json_value(ask(http, config, path))
    if isinstance(body, dict) and any(name.isdecimal() for name in body):
        body = [value for name, value in body.items() if name.isdecimal()]
    if not isinstance(body, list):
        raise InvalidAnswer(f"JSON {type(body).__name__} instead of a list")
    return _day_list(day, body, _dshield_entry)


def _dshield_entry(item: Mapping[str, Any]) -> _Entry | None:
    address = _routable(_LEADING_ZEROS.sub("", read.text(item.get("ip")) or ""))
    if address is None:
        return None
    record = {"number": address, "count": item.get("count"), "attacks": item.get("attacks")}
    dates = {"mindate": item.get("firstseen"), "maxdate": item.get("lastseen")}
    return address, {"ip": {**record, **dates}}


def _abuseipdb_blacklist(day: date, http: requests.Session, config: ServiceConfig) -> DayList:
    """`GET /blacklist`: https://docs.abuseipdb.com/#blacklist-endpoint. Always the current list, which says
    in `meta.generatedAt` (for plain text in X-Generated-At) when it was made."""
    headers = {"Key": config.api_key or ""}
    response = ask(http, config, f"/blacklist?limit={MAX_ENTRIES}", headers=headers)
    body = json_object(response)
    data, generated = body.get("data"), read.obj(body.get("meta")).get("generatedAt")
    as_of = read.day(generated) or read.day(response.headers.get("X-Generated-At"))
    if not isinstance(data, list) or as_of is None:
        raise InvalidAnswer("no list under 'data'" if as_of else "it does not say when it was made")
    return _day_list(as_of, data, _abuseipdb_entry)


def _abuseipdb_entry(item: Mapping[str, Any]) -> _Entry | None:
    address = _routable(item.get("ipAddress"))
    return None if address is None else (address, {"data": {**item, "ipAddress": address}})


def _day_list(
    as_of: date, items: Iterable[object], entry: Callable[[Mapping[str, Any]], _Entry | None]
) -> DayList:
    found = [entry(read.obj(item)) for item in items]
    if found and not any(found):
        raise InvalidAnswer(f"none of its {len(found)} entries is a routable address")
    return DayList(as_of, dict(pair for pair in found if pair), found.count(None))


def _routable(value: object) -> str | None:
    address = read.address(value)
    return str(address) if address is not None and address.is_global else None


FEEDS: Mapping[str, Feed] = {
    "dshield_sources": Feed(
        service="dshield",
        limits=None,
        is_dated=True,
        read=_dshield_sources,
    ),
    "abuseipdb_blacklist": Feed(
        service="abuseipdb",
        limits=Limits(
            rate=1 / 60,
            windows=(Window("day", 5),),
            source="https://docs.abuseipdb.com/#api-daily-rate-limits: 5 a day on the free plan, apart from"
            " checks (read 2026-11-26)",
        ),
        is_dated=False,
        read=_abuseipdb_blacklist,
    ),
}
"""The feeds by name. DShield counts by client: its lists are requests like its lookups
(https://isc.sans.edu/diary/27824 asks to pull a list no more than once or twice a day)."""
