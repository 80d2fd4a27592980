"""GreyNoise's community lookup (`GET /community/{ip}`, API v3).

Shapes: https://docs.greynoise.io/docs/using-the-greynoise-community-api. An address never observed is 404
with a body in the shape of an answer; a caller without a key is served too, a wrong key gets 401.
"""

from __future__ import annotations

from datetime import timedelta

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import (
    LAST_DAY,
    draw,
    json_reply,
    parse_address,
)
from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request

BENIGN = ("Shodan.io", "Censys", "ShadowServer.org", "Palo Alto Crawler", "BinaryEdge.io")


class GreyNoise:
    """See `Page`. Two addresses in three are noise, one in fifty is a common business service (RIOT)."""

    name = "greynoise"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = request.path.removeprefix("/community/")
        return (key,) if key and request.path.startswith("/community/") else ()

    def refusal(self, request: Request) -> Reply | None:
        if request.headers.get("key") == REFUSED_KEY:
            return json_reply(401, {"message": "unauthorized"})
        return None

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if not keys or request.method != "GET":
            return json_reply(404, {"message": "not found"})
        address = parse_address(keys[0])
        if address is None or address.version != 4:
            return json_reply(400, {"ip": keys[0], "message": "Request is not a valid routable IPv4 address"})
        chance = draw(b"greynoise", address.packed)
        riot, noise = chance.random() < 0.02, chance.random() < 0.66
        if not (riot or noise or keys[0] == self.decoy):
            message = "IP not observed scanning the internet or contained in RIOT data set."
            return json_reply(404, {"ip": keys[0], "noise": False, "riot": False, "message": message})
        verdict = "benign" if riot else chance.choices(("malicious", "unknown", "benign"), (6, 3, 1))[0]
        return json_reply(
            200,
            {
                "ip": keys[0],
                "noise": not riot,
                "riot": riot,
                "classification": verdict,
                "name": chance.choice(BENIGN) if verdict == "benign" else "unknown",
                "link": f"https://viz.greynoise.io/ip/{keys[0]}",
                "last_seen": (LAST_DAY - timedelta(days=chance.randrange(60))).isoformat(),
                "message": "Success",
            },
        )


PAGE: Page = GreyNoise()
