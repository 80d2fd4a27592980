"""Spur's IP context (`GET /context/{ip}`, Context API v2).

Shape, statuses and headers: https://docs.spur.us/context-api/endpoints (the bodies of refusals are not
documented). Fields without a value are left out; the balance is told by `X-Balance-Remaining`.
"""

from __future__ import annotations

from typing import Any

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import (
    LAST_DAY,
    Address,
    announcement,
    draw,
    json_reply,
    parse_address,
)
from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request

TUNNELS = (
    {"type": "VPN", "operator": "NORD_VPN", "anonymous": True},
    {"type": "VPN", "operator": "PROTON_VPN", "anonymous": True},
    {"type": "PROXY", "operator": "OXYLABS_PROXY", "anonymous": True},
    {"type": "TOR", "anonymous": True},
)


class Spur:
    """See `Page`. One address in ten is a tunnel's end; of a few nothing is known at all."""

    name = "spur"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "x-balance"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = request.path.removeprefix("/context/")
        return (key,) if key and request.path.startswith("/context/") else ()

    def refusal(self, request: Request) -> Reply | None:
        if request.headers.get("Token", REFUSED_KEY) in ("", REFUSED_KEY):
            return json_reply(401, {"error": "unauthorized"})
        return None

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if not keys or request.method != "GET":
            return json_reply(404, {"error": "not found"})
        address = parse_address(keys[0])
        if address is None:
            return json_reply(400, {"error": "bad input"})
        headers = {"X-Result-Dt": LAST_DAY.strftime("%Y%m%d")}
        return json_reply(200, _context(address, known=keys[0] == self.decoy), headers)


def _context(address: Address, known: bool) -> dict[str, Any]:
    chance = draw(b"spur", address.packed)
    if chance.random() < 0.05 and not known:
        return {"ip": str(address)}
    by = announcement(address)
    context: dict[str, Any] = {
        "ip": str(address),
        "as": {"number": by.number, "organization": by.name},
        "organization": by.name,
        "infrastructure": chance.choice(("DATACENTER", "MOBILE")),
        "location": {"country": by.country},
        "client": {"types": ["DESKTOP"], "count": chance.randint(1, 9)},
    }
    if chance.random() < 0.1:
        context["tunnels"] = [chance.choice(TUNNELS)]
        context["risks"] = ["TUNNEL"]
    if chance.random() < 0.05:
        context["client"]["proxies"] = ["LUMINATI_PROXY"]
        context["risks"] = ["CALLBACK_PROXY"]
    return context


PAGE: Page = Spur()
