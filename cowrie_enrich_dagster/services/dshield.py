"""DShield (SANS Internet Storm Center): who reported an address, and whose network it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
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
    ask,
    json_object,
    media_type,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject


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
        source="half of the 1 request a second that https://isc.sans.edu/properbots.html allows",
    )
    default_url = "https://isc.sans.edu/api"
    needs_key = False
    limit_statuses = frozenset({401, 429})
    auth_statuses = frozenset({403})
    batch_size = 1

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Raises ValueError for other than one key, or one that is not an IP address."""
        (key,) = keys
        return {key: dshield_query(key, http, config)}

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
    anything that is not an answer about this address. Raises `requests.HTTPError` for a limit (401, 429), a
    refused User-Agent (403) or a fault of the server, other `requests.RequestException`s when it could not be
    reached, and ValueError if `ip` is not an IP address.
    """
    address = ip_address(ip)
    response = ask(http, config, f"/ip/{quote(ip, safe=':')}?json")
    try:
        body = json_object(response)
    except InvalidAnswer as error:
        return Answer(LookupStatus.INVALID_RESPONSE, detail=str(error))
    except requests.HTTPError:
        return _refused(response)
    record = body.get("ip")
    if not isinstance(record, dict):
        detail = "the address is refused" if "error" in body else "no object under 'ip'"
        return Answer(LookupStatus.INVALID_RESPONSE, detail=detail)
    echoed = read.address(record.get("number"))
    if echoed is None:
        return Answer(LookupStatus.INVALID_RESPONSE, detail="it does not name its address")
    if echoed != address:
        return Answer(LookupStatus.INVALID_RESPONSE, detail="it is about another address")
    if not any(value for name, value in record.items() if name not in ("number", "updated")):
        return Answer(LookupStatus.NOT_FOUND)
    return Answer(LookupStatus.FOUND, body)


def _refused(response: requests.Response) -> Answer:
    """What a 4xx/5xx status says about the address; raises `requests.HTTPError` if it says nothing."""
    if response.status_code == 400:
        return Answer(LookupStatus.INVALID_RESPONSE, detail="the address is refused")
    if response.status_code != 404:
        response.raise_for_status()
    if media_type(response) == "text/html":
        # A web page where an API should be: the URL is wrong, which must not pass for "nothing known".
        return Answer(LookupStatus.INVALID_RESPONSE, detail="status 404 with a web page: is the URL right?")
    return Answer(LookupStatus.NOT_FOUND)


SERVICE: Service = DShield()
