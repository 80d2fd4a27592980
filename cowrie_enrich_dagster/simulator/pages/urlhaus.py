"""URLhaus' host lookup (`POST /host/`), as abuse.ch answers it.

Shape: https://urlhaus-api.abuse.ch/#hostinfo. Numbers are strings; what went wrong is in `query_status`, with
status 200. Without a key the status is 401, with an unknown one 403.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import (
    LAST_DAY,
    draw,
    fields,
    json_reply,
    parse_address,
)
from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request


class Urlhaus:
    """See `Page`. One address in five has served malware."""

    name = "urlhaus"
    decoy = "192.0.2.1"
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        host = fields(request.body.decode("utf-8", "replace")).get("host")
        return (host,) if host and request.path == "/host/" else ()

    def refusal(self, request: Request) -> Reply | None:
        key = request.headers.get("Auth-Key")
        if not key:
            return json_reply(401, {"error": "Unauthorized"})
        return json_reply(403, {"query_status": "unknown_auth_key"}) if key == REFUSED_KEY else None

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if request.method != "POST":
            return json_reply(200, {"query_status": "http_post_expected"})
        if request.path != "/host/":
            return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
        if not keys or parse_address(keys[0]) is None:
            return json_reply(200, {"query_status": "invalid_host"})
        chance = draw(b"urlhaus", keys[0].encode())
        if chance.random() >= 0.2 and keys[0] != self.decoy:
            return json_reply(200, {"query_status": "no_results"})
        return json_reply(200, _host(keys[0], chance))


def _host(host: str, chance: Random) -> dict[str, Any]:
    first = LAST_DAY - timedelta(days=chance.randrange(400))
    urls = []
    for _ in range(chance.randint(1, 8)):
        added = first + (LAST_DAY - first) * chance.random()
        number = chance.randint(1_000_000, 3_700_000)
        urls.append(
            {
                "id": str(number),
                "urlhaus_reference": f"https://urlhaus.abuse.ch/url/{number}/",
                "url": f"http://{host}/{chance.choice(('bins', 'x', 'lol'))}/{chance.choice(('arm7', 'sh'))}",
                "url_status": chance.choice(("online", "offline", "offline")),
                "date_added": f"{added.isoformat()} {chance.randrange(24):02}:17:05 UTC",
                "threat": "malware_download",
                "reporter": "zbetcheckin",
                "larted": "true",
                "takedown_time_seconds": None,
                "tags": chance.choice((["elf", "mirai"], ["sh"], None)),
            }
        )
    return {
        "query_status": "ok",
        "urlhaus_reference": f"https://urlhaus.abuse.ch/host/{host}/",
        "host": host,
        "firstseen": f"{first.isoformat()} 04:05:06 UTC",
        "url_count": str(len(urls)),
        "blacklists": {"spamhaus_dbl": "not listed", "surbl": "not listed"},
        "urls": urls,
    }


PAGE: Page = Urlhaus()
