"""DShield (SANS Internet Storm Center): who reported an address, and whose network it is in."""

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

_TELLING = (
    *("count", "attacks", "maxdate", "mindate", "comment", "maxrisk", "asabusecontact"),
    *("as", "asname", "ascountry", "assize", "network", "threatfeeds"),
)


class DShield:
    """`GET /ip/{ip}?json`, documented at https://isc.sans.edu/api/#ip. See `Service`.

    No key, but a contact address in the User-Agent: its operators block the default agents of libraries with
    403, and have answered too many requests with 401 as well as with 429.
    """

    name = "dshield"
    rank = 10
    subject = Subject.IP
    ttl = timedelta(days=7)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=0.5,
        burst=1,
        source="half of the 1 request a second that https://isc.sans.edu/properbots.html allows (read"
        " 2026-11-26)",
    )
    default_url = "https://isc.sans.edu/api"
    needs_key = False
    limit_statuses = frozenset({401, 429})
    auth_statuses = frozenset({403})
    batch_size = 1
    own_moment: tuple[str, ...] = ("ip", "updated")
    tells = frozenset({"as_number", "as_organization", "country_iso_code", "network", "reports"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Raises ValueError for other than one key, or one that is not an IP address."""
        (key,) = keys
        return {key: dshield_query(key, http, config)}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _answer(dict(payload), ip_address(key))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. Reports are `count`, or `attacks` (the targets) where that is missing."""
        record = payload.get("ip")
        if not isinstance(record, dict):
            return Facts()
        reports = read.whole(record.get("count"))
        return Facts(
            as_number=read.as_number(record.get("as")),
            as_organization=read.text(record.get("asname")),
            country_iso_code=read.country(record.get("ascountry")),
            network=read.network(record.get("network")),
            reports=read.whole(record.get("attacks")) if reports is None else reports,
            first_seen=read.day(record.get("mindate")),
            last_seen=read.day(record.get("maxdate")),
        )


def dshield_query(ip: str, http: requests.Session, config: ServiceConfig) -> Answer:
    """Ask DShield about one address, in one request through `http`.

    `found` with the answer as sent, `not_found` where DShield knows nothing at all, `invalid_response` for
    anything that is not an answer about this address, a 404 among it: an address that nobody reported has a
    record of nulls (https://isc.sans.edu/api/#ip). Raises `requests.HTTPError` for a limit (401, 429), a
    refused User-Agent (403) or a fault of the server, other `requests.RequestException`s when it could not be
    reached, and ValueError if `ip` is not an IP address.
    """
    address = ip_address(ip)
    response = ask(http, config, f"/ip/{quote(ip, safe=':')}?json")
    return answer_from(lambda: _answer(json_object(response), address))


def _answer(body: dict[str, Any], address: IPv4Address | IPv6Address) -> Answer:
    record = read.obj(body.get("ip"))
    no_error(body, record)
    if not record:
        raise InvalidAnswer("no object under 'ip'")
    echoed = read.address(record.get("number"))
    if echoed is None:
        raise InvalidAnswer("it does not name its address")
    if echoed != address:
        raise InvalidAnswer("it is about another address")
    if not any(record.get(name) for name in _TELLING):
        return Answer(LookupStatus.NOT_FOUND)
    return Answer(LookupStatus.FOUND, body)


SERVICE: Service = DShield()
