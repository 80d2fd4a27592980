"""What every service promises, whichever it is: a new one is tested by adding its fixture file."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import date
from threading import Thread
from typing import Any

import orjson
import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Facts, Service, ServiceConfig
from cowrie_enrich_dagster.services.base import MAX_ANSWER_BYTES, VERSION
from cowrie_enrich_dagster.simulator import Fault, Limit, Simulator, TokenBucket, pages
from cowrie_enrich_dagster.simulator.model import RetryAfterForm
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import SIMULATED, body_text, fixture_of, over_http

RECORDED = [
    pytest.param(name, answer, id=f"{name}: {answer['about']}")
    for name in SIMULATED
    for answer in fixture_of(name)["answers"]
    if "http_status" in answer
]
GARBAGE = [
    (name, kind)
    for name in SIMULATED
    for kind in ("html", "truncated", "wrong_key", "huge")
    if kind != "wrong_key" or fixture_of(name).get("echoes_key", True)
]
KEYED = [name for name in SIMULATED if services.ALL[name].needs_key]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("service", "answer"), RECORDED, indirect=["service"])
def test_a_recorded_answer_is_read_as_its_fixture_says(
    service: Service, answer: dict[str, Any], config: ServiceConfig, sim: Simulator, http: requests.Session
) -> None:
    """Status, payload untouched, and the shared columns."""
    fault = Fault(kind="reply", status=answer["http_status"], body=body_text(answer))
    sim.set_fault(service.name, fault)
    result = service.fetch([answer["key"]], http, config)[answer["key"]]
    assert result.status == answer["status"], result.detail
    if result.status is LookupStatus.FOUND:
        assert result.payload == answer.get("payload", answer.get("body"))
        facts = service.facts(result.payload)
        for name, value in answer["facts"].items():
            actual = getattr(facts, name)
            assert (actual.isoformat() if isinstance(actual, date) else actual) == value, name
    else:
        assert result.payload is None
    assert bool(result.detail) == (not result.status.is_answer)


def test_each_key_gets_its_answer_from_one_request(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """One call out, about the key as given."""
    answers = service.fetch([key], http, config)
    (record,) = sim.requests()
    assert list(answers) == [key]
    assert answers[key].status is LookupStatus.FOUND
    assert (record.service, record.keys) == (service.name, (key,))


@over_http
def test_a_request_says_who_asks(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """Our name and contact are in the User-Agent; a key of ours is in no URL."""
    service.fetch([key], http, config)
    (record,) = sim.requests()
    assert record.user_agent == f"cowrie_enrich_dagster/{VERSION} (+tests@example.org)"
    assert str(config.api_key) not in record.path


@pytest.mark.parametrize("service", KEYED, indirect=True)
def test_a_refused_key_is_raised(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """With a status that says so, and without the key in the message; one request, no answer."""
    with pytest.raises(requests.HTTPError) as caught:
        service.fetch([key], http, replace(config, api_key=REFUSED_KEY))
    assert caught.value.response.status_code in service.auth_statuses - service.limit_statuses
    assert REFUSED_KEY not in str(caught.value)
    assert len(sim.requests()) == 1


@pytest.mark.parametrize(
    "key", ["", "x", "example.org", "1.2.3.4/../../x", "1.2.3.4\nend", "a" * 70, "passw0rd"]
)
def test_what_is_no_key_is_never_sent(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """ValueError, and no request."""
    with pytest.raises(ValueError, match=r"key|address"):
        service.fetch([key], http, config)
    assert sim.requests() == []


@over_http
def test_a_second_request_uses_the_same_connection(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """Found, unknown or refused: the body is read, so that the connection lives on."""
    sim.set_limit(service.name, Limit(rules=(TokenBucket(per_minute=1, burst=2),)))
    service.fetch([key], http, config)
    service.fetch([fixture_of(service.name)["unknown_key"]], http, config)
    for _ in range(2):
        with pytest.raises(requests.HTTPError):
            service.fetch([key], http, config)
    assert len({record.client_port for record in sim.requests()}) == 1


@over_http
@pytest.mark.parametrize("form", ["seconds", "date", "absent"])
def test_a_limit_is_raised_with_its_response(
    service: Service,
    config: ServiceConfig,
    key: str,
    form: RetryAfterForm,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """The caller gets at the status and Retry-After; nothing that looks like an answer comes back."""
    for status in service.limit_statuses & {401, 429}:
        limit = Limit(rules=(TokenBucket(per_minute=1),), status=status, retry_after=form)  # type: ignore[arg-type]
        sim.set_limit(service.name, limit)
        service.fetch([key], http, config)
        with pytest.raises(requests.HTTPError) as caught:
            service.fetch([key], http, config)
        assert caught.value.response.status_code == status
        assert ("Retry-After" in caught.value.response.headers) == (form != "absent")


@over_http
@pytest.mark.parametrize("status", [403, 500, 502, 503])
def test_a_status_that_says_nothing_about_the_key_is_raised(
    service: Service,
    config: ServiceConfig,
    key: str,
    status: int,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """Refusals and faults of the server, even with a body that would pass for an answer."""
    sim.set_fault(service.name, Fault(kind="reply", status=status, body=json.dumps({"ip": {"number": key}})))
    with pytest.raises(requests.HTTPError) as caught:
        service.fetch([key], http, config)
    assert caught.value.response.status_code == status


@pytest.mark.parametrize(("service", "kind"), GARBAGE, indirect=["service"])
def test_garbage_is_an_invalid_response(
    service: Service,
    config: ServiceConfig,
    key: str,
    kind: str,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """With status 200, yet never `found` nor `not_found`; the next request is answered properly."""
    sim.set_fault(service.name, Fault.model_validate({"kind": kind, "times": 1}))
    answer = service.fetch([key], http, config)[key]
    assert answer.status is LookupStatus.INVALID_RESPONSE
    assert answer.detail
    assert answer.payload is None
    assert service.fetch([key], http, config)[key].status is LookupStatus.FOUND


def test_a_large_answer_within_the_bound_is_read(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """The bound is on the size alone: just below it, the answer is whole."""
    sim.set_fault(service.name, Fault(kind="huge", size_bytes=MAX_ANSWER_BYTES - 100_000))
    assert service.fetch([key], http, config)[key].status is LookupStatus.FOUND


@over_http
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    service: Service,
    config: ServiceConfig,
    key: str,
    status: int,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """It is no answer, whatever its body says, and no second request goes out."""
    elsewhere = {"Location": f"{sim.base_url}/elsewhere"}
    body = body_text(fixture_of(service.name)["answers"][0])
    sim.set_fault(service.name, Fault(kind="reply", status=status, body=body, headers=elsewhere))
    assert service.fetch([key], http, config)[key].status is LookupStatus.INVALID_RESPONSE
    assert len(sim.requests()) == 1


@over_http
@pytest.mark.parametrize("location", ["http://[", "http://\xff\xfe", "//", "http://x:99999999/"])
def test_a_redirect_to_nowhere_is_an_invalid_response(
    service: Service,
    config: ServiceConfig,
    key: str,
    location: str,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """Where it leads is not even read: what is no URL raises nothing."""
    sim.set_fault(service.name, Fault(kind="reply", status=302, headers={"Location": location}))
    assert service.fetch([key], http, config)[key].status is LookupStatus.INVALID_RESPONSE


@over_http
def test_a_content_type_of_any_characters_can_be_told(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """What is told of it is printable: a database takes no NUL, a terminal no escape sequence."""
    odd = {"Content-Type": "text/\0\x1b[2J\x85html; charset=x"}
    sim.set_fault(service.name, Fault(kind="reply", status=200, body="<html>", headers=odd))
    answer = service.fetch([key], http, config)[key]
    assert answer.status is LookupStatus.INVALID_RESPONSE
    assert answer.detail.isprintable()


@over_http
def test_a_chunk_of_less_than_nothing_is_a_broken_connection(
    service: Service, config: ServiceConfig, key: str, http: requests.Session
) -> None:
    """A size below zero in the framing of a body is no ValueError: that would mean the key."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n-9\r\n")

        thread = Thread(target=answer)
        thread.start()
        odd = replace(config, api_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            service.fetch([key], http, odd)
        thread.join()


@over_http
@pytest.mark.parametrize("depth", [200, 300, 990, 1010])
def test_nesting_breaks_no_parser(
    service: Service, config: ServiceConfig, key: str, depth: int, sim: Simulator, http: requests.Session
) -> None:
    """Lists in lists in the place of any value, down to where JSON ends."""
    recorded = next(answer for answer in fixture_of(service.name)["answers"] if "http_status" in answer)
    for place in range(len(_places(recorded.get("body", {})))):
        body = json.loads(body_text(recorded))
        holder, name = _places(body)[place]
        holder[name] = "NESTED"
        nested = json.dumps(body).replace('"NESTED"', "[" * depth + "]" * depth)
        sim.set_fault(service.name, Fault(kind="reply", status=200, body=nested))
        answer = service.fetch([recorded["key"]], http, config)[recorded["key"]]
        assert (answer.payload is not None) == (answer.status is LookupStatus.FOUND)
        assert isinstance(service.facts(answer.payload or {}), Facts)


@pytest.mark.parametrize(("kind", "error"), [("reset", requests.ConnectionError), ("hang", requests.Timeout)])
def test_a_service_out_of_reach_raises(
    service: Service,
    config: ServiceConfig,
    key: str,
    kind: str,
    error: type[Exception],
    sim: Simulator,
    http: requests.Session,
) -> None:
    """A broken connection at once, a silent one after the configured timeout."""
    sim.set_fault(service.name, Fault.model_validate({"kind": kind, "delay_s": 5}))
    with pytest.raises(error):
        service.fetch([key], http, replace(config, timeout_s=0.2))


def test_a_slow_answer_is_an_answer(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """Within the timeout, slowness changes nothing."""
    sim.set_fault(service.name, Fault(kind="slow", delay_s=0.2))
    assert service.fetch([key], http, config)[key].status is LookupStatus.FOUND


@example(payload={}, inner="9" * 5000)
@given(payload=st.dictionaries(st.text(max_size=6), JSON, max_size=4), inner=JSON)
def test_facts_never_raise(payload: dict[str, Any], inner: Any) -> None:
    """On any JSON object, and on any JSON in the places of the service's own fields."""
    for service in services.ALL.values():
        assert isinstance(service.facts(payload), Facts)
        for answer in fixture_of(service.name)["answers"]:
            recorded = answer.get("payload", answer.get("body"))
            for outer, record in (recorded if isinstance(recorded, dict) else {}).items():
                assert isinstance(service.facts({**payload, outer: inner}), Facts)
                names = record if isinstance(record, dict) else {}
                assert isinstance(service.facts({outer: dict.fromkeys(names, inner)}), Facts)
                assert isinstance(service.facts({outer: [inner, dict.fromkeys(names, inner)]}), Facts)
                for name, value in names.items():
                    deeper = dict.fromkeys(value, inner) if isinstance(value, dict) else [inner]
                    assert isinstance(service.facts({outer: {**names, name: deeper}}), Facts)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_breaks_a_parser(
    service: Service,
    config: ServiceConfig,
    key: str,
    data: st.DataObject,
    sim: Simulator,
    http: requests.Session,
) -> None:
    """Whatever is sent back: an answer that the cache can hold, or an error that the protocol knows."""
    status = data.draw(st.sampled_from([200, 200, 200, 200, 204, 400, 404, 422, 429, 500]))
    body = data.draw(st.text() | JSON.map(json.dumps) | _spoilt(service, key))
    sim.set_fault(service.name, Fault(kind="reply", status=status, body=body))
    try:
        answer = service.fetch([key], http, config)[key]
    except requests.HTTPError:
        assert status != 200
    except requests.ConnectionError:  # whois has no other way to refuse
        assert not service.default_url.startswith("http")
        assert status != 200 or not body
    else:
        assert (answer.payload is not None) == (answer.status is LookupStatus.FOUND)
        if answer.payload is not None:
            orjson.dumps(answer.payload)
            assert isinstance(service.facts(answer.payload), Facts)


def _spoilt(service: Service, key: str) -> st.SearchStrategy[str]:
    """Recorded answers about `key` with something else in one place, or the end cut off."""
    recorded = [a for a in fixture_of(service.name)["answers"] if a["key"] == key and "http_status" in a]

    def spoil(answer: dict[str, Any], inner: Any, place: int) -> str:
        text = body_text(answer)
        if not isinstance(answer.get("body"), dict):
            return text[: place % (len(text) + 1)] + str(inner)
        body = json.loads(text)
        places = _places(body)
        if places:
            holder, name = places[place % len(places)]
            holder[name] = inner
        return json.dumps(body)

    return st.builds(spoil, st.sampled_from(recorded), JSON, st.integers(0, 500))


def _places(value: Any) -> list[tuple[Any, Any]]:
    inside: list[tuple[Any, Any]] = []
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        inside.append((value, name))
        if isinstance(inner, (dict, list)):
            inside += _places(inner)
    return inside


@pytest.mark.parametrize("service", services.ALL, indirect=True)
def test_each_service_can_be_simulated_and_states_its_limit(service: Service) -> None:
    """A page unless it is local; the source of its numbers; 429 is a limit; no status means two things."""
    assert (service.name in pages.ALL) == bool(service.default_url)
    assert service.limits.rate > 0
    assert "http" in service.limits.source
    assert 429 in service.limit_statuses
    assert not service.limit_statuses & service.auth_statuses
    assert service.not_found_ttl <= service.ttl
