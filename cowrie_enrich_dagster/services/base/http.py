"""Asking a service over HTTP, and reading what it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from typing import Any

import orjson
import requests

from cowrie_enrich_dagster.services.base.model import Answer, InvalidAnswer, ServiceConfig
from cowrie_enrich_dagster.vocabulary import LookupStatus

VERSION = metadata.version("cowrie_enrich_dagster")

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""A body larger than this is not an answer: no service here sends a tenth of it."""


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
