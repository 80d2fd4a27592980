"""AbuseIPDB's check (`GET /check`) and blacklist (`GET /blacklist`) of API v2.

Shapes, errors and headers: https://docs.abuseipdb.com/. Every address has an answer, reported or not.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import (
    LAST_DAY,
    Address,
    announcement,
    attackers,
    draw,
    fields,
    json_reply,
    parse_address,
)
from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request

MAX_BLACKLIST = 10_000
USAGE_TYPES = ("Data Center/Web Hosting/Transit", "Fixed Line ISP", "Mobile ISP", "Commercial", "Reserved")
GENERATED_AT = f"{LAST_DAY.isoformat()}T06:00:09+00:00"


class AbuseIpDb:
    """See `Page`. Three addresses in four are reported."""

    name = "abuseipdb"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "x-ratelimit"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = fields(request.query).get("ipAddress")
        return (key,) if key and request.path == "/check" else ()

    def refusal(self, request: Request) -> Reply | None:
        if request.headers.get("Key", REFUSED_KEY) not in ("", REFUSED_KEY):
            return None
        detail = "Authentication failed. Your API key is either missing, incorrect, or revoked."
        return _error(401, f"{detail} Note: The APIv2 key differs from the APIv1 key.")

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if request.method != "GET" or request.path not in ("/check", "/blacklist"):
            return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
        if request.path == "/blacklist":
            limit = fields(request.query).get("limit", "")
            return _blacklist(min(int(limit), MAX_BLACKLIST) if limit.isdecimal() else MAX_BLACKLIST)
        address = parse_address(keys[0]) if keys else None
        if address is None:
            expected = "a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888)."
            return _error(422, f"The ip address must be {expected}", {"parameter": "ipAddress"})
        return json_reply(200, {"data": _check(address)})


def _error(status: int, detail: str, source: dict[str, str] | None = None) -> Reply:
    error = {"detail": detail, "status": status} | ({"source": source} if source else {})
    return json_reply(status, {"errors": [error]})


def _check(address: Address) -> dict[str, Any]:
    chance = draw(b"abuseipdb", address.packed)
    reports = int(chance.paretovariate(0.5)) % 30_000 if chance.random() < 0.75 else 0
    last = LAST_DAY - timedelta(days=chance.randrange(60))
    by = announcement(address)
    return {
        "ipAddress": str(address),
        "isPublic": True,
        "ipVersion": address.version,
        "isWhitelisted": False if reports else None,
        "abuseConfidenceScore": min(100, reports * chance.randint(1, 9)),
        "countryCode": by.country,
        "usageType": chance.choice(USAGE_TYPES),
        "isp": by.name,
        "domain": by.contact.partition("@")[2],
        "hostnames": [],
        "isTor": chance.random() < 0.01,
        "totalReports": reports,
        "numDistinctUsers": min(reports, chance.randint(1, 400)),
        "lastReportedAt": f"{last.isoformat()}T11:22:33+00:00" if reports else None,
    }


@lru_cache(maxsize=4)
def _blacklist(count: int) -> Reply:
    data = [
        {
            "ipAddress": address,
            "countryCode": _country(address),
            "abuseConfidenceScore": 100,
            "lastReportedAt": f"{LAST_DAY.isoformat()}T05:{rank % 60:02}:00+00:00",
        }
        for rank, address in enumerate(attackers(LAST_DAY, count))
    ]
    headers = {"X-Generated-At": GENERATED_AT}
    return json_reply(200, {"meta": {"generatedAt": GENERATED_AT}, "data": data}, headers)


def _country(text: str) -> str | None:
    address = parse_address(text)
    return announcement(address).country if address else None


PAGE: Page = AbuseIpDb()
