"""DShield's page answers as the real one does."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address, ip_network
from random import Random

import pytest
import requests

from cowrie_enrich_dagster.simulator import Limit, Simulator, SimulatorProcess, TokenBucket
from tests.integration.simulator.conftest import AGENT, Get

FIELDS = {
    *("number", "count", "attacks", "maxdate", "mindate", "updated", "comment", "maxrisk"),
    *("asabusecontact", "as", "asname", "ascountry", "assize", "network"),
}


@pytest.fixture(scope="module")
def thousand(running_simulator: Simulator) -> list[dict[str, object]]:
    """What the page says about 1,000 random addresses."""
    running_simulator.reset()
    draw = Random(1)
    with requests.Session() as http:
        http.trust_env = False
        http.headers["User-Agent"] = AGENT
        url = running_simulator.url("dshield")
        addresses = [str(ip_address(draw.getrandbits(32))) for _ in range(1000)]
        return [http.get(f"{url}/ip/{ip}?json", timeout=5).json()["ip"] for ip in addresses]


def test_an_answer_has_the_fields_of_the_real_one(thousand: list[dict[str, object]]) -> None:
    """Every record has all fields; `threatfeeds` is an object, null or missing; dates are in order."""
    for record in thousand:
        assert set(record) - {"threatfeeds"} == FIELDS
    assert {type(r["threatfeeds"]) for r in thousand if "threatfeeds" in r} == {dict, type(None)}
    assert any("threatfeeds" not in r for r in thousand)
    for record in thousand:
        if record["count"] is not None:
            assert 1 <= record["attacks"] <= record["count"]
            assert record["mindate"] <= record["maxdate"] < record["updated"]


def test_unreported_and_unannounced_addresses_have_nulls(thousand: list[dict[str, object]]) -> None:
    """Some addresses nobody reported, a few belong to no network, and a few are both."""
    unreported = [r for r in thousand if r["count"] is None]
    unannounced = [r for r in thousand if r["as"] is None]
    assert 300 < len(unreported) < 450
    assert all(r["attacks"] is r["maxdate"] is r["mindate"] is None for r in unreported)
    assert 20 < len(unannounced) < 90
    assert all(r["network"] is r["ascountry"] is None for r in unannounced)
    assert any(r["as"] is not None for r in unreported)
    assert any(r["count"] is None for r in unannounced)


def test_networks_are_spread_as_among_attackers(thousand: list[dict[str, object]]) -> None:
    """Many networks and countries, none with most of the addresses; each address is inside its network."""
    numbers = Counter(r["as"] for r in thousand if r["as"])
    assert len(numbers) >= 20
    assert len({r["ascountry"] for r in thousand if r["ascountry"]}) >= 10
    assert 60 < numbers.most_common(1)[0][1] < 300
    for record in thousand:
        if record["network"]:
            assert ip_address(record["number"]) in ip_network(record["network"])


def test_answers_depend_on_the_address_alone(get: Get, http: requests.Session) -> None:
    """The same address gets the same bytes again, also from another process; another one gets others."""
    with SimulatorProcess() as other:
        elsewhere = http.get(f"{other.url('dshield')}/ip/8.8.4.4?json", timeout=5).content
    assert get("8.8.4.4").content == get("8.8.4.4").content == elsewhere
    assert get("8.8.4.5").content != elsewhere


def test_neighbours_share_a_network(get: Get) -> None:
    """Addresses of one /16 belong to one autonomous system."""
    systems = {get(f"101.106.{n}.7").json()["ip"]["as"] for n in range(30)}
    assert len(systems - {None}) == 1


def test_ipv6_is_answered(get: Get) -> None:
    """An IPv6 address is echoed in full."""
    assert get("2001:470:1:332::1").json()["ip"]["number"] == "2001:0470:0001:0332:0000:0000:0000:0001"


@pytest.mark.parametrize("bad", ["999.1.1.1", "example.org", "1.2.3", "1.2.3.4%2F24"])
def test_a_bad_address_is_an_error_with_status_200(get: Get, bad: str) -> None:
    """As at the real service, only the body tells."""
    answer = get(bad)
    assert (answer.status_code, answer.json()) == (200, {"error": "bad IP address"})


@pytest.mark.parametrize("agent", ["python-requests/2.32.3", "curl/8.5.0", "Go-http-client/2.0", None])
def test_default_agents_are_forbidden(get: Get, agent: str | None) -> None:
    """A library's own User-Agent, or none, gets 403."""
    assert get(headers={"User-Agent": agent}).status_code == 403


@pytest.mark.parametrize("agent", ["python-requests/2.32.3 (+me@example.org)", "cowrie_enrich_dagster/0.1.0"])
def test_agents_with_a_name_or_a_contact_are_served(get: Get, agent: str) -> None:
    """A contact address redeems even a default agent."""
    assert get(headers={"User-Agent": agent}).status_code == 200


def test_a_forbidden_request_uses_up_no_limit(sim: Simulator, get: Get) -> None:
    """403 is decided before the limit, and so leaves the only slot to the next request."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1),)))
    statuses = [get(headers={"User-Agent": "curl/8.5.0"}).status_code, get().status_code, get().status_code]
    assert statuses == [403, 200, 429]


def test_what_is_no_lookup_is_not_found(sim: Simulator, http: requests.Session) -> None:
    """Another path, or a lookup that does not ask for JSON, is a web page with 404."""
    for path in ("/", "/ip/", "/ip/8.8.8.8", "/port/22?json"):
        answer = http.get(sim.url("dshield") + path, timeout=5)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html")
