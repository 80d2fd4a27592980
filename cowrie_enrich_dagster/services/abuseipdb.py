"""AbuseIPDB: how often an address was reported, and how confident that makes them that it is abusive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

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
    Window,
    about,
    ask,
    no_error,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus

MAX_AGE_DAYS = 90
"""How old the reports may be that the score is made of."""

_TELLING = ("totalReports", "abuseConfidenceScore", "countryCode", "isp", "domain", "usageType", "isTor")


class AbuseIpDb(AddressService):
    """`GET /check` of API v2, documented at https://docs.abuseipdb.com/#check-endpoint.

    401 is a refused key, 402 something that only paid plans may ask, 422 an address that it refuses, 429 the
    day's quota, with Retry-After. Reports themselves (comments, reporters) are not asked for.
    """

    name = "abuseipdb"
    rank = 40
    ttl = timedelta(days=7)
    limits = Limits(
        rate=1.0,
        windows=(Window("day", 1000),),
        source="https://docs.abuseipdb.com/#api-daily-rate-limits: 1,000 checks a day on the free plan;"
        " one a second is ours (read 2026-11-26)",
    )
    default_url = "https://api.abuseipdb.com/api/v2"
    auth_statuses = frozenset({401, 402, 403})
    tells = frozenset({"country_iso_code", "is_tor", "abuse_score", "reports"})

    def request(self, key: str, http: requests.Session, config: ServiceConfig) -> requests.Response:
        """See `AddressService.request`."""
        query = urlencode({"ipAddress": key, "maxAgeInDays": MAX_AGE_DAYS})
        return ask(http, config, f"/check?{query}", headers={"Key": config.api_key or ""})

    def answer(self, body: dict[str, Any], address: Address) -> Answer:
        """See `AddressService.answer`."""
        record = read.obj(body.get("data"))
        no_error(body, record)
        about(address, record.get("ipAddress"))
        if read.whole(record.get("abuseConfidenceScore")) is None:
            raise InvalidAnswer("no abuseConfidenceScore")
        if not any(record.get(name) for name in _TELLING):
            return Answer(LookupStatus.NOT_FOUND)
        return Answer(LookupStatus.FOUND, body)

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


SERVICE: Service = AbuseIpDb()
