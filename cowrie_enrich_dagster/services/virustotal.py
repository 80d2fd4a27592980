"""VirusTotal: how many engines call a file malicious, and what they call it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
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

SHA256 = re.compile(r"[0-9a-f]{64}")


class VirusTotal:
    """`GET /files/{sha256}` of API v3, documented at https://docs.virustotal.com/reference/file-info.

    Statuses (https://docs.virustotal.com/reference/errors): 401 for a missing or wrong key or an inactive
    account, 403 for what the key may not do, 404 with `NotFoundError` for a file never seen, 429 for a quota
    that is used up (204 in API v2).
    """

    name = "virustotal"
    rank = 50
    subject = Subject.FILE_SHA256
    ttl = timedelta(days=30)
    not_found_ttl = timedelta(hours=12)
    limits = Limits(
        rate=4 / 60,
        source="https://docs.virustotal.com/reference/public-vs-premium-api: 4 requests a minute, 500 a day;"
        " days end at 00:00 UTC (https://docs.virustotal.com/docs/consumption-quotas-handled); both read"
        " 2026-11-26",
        windows=(Window("minute", 4), Window("day", 500)),
        used_up="QuotaExceededError",
    )
    default_url = "https://www.virustotal.com/api/v3"
    needs_key = True
    limit_statuses = frozenset({204, 429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"malicious", "file_label"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. Keys are SHA-256 hashes, 64 hexadecimal digits in lower case."""
        (key,) = keys
        if not SHA256.fullmatch(key):
            raise ValueError("a key is a SHA-256 hash: 64 hexadecimal digits in lower case")
        response = ask(http, config, f"/files/{key}", headers={"x-apikey": config.api_key or ""})
        if response.status_code == 204:
            raise requests.HTTPError("204: the quota is used up", response=response)
        return {key: answer_from(lambda: _answer(response, key))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        return _known(dict(payload), key)

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """See `Service.facts`. First and last seen are the days of the first and last submission."""
        attributes = read.obj(read.obj(payload.get("data")).get("attributes"))
        stats = read.obj(attributes.get("last_analysis_stats"))
        threat = read.obj(attributes.get("popular_threat_classification"))
        return Facts(
            malicious=read.whole(stats.get("malicious")),
            suspicious=read.whole(stats.get("suspicious")),
            file_label=read.text(threat.get("suggested_threat_label")),
            first_seen=read.epoch_day(attributes.get("first_submission_date")),
            last_seen=read.epoch_day(attributes.get("last_submission_date")),
        )


def _answer(response: requests.Response, key: str) -> Answer:
    body = json_object(response, {404})
    error = read.obj(body.get("error"))
    if response.status_code == 404:
        if error.get("code") != "NotFoundError" or key not in (read.text(error.get("message")) or "").lower():
            raise InvalidAnswer("HTTP 404, but not about this file: is the URL right?")
        return Answer(LookupStatus.NOT_FOUND)
    return _known(body, key)


def _known(body: dict[str, Any], key: str) -> Answer:
    data = read.obj(body.get("data"))
    no_error(body, data)
    if data.get("type") != "file" or not isinstance(data.get("attributes"), dict):
        raise InvalidAnswer("no file under 'data'")
    if data.get("id") != key:
        raise InvalidAnswer("it is about another file")
    return Answer(LookupStatus.FOUND, body)


SERVICE: Service = VirusTotal()
