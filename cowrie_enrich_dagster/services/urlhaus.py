"""URLhaus (abuse.ch): the malware downloads that an address has served."""

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
    answer_from,
    ask,
    json_object,
    no_error,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject


class Urlhaus:
    """`POST /host/` with the form field `host`, documented at https://urlhaus-api.abuse.ch/#hostinfo.

    The outcome is `query_status`, not the HTTP status: `ok`, `no_results`, `invalid_host`. Without a key the
    status is 401, with a wrong one 403 and `unknown_auth_key`, which has come with 200, too.
    """

    name = "urlhaus"
    rank = 60
    subject = Subject.IP
    ttl = timedelta(days=3)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=1.0,
        source="https://urlhaus-api.abuse.ch/ states no number; one a second is ours (noted 2026-11-23)",
    )
    default_url = "https://urlhaus-api.abuse.ch/v1"
    needs_key = True
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"reports"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Keys are IP addresses."""
        (key,) = keys
        address = ip_address(key)
        headers = {"Auth-Key": config.api_key or ""}
        response = ask(http, config, "/host/", headers=headers, form={"host": key})
        return {key: answer_from(lambda: _answer(json_object(response), address))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _answer(dict(payload), ip_address(key))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. Reports are the URLs on record, last seen is the day the newest was added."""
        added = [read.day(url.get("date_added")) for url in read.objects(payload.get("urls"))]
        return Facts(
            reports=read.whole(payload.get("url_count")),
            first_seen=read.day(payload.get("firstseen")),
            last_seen=max((day for day in added if day), default=None),
        )


def _answer(body: dict[str, Any], address: IPv4Address | IPv6Address) -> Answer:
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
    if address not in (read.address(body.get("host")), read.address(reference)):
        raise InvalidAnswer("it is not about this address")
    return Answer(LookupStatus.FOUND, body)


SERVICE: Service = Urlhaus()
