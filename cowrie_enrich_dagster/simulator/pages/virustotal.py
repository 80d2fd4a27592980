"""VirusTotal's file report (`GET /files/{hash}`, API v3).

Shapes: https://docs.virustotal.com/reference/file-info and https://docs.virustotal.com/reference/errors. Of
the attributes, those that enrichment uses and a few engines' results.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from random import Random
from typing import Any

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import LAST_DAY, draw, json_reply
from cowrie_enrich_dagster.simulator.pages.base import REFUSED_KEY, Page, Reply, Request

ENGINES = ("Avast", "BitDefender", "ClamAV", "ESET-NOD32", "Kaspersky", "Microsoft", "Sophos", "Tencent")
FAMILIES = ("mirai/ddos", "xmrig/miner", "gafgyt/ddos", "redtail/miner", "hajime/worm", "coinminer/shell")


class VirusTotal:
    """See `Page`. Every third file is one that it has never seen."""

    name = "virustotal"
    decoy = "0" * 64
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = request.path.removeprefix("/files/")
        return (key,) if key and request.path.startswith("/files/") else ()

    def refusal(self, request: Request) -> Reply | None:
        key = request.headers.get("x-apikey")
        if not key:
            return _error(401, "AuthenticationRequiredError", "X-Apikey header is missing")
        return _error(401, "WrongCredentialsError", "Wrong API key") if key == REFUSED_KEY else None

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if not keys or request.method != "GET":
            return _error(404, "NotFoundError", "Resource not found.")
        chance = draw(b"file", keys[0].encode())
        if chance.random() < 1 / 3 and keys[0] != self.decoy:
            return _error(404, "NotFoundError", f'File "{keys[0]}" not found')
        return json_reply(200, {"data": _file(keys[0], chance)})


def _error(status: int, code: str, message: str) -> Reply:
    return json_reply(status, {"error": {"code": code, "message": message}})


def _file(sha256: str, chance: Random) -> dict[str, Any]:
    first = datetime.combine(LAST_DAY, time(), timezone.utc) - timedelta(hours=chance.randrange(20_000))
    last = first + (datetime.combine(LAST_DAY, time(), timezone.utc) - first) * chance.random()
    malicious = chance.choice((0, chance.randint(1, 60)))
    family = f"trojan.{chance.choice(FAMILIES)}"
    attributes: dict[str, Any] = {
        "sha256": sha256,
        "size": int(chance.paretovariate(0.3)) % 10_000_000 + 100,
        "type_description": chance.choice(("ELF", "Shell script", "Text")),
        "meaningful_name": chance.choice(("bin.sh", "x86", "sshd", "redtail.arm7")),
        "names": ["bin.sh"],
        "reputation": -chance.randrange(100),
        "times_submitted": chance.randint(1, 900),
        "first_submission_date": int(first.timestamp()),
        "last_submission_date": int(last.timestamp()),
        "last_analysis_date": int(last.timestamp()),
        "last_analysis_stats": {
            "malicious": malicious,
            "suspicious": chance.choice((0, 0, 0, 1)),
            "undetected": 72 - malicious,
            "harmless": 0,
            "timeout": 0,
            "confirmed-timeout": 0,
            "failure": 0,
            "type-unsupported": 4,
        },
        "last_analysis_results": {
            engine: {
                "method": "blacklist",
                "engine_name": engine,
                "category": "malicious" if malicious else "undetected",
                "result": family if malicious else None,
            }
            for engine in ENGINES
        },
        "total_votes": {"harmless": 0, "malicious": chance.randrange(3)},
    }
    if malicious:
        kind, _, name = family.partition(".")
        attributes["popular_threat_classification"] = {
            "suggested_threat_label": family,
            "popular_threat_category": [{"value": kind, "count": malicious}],
            "popular_threat_name": [{"value": name.partition("/")[0], "count": malicious}],
        }
    link = f"https://www.virustotal.com/api/v3/files/{sha256}"
    return {"id": sha256, "type": "file", "links": {"self": link}, "attributes": attributes}


PAGE: Page = VirusTotal()
