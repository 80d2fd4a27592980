"""What a service is: the protocol all of them share, and the rules of reading an HTTP answer."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

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

    `source` names the page or statement that the numbers come from, and the day on which it was read.
    `used_up` is the word in the body of a refusal by which the service says that a day's quota, not the pace,
    is the reason; empty where it has none.
    """

    rate: float
    source: str
    burst: int = 1
    windows: tuple[Window, ...] = ()
    used_up: str = ""

    def by_window(self) -> dict[str, int]:
        """The requests allowed in each window, by its name."""
        return {window.name: window.limit for window in self.windows}


@dataclass(frozen=True)
class ServiceConfig:
    """Where and as whom a service is asked. `contact` is the e-mail address put into the User-Agent.

    `database` is the file, or the folder of files, that a service without an API reads.
    """

    api_url: str
    api_key: str | None = field(default=None, repr=False)
    contact: str | None = None
    timeout_s: float = 30.0
    database: Path | None = None


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
    is_proxy: bool | None = None
    is_vpn: bool | None = None
    is_tor: bool | None = None
    classification: str | None = None  # the service's own word: benign, suspicious, malicious, unknown
    abuse_score: int | None = None  # 0 (nothing against it) to 100 (certainly abusive)
    reports: int | None = None  # how often the service's contributors reported it
    malicious: int | None = None  # engines that call a file malicious
    suspicious: int | None = None  # engines that call it suspicious
    file_label: str | None = None  # the name most of them give it
    first_seen: date | None = None
    last_seen: date | None = None


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
    auth_statuses: frozenset[int]
    """HTTP statuses by which it refuses our key, plan or User-Agent: asking on with the same is useless."""
    batch_size: int
    """How many keys one request may carry."""
    own_moment: tuple[str, ...]
    """Where in an answer stands when its maker last touched it, which says nothing about the key; or ()."""
    tells: frozenset[str]
    """The facts (fields of `Facts`; `breached` of passwords) that its answers may tell."""

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """Ask once (one request) about up to `batch_size` keys; every key gets an Answer.

        `http` paces what is sent; a service that does not speak HTTP takes its slot from it (see `gate_of`).
        Raises ValueError, with nothing sent, for a key that is not of its `subject`, and
        `requests.RequestException`: `HTTPError` (with its response) for a status that says nothing about the
        keys (limits, refused keys, server faults), others when the service could not be reached.
        """

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """What a payload that was kept elsewhere says about `key`, read as if it had just been sent.

        Raises `InvalidAnswer` for one that is no answer about it, ValueError for what is no key.
        """

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """Reduce a FOUND payload to the shared columns; never raises on odd shapes."""


class InvalidAnswer(Exception):
    """A body that is not what the service documents; the message says how, without quoting the body."""


@runtime_checkable
class Gate(Protocol):
    """What a session offers to requests that do not go through it."""

    def slot(self) -> AbstractContextManager[None]:
        """Wait for the right to send one request; the block connects and sends it."""

    def watched(self, connection: socket.socket) -> AbstractContextManager[None]:
        """While the block lasts, a stop of the run breaks the connection."""


def gate_of(http: requests.Session) -> Gate:
    """The session as what paces requests that are not HTTP.

    Raises TypeError for a session that is no `Gate`: nothing is ever sent unpaced.
    """
    if not isinstance(http, Gate):
        raise TypeError(f"{type(http).__name__} paces HTTP only: it has no slot()")
    return http


def ask(
    http: requests.Session,
    config: ServiceConfig,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> requests.Response:
    """GET `path` below the service's URL, naming ourselves and our contact in the User-Agent; POST a `form`.

    Redirects are not followed: a service that moved is configured anew, not trailed with our keys. The body
    is yet to be read (see `json_object`). Raises `requests.RequestException` when there is no answer.
    """
    agent = f"cowrie_enrich_dagster/{VERSION}"
    if config.contact:
        agent += f" (+{config.contact})"
    return http.request(
        "GET" if form is None else "POST",
        f"{config.api_url.rstrip('/')}{path}",
        data=form,
        headers={"User-Agent": agent, "Accept": "application/json", **(headers or {})},
        timeout=config.timeout_s,
        allow_redirects=False,
        stream=True,
        hooks={"response": _stay},
    )


def _stay(response: requests.Response, **_: Any) -> None:
    # Redirects that are not followed are still worked out: a Location that is no URL would raise ValueError,
    # and the body would be read to its end, however large.
    response.headers.pop("Location", None)


_NOT_ABOUT_THE_KEY = frozenset({401, 402, 403, 407, 408, 421, 425, 426, 429, 451})
"""4xx statuses that speak of us, our pace or the connection, never of what was asked about."""


def answer_from(read: Callable[[], Answer]) -> Answer:
    """What `read` makes of a response.

    `invalid_response` where it raises `InvalidAnswer`, or `HTTPError` with a 4xx status that is none of a
    limit, a refused key or a broken connection: what was asked about is refused (400, 422), or it is no
    answer of the service at all (404 and others, as gateways send them). Every other `requests.HTTPError` is
    raised.
    """
    try:
        return read()
    except InvalidAnswer as error:
        return Answer(LookupStatus.INVALID_RESPONSE, detail=str(error))
    except requests.HTTPError as error:
        status = error.response.status_code
        if not 400 <= status < 500 or status in _NOT_ABOUT_THE_KEY:
            raise
        return Answer(LookupStatus.INVALID_RESPONSE, detail=_unlike_the_service(status))


def _unlike_the_service(status: int) -> str:
    if status in (400, 422):
        return f"the service refuses what it was asked about (HTTP {status})"
    return f"HTTP {status}, which is no answer of this service: is the URL right?"


def no_error(*parts: Mapping[str, Any]) -> None:
    """Raise `InvalidAnswer` where an `error` stands beside an answer: services send limits so, with 200."""
    if any(part.get(name) for part in parts for name in ("error", "errors")):
        raise InvalidAnswer("an error in the place of an answer, or beside it")


def json_object(response: requests.Response, telling: Collection[int] = ()) -> dict[str, Any]:
    """The body as a JSON object; `telling` are the 4xx statuses whose bodies are answers too.

    Raises what `json_value` raises, and `InvalidAnswer` for JSON of another shape.
    """
    body = json_value(response, telling)
    if not isinstance(body, dict):
        raise InvalidAnswer(f"JSON {type(body).__name__} instead of an object")
    return body


def json_value(response: requests.Response, telling: Collection[int] = ()) -> Any:
    """The body as JSON, in UTF-8 (with a byte order mark or not) or Latin-1; lone surrogates are replaced.

    Raises what `content` raises, and `InvalidAnswer` for a body that is not JSON (an HTML page with status
    200 is common behind proxies).
    """
    body = content(response, telling)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        # What the strict parser refuses in an answer that is one: halves of surrogate pairs, written as
        # escapes, in names that other programs cut. Everything else that this one lets through goes back.
        value = json.dumps(json.loads(decoded(body)), ensure_ascii=False, allow_nan=False)
        return orjson.loads(_SURROGATE.sub("\ufffd", value))
    except (ValueError, RecursionError):
        raise InvalidAnswer(f"body is not JSON ({media_type(response)})") from None


def decoded(body: bytes) -> str:
    """Bytes as text: UTF-8 without its byte order mark, or else Latin-1, which every byte is."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("latin-1")


_SURROGATE = re.compile("[\ud800-\udfff]")


def content(response: requests.Response, telling: Collection[int] = ()) -> bytes:
    """The body, read here and no further than `MAX_ANSWER_BYTES`.

    Raises `requests.HTTPError` for a 4xx/5xx status that is not in `telling`, and `InvalidAnswer` for a
    redirect or a body that is too large.
    """
    try:
        body = _read(response)
    except requests.RequestException:
        response.raise_for_status()  # what the status says holds, even if the body behind it is broken
        raise
    if response.status_code not in telling:
        response.raise_for_status()
        if not 200 <= response.status_code < 300:
            raise InvalidAnswer(f"status {response.status_code}")
    if body is None:
        raise InvalidAnswer(f"body of more than {MAX_ANSWER_BYTES} bytes")
    return body


def media_type(response: requests.Response) -> str:
    """The Content-Type without its parameters, in lower case, such as `text/html`; printable."""
    value = response.headers.get("Content-Type", "no content type").split(";")[0].strip().lower()[:40]
    return "".join(filter(str.isprintable, value))


def _read(response: requests.Response) -> bytes | None:
    body = bytearray()
    try:
        for chunk in response.iter_content(65536):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                response.close()
                return None
    except ValueError as error:  # urllib3 lets chunks of a size below zero through to the socket
        raise requests.exceptions.ChunkedEncodingError("a chunk of less than nothing") from error
    return bytes(body)
