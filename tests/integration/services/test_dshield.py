"""What is DShield's own: its statuses, its User-Agent rule, its wrong URLs."""

from __future__ import annotations

import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import ServiceConfig
from cowrie_enrich_dagster.services.base import VERSION
from cowrie_enrich_dagster.services.dshield import dshield_query
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus

IP = "1.45.14.166"


def test_the_registry_offers_it() -> None:
    """Under its name, with the defaults of the design."""
    dshield = services.ALL["dshield"]
    assert (dshield.limits.rate, dshield.limits.burst) == (0.5, 1)
    assert (dshield.ttl.days, dshield.not_found_ttl.days) == (7, 1)
    assert dshield.limit_statuses == {401, 429}
    assert not dshield.needs_key
    assert dshield.default_url == "https://isc.sans.edu/api"
    assert list(services.ALL.values()) == sorted(services.ALL.values(), key=lambda service: service.rank)


def test_one_address_is_asked_by_name(sim: Simulator, http: requests.Session) -> None:
    """`dshield_query` gives what `fetch` gives."""
    config = ServiceConfig(api_url=sim.url("dshield") + "/", contact="tests@example.org")
    answer = dshield_query(IP, http, config)
    assert answer.status is LookupStatus.FOUND
    assert answer.payload is not None
    assert answer.payload["ip"]["asname"] == "SELECTEL"
    assert services.ALL["dshield"].fetch([IP], http, config) == {IP: answer}


def test_facts_agree_with_the_answer(sim: Simulator, http: requests.Session) -> None:
    """For 200 simulated addresses: every value that the payload has is in the columns, every null is None."""
    config = ServiceConfig(api_url=sim.url("dshield"), contact="tests@example.org")
    statuses = set()
    for n in range(200):
        answer = dshield_query(f"100.{n}.2.3", http, config)
        statuses.add(answer.status)
        if answer.payload is None:
            continue
        record, facts = answer.payload["ip"], services.ALL["dshield"].facts(answer.payload)
        assert (facts.as_number, facts.as_organization) == (record["as"], record["asname"])
        assert (facts.country_iso_code, facts.network) == (record["ascountry"], record["network"])
        assert facts.reports == record["count"]
        assert (facts.first_seen and facts.first_seen.isoformat()) == record["mindate"]
        assert (facts.last_seen and facts.last_seen.isoformat()) == record["maxdate"]
    assert statuses == {LookupStatus.FOUND, LookupStatus.NOT_FOUND}


def test_without_a_contact_it_still_names_itself(sim: Simulator, http: requests.Session) -> None:
    """Not the library's default agent, which would be refused."""
    assert dshield_query(IP, http, ServiceConfig(api_url=sim.url("dshield"))).status is LookupStatus.FOUND
    assert sim.requests()[0].user_agent == f"cowrie_enrich_dagster/{VERSION}"


def test_a_web_page_with_404_is_not_a_clean_address(sim: Simulator, http: requests.Session) -> None:
    """A wrong URL must not turn every address into `not_found`."""
    answer = dshield_query(IP, http, ServiceConfig(api_url=sim.url("dshield") + "/api"))
    assert answer.status is LookupStatus.INVALID_RESPONSE
    assert "URL" in answer.detail


def test_401_is_raised_not_read(sim: Simulator, http: requests.Session) -> None:
    """At this service it says slow down."""
    sim.set_fault("dshield", Fault(kind="reply", status=401, retry_after_s=60))
    with pytest.raises(requests.HTTPError) as caught:
        dshield_query(IP, http, ServiceConfig(api_url=sim.url("dshield")))
    assert caught.value.response.headers["Retry-After"] == "60"


@pytest.mark.parametrize("key", ["", "example.org", "1.2.3.4/../../x", "1.2.3.4?x", "999.1.1.1"])
def test_what_is_no_address_is_never_sent(key: str, sim: Simulator, http: requests.Session) -> None:
    """ValueError, and no request."""
    with pytest.raises(ValueError, match="does not appear to be"):
        dshield_query(key, http, ServiceConfig(api_url=sim.url("dshield")))
    assert sim.requests() == []


def test_more_than_one_address_at_once_is_refused(sim: Simulator, http: requests.Session) -> None:
    """Its batch size is one."""
    with pytest.raises(ValueError, match="too many values"):
        services.ALL["dshield"].fetch([IP, "8.8.8.8"], http, ServiceConfig(api_url=sim.url("dshield")))
    assert sim.requests() == []


def test_a_broken_body_does_not_hide_a_limit(sim: Simulator, http: requests.Session) -> None:
    """A 429 whose body cannot be decoded is still a 429 with its Retry-After."""
    headers = {"Content-Encoding": "gzip", "Retry-After": "9"}
    sim.set_fault("dshield", Fault(kind="reply", status=429, body="not gzip", headers=headers))
    with pytest.raises(requests.HTTPError) as caught:
        dshield_query(IP, http, ServiceConfig(api_url=sim.url("dshield")))
    assert caught.value.response.headers["Retry-After"] == "9"
