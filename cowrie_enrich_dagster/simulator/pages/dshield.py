"""DShield's IP lookup (`GET /ip/{ip}?json`), as the Internet Storm Center answers it.

Shapes: https://isc.sans.edu/api/#ip and answers published in github.com/jreisinger/checkip issue 30. An
address without reports has nulls for them and still names its network; `threatfeeds` is an object, null or
missing; a bad address is an error with status 200.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random
from typing import Any
from urllib.parse import unquote

import orjson

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

LAST_DAY = date(2025, 11, 3)
"""The page's today: no report is later, so that answers do not change from day to day."""

DEFAULT_AGENTS = ("python-requests", "python-urllib", "curl", "wget", "go-http-client", "java", "okhttp")

_Network = tuple[int, str, str, int, str]

# AS number, name, country, size in addresses, abuse contact; most common among attackers first.
_NETWORKS: tuple[_Network, ...] = (
    (14061, "DIGITALOCEAN-ASN", "US", 3091968, "abuse@digitalocean.com"),
    (4134, "CHINANET-BACKBONE No.31,Jin-rong Street", "CN", 110482176, "anti-spam@chinatelecom.cn"),
    (4837, "CHINA169-BACKBONE CHINA UNICOM China169 Backbone", "CN", 58949632, "zhaoyz3@chinaunicom.cn"),
    (45090, "TENCENT-NET-AP Shenzhen Tencent Computer Systems", "CN", 5201920, "qcloud_net_duty@tencent.com"),
    (37963, "ALIBABA-CN-NET Hangzhou Alibaba Advertising", "CN", 8192000, "intl-abuse@list.alibaba-inc.com"),
    (16276, "OVH", "FR", 4205824, "abuse@ovh.net"),
    (4766, "KIXS-AS-KR Korea Telecom", "KR", 46137344, "kt_abuse@kt.com"),
    (9829, "BSNL-NIB National Internet Backbone", "IN", 6815744, "abuse@bsnl.in"),
    (7552, "VIETEL-AS-AP Viettel Group", "VN", 3276800, "soc@viettel.com.vn"),
    (45899, "VNPT-AS-VN VNPT Corp", "VN", 4128768, "hm-changed@vnnic.vn"),
    (12389, "ROSTELECOM-AS", "RU", 9175040, "abuse@rt.ru"),
    (24940, "HETZNER-AS", "DE", 2490368, "abuse@hetzner.com"),
    (16509, "AMAZON-02", "US", 60817408, "abuse@amazonaws.com"),
    (8075, "MICROSOFT-CORP-MSN-AS-BLOCK", "US", 44952576, "abuse@microsoft.com"),
    (396982, "GOOGLE-CLOUD-PLATFORM", "US", 15728640, "google-cloud-compliance@google.com"),
    (28573, "Claro NXT Telecomunicacoes Ltda", "BR", 9437184, "abuse@claro.com.br"),
    (18881, "TELEFONICA BRASIL S.A", "BR", 6291456, "abuse@telefonica.com.br"),
    (17974, "TELKOMNET-AS2-AP PT Telekomunikasi Indonesia", "ID", 4521984, "abuse@telkom.co.id"),
    (3462, "HINET Data Communication Business Group", "TW", 12320768, "spam@hinet.net"),
    (2516, "KDDI KDDI CORPORATION", "JP", 15990784, "hostmaster@nic.ad.jp"),
    (3320, "DTAG Internet service provider operations", "DE", 34570240, "auftrag@nic.telekom.de"),
    (9121, "TTNET", "TR", 6946816, "abuse@ttnet.com.tr"),
    (8151, "UNINET", "MX", 14155776, "abuse@uninet.net.mx"),
    (7922, "COMCAST-7922", "US", 66192817, "abuse@comcast.net"),
    (60068, "CDN77 ^_^", "GB", 211456, "abuse@cdn77.com"),
    (49505, "SELECTEL", "RU", 614400, "abuse@selectel.ru"),
    (51167, "CONTABO", "DE", 235520, "abuse@contabo.de"),
    (36352, "AS-COLOCROSSING", "US", 790528, "abuse@colocrossing.com"),
)
_NETWORK_WEIGHTS = tuple(1.0 / (rank + 4) for rank in range(len(_NETWORKS)))

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
        if not keys or request.method != "GET" or request.query != "json":
            return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
        try:
            address = ip_address(keys[0])
        except ValueError:
            return _json({"error": "bad IP address"})
        return _json({"ip": _record(address)})


def _json(body: dict[str, Any]) -> Reply:
    return Reply(200, orjson.dumps(body), "text/json")


def _draw(data: bytes) -> Random:
    return Random(hashlib.sha256(data).digest())  # noqa: S311 (repeatable by design)


def _record(address: IPv4Address | IPv6Address) -> dict[str, Any]:
    own = _draw(address.packed)
    # Neighbours share a network: the first 16 bits of an IPv4 address, the first 32 of an IPv6 one.
    shared = _draw(address.packed[:2] if address.version == 4 else address.packed[:4])
    reported = own.random() < 0.62
    record = (
        _reports(own) if reported else dict.fromkeys(("count", "attacks", "maxdate", "mindate", "updated"))
    )
    record = {"number": address.exploded, **record, "comment": None, "maxrisk": None}
    # A few addresses are announced by nobody.
    record |= _announcement(address, shared) if own.random() < 0.95 else dict.fromkeys(_ANNOUNCED)
    feeds = _threat_feeds(own) if own.random() < (0.4 if reported else 0.04) else None
    if feeds or own.random() < 0.5:
        record["threatfeeds"] = feeds
    return record


def _reports(draw: Random) -> dict[str, Any]:
    count = int(draw.paretovariate(0.45))
    last = LAST_DAY - timedelta(days=min(int(draw.expovariate(1 / 20)), 700))
    first = last - timedelta(days=0 if count == 1 else min(int(draw.expovariate(1 / 60)), 1200))
    updated = datetime.combine(last + timedelta(days=1), time(4, draw.randrange(60), draw.randrange(60)))
    return {
        "count": min(count, 2_000_000),
        "attacks": max(1, min(int(count ** draw.uniform(0.5, 1.0)), 60_000)),
        "maxdate": last.isoformat(),
        "mindate": first.isoformat(),
        "updated": updated.isoformat(sep=" "),
    }


_ANNOUNCED = ("asabusecontact", "as", "asname", "ascountry", "assize", "network")


def _announcement(address: IPv4Address | IPv6Address, draw: Random) -> dict[str, Any]:
    (number, name, country, size, contact), *_ = draw.choices(_NETWORKS, _NETWORK_WEIGHTS)
    prefix = draw.randint(16, 22) if address.version == 4 else draw.randint(32, 48)
    network = ip_network(f"{address}/{prefix}", strict=False)
    return dict(zip(_ANNOUNCED, (contact, number, name, country, size, str(network)), strict=True))


def _threat_feeds(draw: Random) -> dict[str, dict[str, str]]:
    feeds = {}
    for feed in draw.sample(_FEEDS, k=draw.randint(1, 3)):
        last = LAST_DAY - timedelta(days=draw.randrange(30))
        first = last - timedelta(days=draw.randrange(400))
        feeds[feed] = {"lastseen": last.isoformat(), "firstseen": first.isoformat()}
    return feeds


PAGE: Page = DShield()
