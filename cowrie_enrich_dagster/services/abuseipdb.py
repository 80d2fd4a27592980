"""AbuseIPDB: how often an address was reported, and how confident that makes them that it is abusive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlencode

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

MAX_AGE_DAYS = 90
"""How old the reports may be that the score is made of."""

_TELLING = ("totalReports", "abuseConfidenceScore", "countryCode", "isp", "domain", "usageType", "isTor")


class AbuseIpDb:
    """`GET /check` of API v2, documented at https://docs.abuseipdb.com/#check-endpoint.

    401 is a refused key, 402 something that only paid plans may ask, 422 an address that it refuses, 429 the
    day's quota, with Retry-After. Reports themselves (comments, reporters) are not asked for.
    """

    name = "abuseipdb"
    rank = 40
    subject = Subject.IP
    ttl = timedelta(days=7)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=1.0,
        windows=(Window("day", 1000),),
        source="https://docs.abuseipdb.com/#api-daily-rate-limits: 1,000 checks a day on the free plan;"
        " one a second is ours (read 2026-11-26)",
    )
    default_url = "https://api.abuseipdb.com/api/v2"
    needs_key = True
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 402, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"country_iso_code", "is_tor", "abuse_score", "reports"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Keys are IP addresses."""
        (key,) = keys
        address = ip_address(key)
        query = urlencode({"ipAddress": key, "maxAgeInDays": MAX_AGE_DAYS})
        response = ask(http, config, f"/check?{query}", headers={"Key": config.api_key or ""})
        return {key: answer_from(lambda: _answer(json_object(response), address))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _answer(dict(payload), ip_address(key))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. The score is their confidence of abuse, last seen the last report's day."""
        record = read.obj(payload.get("data"))
        score = read.whole(record.get("abuseConfidenceScore"))
        return Facts(
            country_iso_code=read.country(record.get("countryCode")),
            is_tor=read.flag(record.get("isTor")),
            abuse_score=score if score is not None and score <= 100 else None,
            reports=read.whole(record.get("totalReports")),
            last_seen=read.day(record.get("lastReportedAt")),
        )


def _answer(body: dict[str, Any], address: IPv4Address | IPv6Address) -> Answer:
    record = read.obj(body.get("data"))
    no_error(body, record)
    if read.address(record.get("ipAddress")) != address:
        raise InvalidAnswer("it is not about this address")
    if read.whole(record.get("abuseConfidenceScore")) is None:
        raise InvalidAnswer("no abuseConfidenceScore")
    if not any(record.get(name) for name in _TELLING):
        return Answer(LookupStatus.NOT_FOUND)
    return Answer(LookupStatus.FOUND, body)


SERVICE: Service = AbuseIpDb()
