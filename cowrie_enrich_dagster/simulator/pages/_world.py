"""The world that all pages show: the same address is in the same network at every service, on every run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random
from typing import NamedTuple
from urllib.parse import parse_qs

import orjson

from cowrie_enrich_dagster.simulator.pages.base import Reply

LAST_DAY = date(2025, 11, 3)
"""The pages' today: nothing is later, so that answers do not change from day to day."""

Address = IPv4Address | IPv6Address

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


class Announcement(NamedTuple):
    """Who announces an address: the autonomous system, its size in addresses and its contact; the network."""

    number: int
    name: str
    country: str
    size: int
    contact: str
    network: str


def draw(*parts: bytes) -> Random:
    """A source of chance that gives the same draws for the same bytes."""
    return Random(hashlib.sha256(b"|".join(parts)).digest())  # noqa: S311 (repeatable by design)


def announcement(address: Address) -> Announcement:
    """Neighbours share one: the first 16 bits of an IPv4 address, the first 32 of an IPv6 one."""
    shared = draw(address.packed[:2] if address.version == 4 else address.packed[:4])
    (system, *_) = shared.choices(_NETWORKS, _NETWORK_WEIGHTS)
    prefix = shared.randint(16, 22) if address.version == 4 else shared.randint(32, 48)
    return Announcement(*system, str(ip_network(f"{address}/{prefix}", strict=False)))


@lru_cache(maxsize=64)
def attackers(day: date, count: int) -> tuple[str, ...]:
    """The addresses of one day's worst attackers."""
    chance = draw(b"attackers", day.isoformat().encode())
    found: dict[str, None] = {}
    while len(found) < count:
        address = IPv4Address(chance.getrandbits(32))
        if address.is_global and not address.is_multicast:
            found[str(address)] = None
    return tuple(found)


def parse_address(text: str) -> Address | None:
    """An IP address, or None."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def parse_day(text: str) -> date | None:
    """A day written YYYY-MM-DD, or None."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def fields(text: str) -> dict[str, str]:
    """The last value of each field of a query or form."""
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON body as an HTTP response."""
    return Reply(status, orjson.dumps(body), headers=headers or {})
