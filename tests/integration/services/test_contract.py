"""What every service promises, whichever it is: a new one is tested by adding its fixture file."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Facts, Service, ServiceConfig
from cowrie_enrich_dagster.services.base import MAX_ANSWER_BYTES, VERSION
from cowrie_enrich_dagster.simulator import Fault, Limit, Simulator, TokenBucket, pages
from cowrie_enrich_dagster.simulator.model import RetryAfterForm
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import fixture_of

RECORDED = [
    pytest.param(service, answer, id=f"{service.name}: {answer['about']}")
    for service in services.ALL.values()
    for answer in fixture_of(service.name)["answers"]
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("service", "answer"), RECORDED)
def test_a_recorded_answer_is_read_as_its_fixture_says(
    service: Service, answer: dict[str, Any], config: ServiceConfig, sim: Simulator, http: requests.Session
) -> None:
    """Status, payload untouched, and the shared columns."""
    fault = Fault(kind="reply", status=answer["http_status"], body=json.dumps(answer["body"]))
    sim.set_fault(service.name, fault)
    result = service.fetch([answer["key"]], http, config)[answer["key"]]
    assert result.status == answer["status"], result.detail
    if result.status is LookupStatus.FOUND:
        assert result.payload == answer["body"]
        facts = service.facts(result.payload)
        for name, value in answer["facts"].items():
            actual = getattr(facts, name)
            assert (actual.isoformat() if isinstance(actual, date) else actual) == value, name
    else:
        assert result.payload is None
    assert bool(result.detail) == (result.status is LookupStatus.INVALID_RESPONSE)


def test_each_key_gets_its_answer_from_one_request(
    service: Service, config: ServiceConfig, key: str, sim: Simulator, http: requests.Session
) -> None:
    """One call out, about the key as given, with our name and contact in the User-Agent."""
    answers = service.fetch([key], http, config)
    (record,) = sim.requests()
    assert list(answers) == [key]
    assert answers[key].status is LookupStatus.FOUND
    assert (record.service, record.keys) == (service.name, (key,))
    assert record.user_agent == f"cowrie_enrich_dagster/{VERSION} (+tests@example.org)"


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


@pytest.mark.parametrize("kind", ["html", "truncated", "wrong_key", "huge"])
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
    sim.set_fault(service.name, Fault(kind="huge", size_bytes=MAX_ANSWER_BYTES - 10_000))
    assert service.fetch([key], http, config)[key].status is LookupStatus.FOUND


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
    body = json.dumps(fixture_of(service.name)["answers"][0]["body"])
    sim.set_fault(service.name, Fault(kind="reply", status=status, body=body, headers=elsewhere))
    assert service.fetch([key], http, config)[key].status is LookupStatus.INVALID_RESPONSE
    assert len(sim.requests()) == 1


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
    impatient = ServiceConfig(api_url=config.api_url, contact=config.contact, timeout_s=0.2)
    with pytest.raises(error):
        service.fetch([key], http, impatient)


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
            if answer["status"] == "found":
                for outer, record in answer["body"].items():
                    assert isinstance(service.facts({outer: inner}), Facts)
                    names = record if isinstance(record, dict) else {}
                    assert isinstance(service.facts({outer: dict.fromkeys(names, inner)}), Facts)


def test_each_service_has_a_page_and_a_stated_limit(service: Service) -> None:
    """It can be simulated, and says where its numbers come from; 429 is always a limit."""
    assert service.name in pages.ALL
    assert service.limits.rate > 0
    assert "http" in service.limits.source
    assert 429 in service.limit_statuses
    assert service.not_found_ttl <= service.ttl
