"""DShield's IP lookup (`GET /ip/{ip}?json`) and attackers of a day (`GET /sources/attacks/{n}/{day}?json`).

Shapes: https://isc.sans.edu/api/#ip and #sources, and answers published in github.com/jreisinger/checkip
issue 30. An address without reports has nulls for them and still names its network; `threatfeeds` is an
object, null or missing; a bad address is an error with status 200. The attackers' addresses are padded with
zeros.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from typing import Any
from urllib.parse import unquote

import orjson

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import (
    LAST_DAY,
    Address,
    announcement,
    attackers,
    draw,
    parse_address,
    parse_day,
)
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

DEFAULT_AGENTS = ("python-requests", "python-urllib", "curl", "wget", "go-http-client", "java", "okhttp")

MAX_SOURCES = 10_000
_SOURCES = re.compile(r"/sources/attacks/([0-9]{1,6})/([0-9]{4}-[0-9]{2}-[0-9]{2})")

_FEEDS = (
    "blocklistde22",
    "blocklistdeall",
    "bruteforceblocker",
    "ciarmy",
    "dshieldssh",
    "emergingcompromised",
)


class DShield:
    """See `Page`. Callers are unknown to it but for their User-Agent."""

    name = "dshield"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = unquote(request.path.removeprefix("/ip/"))
        return (key,) if key and request.path.startswith("/ip/") else ()

    def refusal(self, request: Request) -> Reply | None:
        """403 for the default agents of libraries and tools, unless they add a contact address."""
        agent = request.headers.get("User-Agent", "")
        if "@" in agent or (agent and not agent.lower().startswith(DEFAULT_AGENTS)):
            return None
        return Reply(403, b"<html><body><h1>403 Forbidden</h1></body></html>", "text/html")

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if request.method == "GET" and request.query == "json":
            if keys:
                address = parse_address(keys[0])
                return _json({"ip": _record(address)} if address else {"error": "bad IP address"})
            sources = _SOURCES.fullmatch(request.path)
            day = parse_day(sources[2]) if sources else None
            if sources and day:
                return _sources(day, min(int(sources[1]), MAX_SOURCES))
        return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")


def _json(body: object) -> Reply:
    return Reply(200, orjson.dumps(body), "text/json")


@lru_cache(maxsize=64)
def _sources(day: date, count: int) -> Reply:
    chance = draw(b"sources", day.isoformat().encode())
    attacks = sorted((int(chance.paretovariate(0.6)) for _ in range(count)), reverse=True)
    listed = [
        {
            "ip": ".".join(f"{int(octet):03}" for octet in address.split(".")),
            "attacks": attacks[rank],
            "count": attacks[rank] * chance.randint(1, 40),
            "firstseen": (day - timedelta(days=chance.randrange(90))).isoformat(),
            "lastseen": day.isoformat(),
        }
        for rank, address in enumerate(attackers(day, count))
    ]
    return _json(listed)


def _record(address: Address) -> dict[str, Any]:
    own = draw(address.packed)
    reported = own.random() < 0.62
    record = (
        _reports(own) if reported else dict.fromkeys(("count", "attacks", "maxdate", "mindate", "updated"))
    )
    record = {"number": address.exploded, **record, "comment": None, "maxrisk": None}
    # A few addresses are announced by nobody.
    record |= _announced(address) if own.random() < 0.95 else dict.fromkeys(_ANNOUNCED)
    feeds = _threat_feeds(own) if own.random() < (0.4 if reported else 0.04) else None
    if feeds or own.random() < 0.5:
        record["threatfeeds"] = feeds
    return record


def _reports(chance: Random) -> dict[str, Any]:
    count = int(chance.paretovariate(0.45))
    last = LAST_DAY - timedelta(days=min(int(chance.expovariate(1 / 20)), 700))
    first = last - timedelta(days=0 if count == 1 else min(int(chance.expovariate(1 / 60)), 1200))
    updated = datetime.combine(last + timedelta(days=1), time(4, chance.randrange(60), chance.randrange(60)))
    return {
        "count": min(count, 2_000_000),
        "attacks": max(1, min(int(count ** chance.uniform(0.5, 1.0)), 60_000)),
        "maxdate": last.isoformat(),
        "mindate": first.isoformat(),
        "updated": updated.isoformat(sep=" "),
    }


_ANNOUNCED = ("asabusecontact", "as", "asname", "ascountry", "assize", "network")


def _announced(address: Address) -> dict[str, Any]:
    by = announcement(address)
    values = (by.contact, by.number, by.name, by.country, by.size, by.network)
    return dict(zip(_ANNOUNCED, values, strict=True))


def _threat_feeds(chance: Random) -> dict[str, dict[str, str]]:
    feeds = {}
    for feed in chance.sample(_FEEDS, k=chance.randint(1, 3)):
        last = LAST_DAY - timedelta(days=chance.randrange(30))
        first = last - timedelta(days=chance.randrange(400))
        feeds[feed] = {"lastseen": last.isoformat(), "firstseen": first.isoformat()}
    return feeds


PAGE: Page = DShield()
