"""URLhaus (abuse.ch): the malware downloads that an address has served."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

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


class Urlhaus(AddressService):
    """`POST /host/` with the form field `host`, documented at https://urlhaus-api.abuse.ch/#hostinfo.

    The outcome is `query_status`, not the HTTP status: `ok`, `no_results`, `invalid_host`. Without a key the
    status is 401, with a wrong one 403 and `unknown_auth_key`, which has come with 200, too.
    """

    name = "urlhaus"
    rank = 60
    ttl = timedelta(days=3)
    limits = Limits(
        rate=1.0,
        source="https://urlhaus-api.abuse.ch/ states no number; one a second is ours (noted 2026-11-23)",
    )
    default_url = "https://urlhaus-api.abuse.ch/v1"
    tells = frozenset({"reports"})

    def request(self, key: str, http: requests.Session, config: ServiceConfig) -> requests.Response:
        """See `AddressService.request`."""
        headers = {"Auth-Key": config.api_key or ""}
        return ask(http, config, "/host/", headers=headers, form={"host": key})

    def answer(self, body: dict[str, Any], address: Address) -> Answer:
        """See `AddressService.answer`."""
        no_error(body)
        status = body.get("query_status")
        if status == "no_results":
            return Answer(LookupStatus.NOT_FOUND)
        if status == "unknown_auth_key":
            return Answer(LookupStatus.AUTH_FAILED, detail="it does not know our key (unknown_auth_key)")
        if status != "ok":
            raise InvalidAnswer("query_status is neither 'ok' nor 'no_results'")
        # The vendor's own examples differ in which fields they have; one of these two names the host.
        reference = (read.text(body.get("urlhaus_reference")) or "").rstrip("/").rpartition("/host/")[2]
        about(address, body.get("host"), reference)
        return Answer(LookupStatus.FOUND, body)

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. Reports are the URLs on record, last seen is the day the newest was added."""
        added = [read.day(url.get("date_added")) for url in read.objects(payload.get("urls"))]
        return Facts(
            reports=read.whole(payload.get("url_count")),
            first_seen=read.day(payload.get("firstseen")),
            last_seen=max((day for day in added if day), default=None),
        )


SERVICE: Service = Urlhaus()
