"""Fetching a list in one request: unchanged, or its whole text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from cowrie_enrich_dagster.services.base import ServiceConfig, ask
from cowrie_enrich_dagster.services.lists.reading import ListRefused

MAX_BYTES = 64 * 1024 * 1024
"""Of a list's text, decompressed."""
TIMEOUT_S = 120.0
"""The deadline of a list's request, its body read."""

_PREFIX = "list_"
_VALIDATOR = re.compile(r"[ -~]{1,200}")


def list_service_name(name: str) -> str:
    """What a list is called among the services: in the queue, the cache and the ledger."""
    return f"{_PREFIX}{name}"


def is_list(service: str) -> bool:
    """Whether that is such a name."""
    return service.startswith(_PREFIX)


@dataclass(frozen=True)
class ListPlace:
    """Where a list is, and what its publisher called the version that we have (RFC 9110, 13.1)."""

    url: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class Fetched:
    """A list as it was sent; `body` is None where it has not changed since our version."""

    body: bytes | None
    etag: str | None = None
    last_modified: str | None = None


def fetch_list(place: ListPlace, http: requests.Session) -> Fetched:
    """Fetch a list in one request, without credentials, unless it is the version that we have.

    Raises `ListRefused` for a body of more than `MAX_BYTES`, an answer that is none, or a redirect (a list
    that moved is configured anew), `requests.RequestException` where `Service.fetch` does.
    """
    parts = urlsplit(place.url)
    config = ServiceConfig(f"{parts.scheme}://{parts.netloc}", timeout_s=TIMEOUT_S)
    response = ask(http, config, parts.path or "/", headers={"Accept": "*/*", **_conditions(place)})
    response.raise_for_status()
    if response.status_code == 304:
        if not _conditions(place):
            raise ListRefused("status 304, though we have none")
        return Fetched(None, place.etag, place.last_modified)
    if 300 <= response.status_code < 400:
        raise ListRefused(f"status {response.status_code}: it has moved; is the URL right?")
    if response.status_code != 200:
        raise ListRefused(f"status {response.status_code}")
    body = response.content
    if len(body) > MAX_BYTES:
        raise ListRefused(f"it has more than {MAX_BYTES // 2**20} MiB")
    return Fetched(body, _header(response, "ETag"), _header(response, "Last-Modified"))


def _conditions(place: ListPlace) -> Mapping[str, str]:
    conditions = {"If-None-Match": place.etag, "If-Modified-Since": place.last_modified}
    return {name: value for name, value in conditions.items() if value}


def _header(response: requests.Response, name: str) -> str | None:
    value = response.headers.get(name, "").strip()
    return value if _VALIDATOR.fullmatch(value) else None
