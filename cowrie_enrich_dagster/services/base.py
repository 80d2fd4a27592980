"""What a service is: the protocol all of them share, and the rules of reading an HTTP answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib import metadata
from typing import Any, Literal, Protocol

import orjson
import requests

from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

VERSION = metadata.version("cowrie_enrich_dagster")

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""A body larger than this is not an answer: no service here sends a tenth of it."""


@dataclass(frozen=True)
class Window:
    """A quota of `limit` requests in one calendar minute, day or month (UTC)."""

    name: Literal["minute", "day", "month"]
    limit: int


@dataclass(frozen=True)
class Limits:
    """What a service allows by default: steady `rate` (requests a second), `burst`, quota `windows`.

    `source` names the page or statement that the numbers come from.
    """

    rate: float
    source: str
    burst: int = 1
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class ServiceConfig:
    """Where and as whom a service is asked. `contact` is the e-mail address put into the User-Agent."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)
    contact: str | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Answer:
    """What one service said about one key.

    `payload` is the service's own JSON for FOUND (None otherwise); `detail` says what went wrong.
    """

    status: LookupStatus
    payload: dict[str, Any] | None = None
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """A payload reduced to the columns that all services share (ECS meaning in brackets)."""

    as_number: int | None = None  # source.as.number
    as_organization: str | None = None  # source.as.organization.name
    country_iso_code: str | None = None  # source.geo.country_iso_code
    network: str | None = None  # CIDR the address belongs to
    is_scanner: bool | None = None  # known benign mass scanner
    reports: int | None = None  # how often the service's contributors reported it
    first_seen: date | None = None
    last_seen: date | None = None
    malicious: int | None = None  # engines that call a file malicious
    file_label: str | None = None  # the name most of them give it


class Service(Protocol):
    """One intelligence service. Implementations are stateless; one short file each.

    A module of this package whose name has no leading underscore offers its service as `SERVICE`.
    """

    name: str
    rank: int
    """Place among the services, lowest first; where two disagree on a shared column, it is believed."""
    subject: Subject
    ttl: timedelta
    not_found_ttl: timedelta
    limits: Limits
    default_url: str
    needs_key: bool
    """Whether it is not asked at all until a key is configured."""
    limit_statuses: frozenset[int]
    """HTTP statuses by which this service says "slow down" (429 everywhere; DShield's 401 too)."""
    batch_size: int
    """How many keys one request may carry."""

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """Ask once (one HTTP request) about up to `batch_size` keys; every key gets an Answer.

        Raises `requests.RequestException`: `HTTPError` (with its response) for a status that says nothing
        about the keys (limits, refused keys, server faults), others when the service could not be reached.
        """

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """Reduce a FOUND payload to the shared columns; never raises on odd shapes."""


class InvalidAnswer(Exception):
    """A body that is not what the service documents; the message says how, without quoting the body."""


def ask(http: requests.Session, config: ServiceConfig, path: str) -> requests.Response:
    """GET `path` below the service's URL, naming ourselves and our contact in the User-Agent.

    Redirects are not followed: a service that moved is configured anew, not trailed with our keys. The body
    is yet to be read (see `json_object`). Raises `requests.RequestException` when there is no answer.
    """
    agent = f"cowrie_enrich_dagster/{VERSION}"
    if config.contact:
        agent += f" (+{config.contact})"
    return http.get(
        f"{config.api_url.rstrip('/')}{path}",
        headers={"User-Agent": agent, "Accept": "application/json"},
        timeout=config.timeout_s,
        allow_redirects=False,
        stream=True,
    )


def json_object(response: requests.Response) -> dict[str, Any]:
    """The body as a JSON object; it is read here, and no further than `MAX_ANSWER_BYTES`.

    Raises `requests.HTTPError` for a 4xx/5xx status and `InvalidAnswer` for a redirect or a body that is too
    large, is not JSON, or is JSON of another shape (an HTML page with status 200 is common behind proxies).
    """
    try:
        content = _read(response)
    except requests.RequestException:
        response.raise_for_status()  # what the status says holds, even if the body behind it is broken
        raise
    response.raise_for_status()
    if not 200 <= response.status_code < 300:
        raise InvalidAnswer(f"status {response.status_code}")
    if content is None:
        raise InvalidAnswer(f"body of more than {MAX_ANSWER_BYTES} bytes")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidAnswer(f"body is not JSON ({media_type(response)})") from None
    if not isinstance(body, dict):
        raise InvalidAnswer(f"JSON {type(body).__name__} instead of an object")
    return body


def media_type(response: requests.Response) -> str:
    """The Content-Type without its parameters, in lower case, such as `text/html`."""
    return response.headers.get("Content-Type", "no content type").split(";")[0].strip().lower()[:40]


def _read(response: requests.Response) -> bytes | None:
    content = bytearray()
    for chunk in response.iter_content(65536):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            response.close()
            return None
    return bytes(content)
