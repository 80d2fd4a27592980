"""Spur: whether an address is a way out of a VPN, a proxy network or Tor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    Address,
    AddressService,
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    about,
    ask,
    no_error,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus

_DOCUMENTED = (
    *("as", "organization", "infrastructure", "location", "client", "tunnels", "risks", "services"),
    *("ai", "behaviors", "concentration", "devices", "proxies", "types"),
)


class Spur(AddressService):
    """`GET /context/{ip}` of the Context API v2, documented at https://docs.spur.us/context-api/endpoints.

    400 is an address that is not public, 401 a refused token, 403 a token without the Context API, 429 a
    balance used up; every answer tells what is left of it in `x-balance-remaining`. Fields without a value
    are left out. A 404 is not documented: one that names our address says that nothing is known of it, any
    other is a gateway's.
    """

    name = "spur"
    rank = 30
    ttl = timedelta(days=14)
    limits = Limits(
        rate=2.0,
        source="https://docs.spur.us/context-api/endpoints: a balance per billing cycle, by contract, and no"
        " rate; two a second is ours (noted 2026-11-23)",
    )
    default_url = "https://api.spur.us/v2"
    telling = frozenset({404})
    tells = frozenset({"as_number", "as_organization", "country_iso_code", "is_proxy", "is_vpn", "is_tor"})

    def request(self, key: str, http: requests.Session, config: ServiceConfig) -> requests.Response:
        """See `AddressService.request`."""
        path = f"/context/{quote(key, safe=':')}"
        return ask(http, config, path, headers={"Token": config.api_key or ""})

    def answer(self, body: dict[str, Any], address: Address) -> Answer:
        """See `AddressService.answer`."""
        no_error(body)
        about(address, body.get("ip"))
        if any(body.get(name) for name in _DOCUMENTED):
            return Answer(LookupStatus.FOUND, body)
        if strange := body.keys() - {"ip", *_DOCUMENTED}:
            raise InvalidAnswer(f"{len(strange)} fields that are none of a context, and none that is")
        return Answer(LookupStatus.NOT_FOUND)

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


SERVICE: Service = Spur()
