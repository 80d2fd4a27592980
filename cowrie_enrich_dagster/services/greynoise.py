"""GreyNoise: whether an address scans the whole Internet, and whether it is known to be benign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import requests

from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.services.base import (
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    Window,
    answer_from,
    ask,
    json_object,
    no_error,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject


class GreyNoise:
    """`GET /community/{ip}` of API v3, documented at https://docs.greynoise.io/reference/get_v3-community-ip.

    IPv4 only: others get 400, so they are not sent. 404 is an answer too (never observed), in the shape of
    the others; 401 is a refused key, 429 the used-up plan.
    """

    name = "greynoise"
    rank = 20
    subject = Subject.IP
    ttl = timedelta(days=7)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=1.0,
        # A week is no window of ours: seven a day are 49 of the 50.
        windows=(Window("day", 7),),
        source="https://docs.greynoise.io/docs/using-the-greynoise-community-api: 50 lookups a week"
        " (noted 2026-11-23)",
    )
    default_url = "https://api.greynoise.io/v3"
    needs_key = True
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"is_scanner", "classification"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Keys are IP addresses; an IPv6 one is `skipped_policy`, nothing being sent."""
        (key,) = keys
        address = ip_address(key)
        if address.version != 4:
            return {key: Answer(LookupStatus.SKIPPED_POLICY, detail="GreyNoise knows IPv4 only")}
        response = ask(http, config, f"/community/{key}", headers={"key": config.api_key or ""})
        return {key: answer_from(lambda: _answer(json_object(response, {404}), address))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _answer(dict(payload), ip_address(key))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. An address that is in RIOT alone (common business services) does not scan."""
        verdict = read.text(payload.get("classification"))
        return Facts(
            is_scanner=_scans(payload.get("noise") is True, payload.get("riot") is True, verdict),
            classification=verdict,
            last_seen=read.day(payload.get("last_seen")),
        )


def _scans(noise: bool, riot: bool, verdict: str | None) -> bool | None:
    if noise and verdict == "benign":
        return True
    if verdict in ("malicious", "suspicious") or (riot and not noise):
        return False
    return None


def _answer(body: dict[str, Any], address: IPv4Address | IPv6Address) -> Answer:
    no_error(body)
    noise, riot = read.flag(body.get("noise")), read.flag(body.get("riot"))
    if noise is None or riot is None:
        raise InvalidAnswer("it says neither whether the address is noise nor whether it is in RIOT")
    if read.address(body.get("ip")) != address:
        raise InvalidAnswer("it is not about this address")
    return Answer(LookupStatus.FOUND, body) if noise or riot else Answer(LookupStatus.NOT_FOUND)


SERVICE: Service = GreyNoise()
