"""What is each address service's own: terms, headers, statuses, columns."""

from __future__ import annotations

from random import Random

import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Window
from cowrie_enrich_dagster.simulator import Fault, FixedWindow, Limit, Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import config_for

IP = "118.25.6.39"
DAYS = {"urlhaus": 3, "spur": 14, "greynoise": 7, "abuseipdb": 7, "cymru": 7, "hibp": 60}


@pytest.mark.parametrize("name", DAYS)
def test_how_long_an_answer_holds(name: str) -> None:
    """The design's times to live."""
    assert services.ALL[name].ttl.days == DAYS[name]


def test_quotas() -> None:
    """The free plans' days; a week of GreyNoise's is seven days of at most seven."""
    assert services.ALL["abuseipdb"].limits.windows == (Window("day", 1000),)
    assert services.ALL["greynoise"].limits.windows == (Window("day", 7),)


@pytest.mark.parametrize("name", ["urlhaus", "spur", "abuseipdb"])
def test_without_a_key_the_service_refuses(name: str, sim: Simulator, http: requests.Session) -> None:
    """401, raised: the same as for a wrong key."""
    config = config_for(name, sim)
    with pytest.raises(requests.HTTPError) as caught:
        services.ALL[name].fetch([IP], http, type(config)(config.api_url))
    assert caught.value.response.status_code == 401


@pytest.mark.parametrize("name", ["urlhaus", "spur", "greynoise", "abuseipdb"])
def test_columns_agree_with_answers(name: str, sim: Simulator, http: requests.Session) -> None:
    """For 60 simulated addresses: found and unknown ones occur, and every found one fills some column."""
    service, config, chance = services.ALL[name], config_for(name, sim), Random(7)
    statuses = []
    for _ in range(60):
        ip = f"{chance.randint(1, 9)}.{chance.randrange(256)}.{chance.randrange(256)}.7"
        answer = service.fetch([ip], http, config)[ip]
        statuses.append(answer.status)
        if answer.payload is not None:
            facts = vars(service.facts(answer.payload))
            assert any(value is not None for value in facts.values()), answer.payload
    expected = {LookupStatus.FOUND} | ({LookupStatus.NOT_FOUND} if name != "abuseipdb" else set())
    assert set(statuses) == expected


def test_urlhaus_is_asked_by_form(sim: Simulator, http: requests.Session) -> None:
    """POST, the address in the body and in no URL."""
    services.ALL["urlhaus"].fetch([IP], http, config_for("urlhaus", sim))
    (record,) = sim.requests()
    assert (record.method, record.path, record.keys) == ("POST", "/host/", (IP,))


def test_greynoise_is_not_asked_about_ipv6(sim: Simulator, http: requests.Session) -> None:
    """It knows IPv4 only, and a lookup refused is a lookup of seven a day."""
    key = "2001:470:1:332::1"
    answer = services.ALL["greynoise"].fetch([key], http, config_for("greynoise", sim))[key]
    assert answer.status is LookupStatus.SKIPPED_POLICY
    assert "IPv4" in answer.detail
    assert sim.requests() == []


def test_abuseipdb_asks_for_90_days_without_comments(sim: Simulator, http: requests.Session) -> None:
    """An IPv6 address is encoded; reports are not asked for."""
    services.ALL["abuseipdb"].fetch(["2001:470:1:332::1"], http, config_for("abuseipdb", sim))
    (record,) = sim.requests()
    assert record.path == "/check?ipAddress=2001%3A470%3A1%3A332%3A%3A1&maxAgeInDays=90"


def test_abuseipdb_tells_its_quota(sim: Simulator, http: requests.Session) -> None:
    """X-RateLimit-* beside the refusal, for the limiter to read."""
    sim.set_limit("abuseipdb", Limit(rules=(FixedWindow(limit=1, seconds=86_400),)))
    config = config_for("abuseipdb", sim)
    services.ALL["abuseipdb"].fetch([IP], http, config)
    with pytest.raises(requests.HTTPError) as caught:
        services.ALL["abuseipdb"].fetch([IP], http, config)
    headers = caught.value.response.headers
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1", "0")
    assert int(headers["Retry-After"]) > 86_000


def test_abuseipdb_says_402_for_what_a_plan_lacks(sim: Simulator, http: requests.Session) -> None:
    """Raised, with a status that counts as a refused credential."""
    sim.set_fault("abuseipdb", Fault(kind="reply", status=402))
    with pytest.raises(requests.HTTPError) as caught:
        services.ALL["abuseipdb"].fetch([IP], http, config_for("abuseipdb", sim))
    assert caught.value.response.status_code in services.ALL["abuseipdb"].auth_statuses


@pytest.mark.parametrize("name", ["urlhaus", "spur", "abuseipdb"])
def test_404_is_a_wrong_url(name: str, sim: Simulator, http: requests.Session) -> None:
    """None of them says 404 without naming an address, so it is no answer, and never `not_found`."""
    sim.set_fault(name, Fault(kind="reply", status=404, body="{}"))
    answer = services.ALL[name].fetch([IP], http, config_for(name, sim))[IP]
    assert answer.status is LookupStatus.INVALID_RESPONSE
