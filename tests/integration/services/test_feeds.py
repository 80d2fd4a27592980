"""Feeds: one request answers for thousands of addresses, as of a stated day."""

from __future__ import annotations

import json
from datetime import date
from ipaddress import ip_address
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import InvalidAnswer
from cowrie_enrich_dagster.services.feeds import FEEDS, fetch_feed
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from tests.integration.services.conftest import GatedSession, config_for
from tests.integration.services.test_contract import JSON

DAY = date(2025, 11, 1)


@pytest.mark.parametrize("name", FEEDS)
def test_a_feed_answers_in_its_services_own_shape(name: str, sim: Simulator, http: GatedSession) -> None:
    """10,000 routable addresses from one request, and the service's facts read every entry."""
    service = services.ALL[FEEDS[name].service]
    feed = fetch_feed(name, DAY, http, config_for(service.name, sim))
    assert len(sim.requests()) == 1
    assert (len(feed.entries), feed.dropped) == (10_000, 0)
    for address, payload in feed.entries.items():
        assert address == str(ip_address(address))
        facts = service.facts(payload)
        assert facts.last_seen is not None
        assert facts.reports is not None or facts.abuse_score == 100


def test_a_dated_feed_is_as_of_the_day_asked_for(sim: Simulator, http: GatedSession) -> None:
    """Another day is another list; the same day is the same one."""
    config = config_for("dshield", sim)
    first, again, other = (
        fetch_feed("dshield_sources", day, http, config) for day in (DAY, DAY, date(2025, 11, 2))
    )
    assert first == again
    assert (first.as_of, other.as_of) == (DAY, date(2025, 11, 2))
    assert first.entries.keys() != other.entries.keys()
    assert sim.requests()[0].path == "/sources/attacks/10000/2025-11-01?json"
    assert FEEDS["dshield_sources"].is_dated


def test_the_current_list_is_as_of_when_it_was_made(sim: Simulator, http: GatedSession) -> None:
    """Whatever day is asked for: a list of today must not pass for one of the past."""
    feed = fetch_feed("abuseipdb_blacklist", DAY, http, config_for("abuseipdb", sim))
    assert feed.as_of == date(2025, 11, 3)
    assert not FEEDS["abuseipdb_blacklist"].is_dated


def test_padded_and_odd_entries(sim: Simulator, http: GatedSession) -> None:
    """Zeros are taken off; what is no routable address is counted, not lost and not kept."""
    items = [
        {
            "ip": "045.148.010.121",
            "attacks": 9,
            "count": 90,
            "firstseen": "2025-10-01",
            "lastseen": "2025-11-01",
        },
        {"ip": "8.8.8.8", "attacks": None, "count": "70"},
        {"ip": "010.000.000.001", "attacks": 1},
        {"ip": "999.1.1.1"},
        {"attacks": 1},
        "8.8.4.4",
        None,
    ]
    sim.set_fault("dshield", Fault(kind="reply", status=200, body=json.dumps(items)))
    feed = fetch_feed("dshield_sources", DAY, http, config_for("dshield", sim))
    assert (list(feed.entries), feed.dropped) == (["45.148.10.121", "8.8.8.8"], 5)
    facts = services.ALL["dshield"].facts(feed.entries["45.148.10.121"])
    assert (facts.reports, facts.first_seen, facts.last_seen) == (90, date(2025, 10, 1), DAY)


def test_an_address_with_a_zone_is_dropped(sim: Simulator, http: GatedSession) -> None:
    """A zone may be any text, and such an address is none that anybody routes."""
    items = [{"ip": "2606:4700::1111%x\n"}, {"ip": "2606:4700::1111"}]
    sim.set_fault("dshield", Fault(kind="reply", status=200, body=json.dumps(items)))
    feed = fetch_feed("dshield_sources", DAY, http, config_for("dshield", sim))
    assert (list(feed.entries), feed.dropped) == (["2606:4700::1111"], 1)


def test_an_entry_nested_too_deep_to_be_written_out_is_dropped(sim: Simulator, http: GatedSession) -> None:
    """It costs itself, not the list."""
    body = '[{"ip": ' + "[" * 1000 + "]" * 1000 + '}, {"ip": "8.8.8.8"}]'
    sim.set_fault("dshield", Fault(kind="reply", status=200, body=body))
    feed = fetch_feed("dshield_sources", DAY, http, config_for("dshield", sim))
    assert (list(feed.entries), feed.dropped) == (["8.8.8.8"], 1)


def test_the_older_shape_of_a_list(sim: Simulator, http: GatedSession) -> None:
    """An object whose names are numbers, with notes beside them."""
    body = {"0": {"ip": "8.8.8.8", "count": 1}, "METAKEYINFO": "sources"}
    sim.set_fault("dshield", Fault(kind="reply", status=200, body=json.dumps(body)))
    feed = fetch_feed("dshield_sources", DAY, http, config_for("dshield", sim))
    assert (list(feed.entries), feed.dropped) == (["8.8.8.8"], 0)


@pytest.mark.parametrize(
    ("meta", "headers", "as_of"),
    [
        ({"generatedAt": "2025-11-02T06:00:09+00:00"}, {"X-Generated-At": "2025-11-01T00:00:00+00:00"}, 2),
        ({}, {"X-Generated-At": "2025-11-01T00:00:00+00:00"}, 1),
    ],
)
def test_when_a_list_was_made(
    meta: dict[str, str], headers: dict[str, str], as_of: int, sim: Simulator, http: GatedSession
) -> None:
    """The body says it, else the header."""
    body = json.dumps({"meta": meta, "data": [{"ipAddress": "2001:0470::1", "abuseConfidenceScore": 100}]})
    sim.set_fault("abuseipdb", Fault(kind="reply", status=200, body=body, headers=headers))
    feed = fetch_feed("abuseipdb_blacklist", DAY, http, config_for("abuseipdb", sim))
    assert feed.as_of.day == as_of
    assert list(feed.entries) == ["2001:470::1"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("abuseipdb_blacklist", {"data": []}),
        ("abuseipdb_blacklist", {"meta": {"generatedAt": "soon"}, "data": []}),
        ("abuseipdb_blacklist", {"meta": {"generatedAt": "2025-11-02"}, "data": {}}),
        ("abuseipdb_blacklist", []),
        ("dshield_sources", None),
        ("dshield_sources", "8.8.8.8"),
        ("dshield_sources", {"error": "too many requests"}),
        ("dshield_sources", {"METAKEYINFO": "sources"}),
        ("dshield_sources", ["8.8.8.8", {"address": "8.8.4.4"}]),
    ],
)
def test_what_is_no_list_is_raised(name: str, body: Any, sim: Simulator, http: GatedSession) -> None:
    """Without a day, or of another shape: an error, never an empty feed."""
    service = FEEDS[name].service
    sim.set_fault(service, Fault(kind="reply", status=200, body=json.dumps(body)))
    with pytest.raises(InvalidAnswer):
        fetch_feed(name, DAY, http, config_for(service, sim))


@pytest.mark.parametrize("kind", ["html", "truncated", "huge"])
@pytest.mark.parametrize("name", FEEDS)
def test_garbage_is_raised(name: str, kind: str, sim: Simulator, http: GatedSession) -> None:
    """Half a list is no list."""
    service = FEEDS[name].service
    sim.set_fault(service, Fault.model_validate({"kind": kind}))
    with pytest.raises(InvalidAnswer):
        fetch_feed(name, DAY, http, config_for(service, sim))


def test_limits_and_refusals_are_raised(sim: Simulator, http: GatedSession) -> None:
    """With their responses, as `Service.fetch` does."""
    config = config_for("abuseipdb", sim)
    refused = type(config)(config.api_url, api_key=REFUSED_KEY)
    with pytest.raises(requests.HTTPError) as caught:
        fetch_feed("abuseipdb_blacklist", DAY, http, refused)
    assert caught.value.response.status_code == 401
    sim.set_fault("dshield", Fault(kind="reply", status=429))
    with pytest.raises(requests.HTTPError):
        fetch_feed("dshield_sources", DAY, http, config_for("dshield", sim))


def test_each_feed_states_its_limit() -> None:
    """DShield's lists count as its lookups do; of blacklists there are five a day, apart from the checks."""
    for feed in FEEDS.values():
        assert feed.service in services.ALL
        assert feed.limits is None or "http" in feed.limits.source
    assert FEEDS["dshield_sources"].limits is None
    limits = FEEDS["abuseipdb_blacklist"].limits
    assert limits is not None
    (window,) = limits.windows
    assert (window.name, window.limit) == ("day", 5)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(FEEDS)),
    body=st.text()
    | JSON.map(json.dumps)
    | st.builds(
        lambda items: json.dumps({"meta": {"generatedAt": "2025-11-01"}, "data": items}), st.lists(JSON)
    )
    | st.lists(st.fixed_dictionaries({"ip": JSON, "ipAddress": JSON})).map(json.dumps),
)
def test_no_body_breaks_a_feed(name: str, body: str, sim: Simulator, http: GatedSession) -> None:
    """A feed of routable addresses, or InvalidAnswer."""
    service = FEEDS[name].service
    sim.set_fault(service, Fault(kind="reply", status=200, body=body))
    try:
        feed = fetch_feed(name, DAY, http, config_for(service, sim))
    except InvalidAnswer:
        return
    assert all(ip_address(address).is_global for address in feed.entries)
