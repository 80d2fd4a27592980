"""Spur: whether an address is a way out of a VPN, a proxy network or Tor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import quote

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    answer_from,
    ask,
    json_object,
    no_error,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject


class Spur:
    """`GET /context/{ip}` of the Context API v2, documented at https://docs.spur.us/context-api/endpoints.

    400 is an address that is not public, 401 a refused token, 403 a token without the Context API, 429 a
    balance used up; every answer tells what is left of it in `x-balance-remaining`. Fields without a value
    are left out. A 404 is not documented: one that names our address says that nothing is known of it, any
    other is a gateway's.
    """

    name = "spur"
    rank = 30
    subject = Subject.IP
    ttl = timedelta(days=14)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=2.0,
        source="https://docs.spur.us/context-api/endpoints: a balance per billing cycle, by contract, and no"
        " rate; two a second is ours (noted 2026-11-23)",
    )
    default_url = "https://api.spur.us/v2"
    needs_key = True
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"as_number", "as_organization", "country_iso_code", "is_proxy", "is_vpn", "is_tor"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Keys are IP addresses."""
        (key,) = keys
        address = ip_address(key)
        path = f"/context/{quote(key, safe=':')}"
        response = ask(http, config, path, headers={"Token": config.api_key or ""})
        return {key: answer_from(lambda: _answer(json_object(response, {404}), address))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _answer(dict(payload), ip_address(key))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. What Spur leaves out it has not seen: no tunnel of a kind means False."""
        if "ip" not in payload:
            return Facts()
        system, location = read.obj(payload.get("as")), read.obj(payload.get("location"))
        kinds = {read.text(tunnel.get("type")) for tunnel in read.objects(payload.get("tunnels"))}
        proxies = read.obj(payload.get("client")).get("proxies")
        return Facts(
            as_number=read.as_number(system.get("number")),
            as_organization=read.text(system.get("organization")),
            country_iso_code=read.country(location.get("country")),
            is_proxy=bool(proxies) or "PROXY" in kinds,
            is_vpn="VPN" in kinds,
            is_tor="TOR" in kinds,
        )


_DOCUMENTED = (
    *("as", "organization", "infrastructure", "location", "client", "tunnels", "risks", "services"),
    *("ai", "behaviors", "concentration", "devices", "proxies", "types"),
)


def _answer(body: dict[str, Any], address: IPv4Address | IPv6Address) -> Answer:
    no_error(body)
    if read.address(body.get("ip")) != address:
        raise InvalidAnswer("it is not about this address")
    if any(body.get(name) for name in _DOCUMENTED):
        return Answer(LookupStatus.FOUND, body)
    if strange := body.keys() - {"ip", *_DOCUMENTED}:
        raise InvalidAnswer(f"{len(strange)} fields that are none of a context, and none that is")
    return Answer(LookupStatus.NOT_FOUND)


SERVICE: Service = Spur()
