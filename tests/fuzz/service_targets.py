"""The answer parser of every service that is asked over HTTP, of the feeds, and the facts of them all.

An input is the key asked about, a line feed, and an HTTP response as it comes over the wire.
"""

from __future__ import annotations

import codecs
import gzip
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from ipaddress import ip_address
from random import Random
from typing import Any

import orjson
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Answer, InvalidAnswer, Service, ServiceConfig
from cowrie_enrich_dagster.services.feeds import FEEDS, fetch_feed
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.fuzz.answers import (
    check_answer,
    check_facts,
    check_storable,
    knows_nothing,
    names_its_key,
)
from tests.fuzz.mutate import bytes_mutated, json_mutated, mutated
from tests.fuzz.target import Seeds, Target
from tests.fuzz.wire import Wire
from tests.integration.services.conftest import GatedSession, body_text, fixture_of

OVER_HTTP = [name for name, service in services.ALL.items() if service.default_url.startswith("http")]
CONFIG = ServiceConfig("http://service.test/api", api_key="fuzz-key", contact="fuzz@example.org")
DAY = date(2025, 11, 1)
_FRAMED = ("Content-Length", "Content-Encoding", "Transfer-Encoding")
_HEADERS = (
    b"Content-Length: 7", b"Content-Length: 99999999999999999999", b"Content-Length: -1",
    b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br",
    b"Content-Encoding: zstd", b"Content-Encoding: x", b"Content-Encoding: gzip, deflate, gzip",
    b"Content-Type: text/html; charset=x", b"Content-Type: \0\x1b[2J",
    b"Content-Type: application/json; charset=utf-16", b"Content-Type: \xff\xfe", b"Content-Type:",
    b"Location: http://[", b"Location: \xff\xfe", b"Location: //", b"Location: http://a:b@c:99999/",
    b"Location:", b"Set-Cookie: a=\0; Domain=.; Expires=x; Max-Age=-",
    b"X-Generated-At: 2025-11-02T06:00:09+00:00", b"X-Generated-At: \0", b"Retry-After: 7", b"Date: x",
    b"Connection: keep-alive", b"Link: <;", b"\0: \0", b": x",
)  # fmt: skip
_STATUSES = (b"200",) * 4 + (
    b"201", b"204", b"206", b"299", b"301", b"302", b"304", b"307", b"400", b"401", b"402", b"403", b"404",
    b"404", b"418", b"422", b"429", b"451", b"499", b"500", b"502", b"503", b"504", b"599", b"600", b"999",
    b"100", b"000",
)  # fmt: skip
_wire = Wire()
_http = GatedSession()
_http.mount("http://", _wire)


def check_service(service: Service, data: bytes) -> Counter[str]:
    """Whatever comes back: an answer that holds what it promises, or an error that the protocol knows."""
    asked, _, response = data.partition(b"\n")
    key = asked.decode("latin-1")
    _wire.load(response)
    try:
        answers = service.fetch([key], _http, CONFIG)
    except requests.RequestException as problem:
        return Counter({_error(problem, service): 1})
    except ValueError:
        assert _wire.connections == 0, "ValueError is for keys, with nothing sent"
        return Counter({"refused keys": 1})
    assert list(answers) == [key]
    answer, status = answers[key], _wire.status
    check_answer(service, key, answer)
    if answer.status is LookupStatus.SKIPPED_POLICY:
        assert _wire.connections == 0
    else:
        assert _wire.connections == 1, "one call is one request"
        assert status is not None
        assert not 500 <= status < 600, "a server's fault is no answer"
        assert status not in service.limit_statuses | service.auth_statuses, "a refusal is no answer"
    if answer.status.is_answer:
        _check_said_so(service, key, answer)
    return Counter({answer.status.value: 1})


def check_feed(name: str, data: bytes) -> Counter[str]:
    """A list of routable addresses in their one spelling, each with a payload that its service reads."""
    service = services.ALL[FEEDS[name].service]
    _wire.load(data.partition(b"\n")[2])
    try:
        feed = fetch_feed(name, DAY, _http, CONFIG)
    except requests.RequestException as problem:
        return Counter({_error(problem, service): 1})
    except InvalidAnswer as problem:
        _check_printable(str(problem))
        return Counter({"invalid answers": 1})
    assert _wire.status is not None
    assert 200 <= _wire.status < 300
    assert type(feed.as_of) is date
    assert feed.dropped >= 0
    for address, payload in feed.entries.items():
        assert ip_address(address).is_global
        assert str(ip_address(address.partition("%")[0])) == address
        check_facts(service.facts(payload))
        check_storable(service.name, address, payload)
        assert names_its_key(service.name, address, payload)
    return Counter({"feeds": 1, "entries": len(feed.entries), "dropped": feed.dropped})


def check_every_facts(data: bytes) -> Counter[str]:
    """No service's `facts` raises, whatever object it is given."""
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Counter({"not JSON": 1})
    if not isinstance(payload, dict):
        return Counter({"not an object": 1})
    for service in services.ALL.values():
        check_facts(service.facts(payload))
    return Counter({"objects": 1})


def response_mutated(rng: Random, seeds: Seeds) -> bytes:
    """A recorded response with changes to its body, and now and then to its status, headers or framing."""
    asked, _, response = rng.choice(seeds).partition(b"\n")
    head, _, body = response.partition(b"\r\n\r\n")
    bodies = _bodies(seeds)
    kind = rng.random()
    if kind < 0.7:
        body = json_mutated(rng, body, bodies) or mutated(rng, body, bodies)
    elif kind < 0.85:
        body = mutated(rng, body, bodies)
    if rng.random() < 0.12:
        head = head.replace(head[9:12], rng.choice(_STATUSES), 1)
    if rng.random() < 0.08:
        head += b"\r\n" + rng.choice(_HEADERS)
    if rng.random() < 0.04:
        head, body = _framed(rng, head, body)
    if rng.random() < 0.03:
        head = bytes_mutated(rng, head, seeds)
    if rng.random() < 0.02:
        asked = bytes_mutated(rng, asked, seeds).replace(b"\n", b"")
    return asked + b"\n" + head + b"\r\n\r\n" + body


def _check_printable(text: str) -> None:
    assert text
    assert text.isprintable()


def _check_said_so(service: Service, key: str, answer: Answer) -> None:
    """The body, read once more by other means, says what the answer says."""
    body = _http.get(CONFIG.api_url, allow_redirects=False).content
    if service.name == "hibp":
        assert answer.payload == {"prefix": key, "suffixes": _suffixes(body)}
        return
    told = _told(body)
    if answer.payload is None:
        assert knows_nothing(service.name, key, told)
        return
    try:
        assert answer.payload == told
    except RecursionError:  # nested deeper than `==` goes
        assert answer.payload.keys() == told.keys()
    if service.name == "urlhaus" and isinstance(told.get("urlhaus_reference"), str):
        told["urlhaus_reference"] = told["urlhaus_reference"].rstrip("/").rpartition("/")[2]
    assert names_its_key(service.name, key, told)


def _told(body: bytes) -> Any:
    """JSON as it is, or as a lenient reader takes it: a mark before it, Latin-1, halves of pairs."""
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    value = json.dumps(json.loads(text), ensure_ascii=False)
    return orjson.loads(value.encode("utf-8", "surrogatepass").decode("utf-8", "lone_surrogates"))


def _mark(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeDecodeError)  # half of a pair is three bytes
    return "\ufffd", problem.start + 3


codecs.register_error("lone_surrogates", _mark)


def _suffixes(body: bytes) -> dict[str, int]:
    pairs = (line.split(b":") for line in body.removeprefix(b"\xef\xbb\xbf").split())
    counts = {suffix.decode(): int(count) for suffix, count in pairs if int(count)}
    assert all(len(suffix) == 35 for suffix in counts)
    return counts


def _error(problem: requests.RequestException, service: Service) -> str:
    """What kind of error it is; it must tell the truth about the response."""
    status = _wire.status
    if isinstance(problem, requests.HTTPError):
        assert problem.response is not None
        assert problem.response.status_code == status
        assert status is not None
        assert status >= 400 or status in service.limit_statuses
        return "HTTP errors"
    assert status not in range(400, 600), "what the status says holds, even if the body is broken"
    assert status is None or any(name in _wire.headers for name in _FRAMED), "a whole answer is an answer"
    return "broken connections"


def _bodies(seeds: Seeds) -> list[bytes]:
    return [seed.partition(b"\r\n\r\n")[2] for seed in seeds]


def _framed(rng: Random, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The same body chunked, zipped or counted, whole or damaged."""
    kind = rng.randrange(3)
    if kind == 0:
        cut = rng.randrange(len(body) + 1)
        chunks = (body[:cut], body[cut:], b"")
        framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk or chunk == b"")
        head += b"\r\nTransfer-Encoding: chunked"
    elif kind == 1:
        framed = gzip.compress(body, 1, mtime=0)
        head += b"\r\nContent-Encoding: gzip"
    else:
        framed = body
        head += b"\r\nContent-Length: %d" % len(body)
    return head, framed if rng.random() < 0.5 else bytes_mutated(rng, framed, [body])


def _json(rng: Random, seeds: Seeds) -> bytes:
    return json_mutated(rng, rng.choice(seeds), seeds) or mutated(rng, rng.choice(seeds), seeds)


def _target(name: str, check: Callable[[Any, bytes], Counter[str]], of: object, share: int) -> Target:
    return Target(name, name, share, partial(check, of), response_mutated, recorded=partial(_recorded, name))


def _recorded(service: str) -> list[bytes]:
    head = "HTTP/1.1 {} OK\r\nContent-Type: application/json\r\n\r\n"
    return [
        f"{answer['key']}\n{head.format(answer['http_status'])}{body_text(answer)}".encode()
        for answer in fixture_of(service)["answers"]
        if "http_status" in answer
    ]


TARGETS = (
    *(
        _target(name, check_service, services.ALL[name], 10 if name == "hibp" else 40)
        for name in sorted(OVER_HTTP)
    ),
    *(_target(name, check_feed, name, 25) for name in sorted(FEEDS)),
    Target("facts", "facts", 40, check_every_facts, _json),
)
