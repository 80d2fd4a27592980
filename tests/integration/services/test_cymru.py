"""Team Cymru: many addresses over one connection, each slot taken from the session."""

from __future__ import annotations

import socket
from dataclasses import replace
from threading import Event, Thread

import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import ServiceConfig
from cowrie_enrich_dagster.simulator import Fault, FixedWindow, Limit, Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import GatedSession, config_for

CYMRU = services.ALL["cymru"]
IPS = [f"100.{n // 250}.{n % 250}.9" for n in range(500)]


@pytest.fixture
def config(sim: Simulator) -> ServiceConfig:
    """Team Cymru as the simulator offers it."""
    return config_for("cymru", sim)


def test_500_addresses_are_one_request(config: ServiceConfig, sim: Simulator, http: GatedSession) -> None:
    """One connection, one slot, an answer for each; announced by nobody is not_found."""
    answers = CYMRU.fetch(IPS, http, config)
    (record,) = sim.requests()
    assert list(record.keys) == IPS == list(answers)
    assert http.slots == 1
    assert {answer.status for answer in answers.values()} == {LookupStatus.FOUND, LookupStatus.NOT_FOUND}
    for ip, answer in answers.items():
        if answer.payload is not None:
            facts = CYMRU.facts(answer.payload)
            assert answer.payload["ip"] == ip
            assert facts.as_number == int(answer.payload["origins"][0]["as"])
            assert facts.as_organization
            assert facts.network
            assert facts.country_iso_code is None


def test_it_agrees_with_dshield_on_the_simulated_world(
    config: ServiceConfig, sim: Simulator, http: GatedSession
) -> None:
    """Another service, the same network."""
    payload = CYMRU.fetch(["1.45.14.166"], http, config)["1.45.14.166"].payload
    assert payload is not None
    assert CYMRU.facts(payload).as_organization == "SELECTEL"


def test_more_than_a_list_holds_is_refused(config: ServiceConfig, sim: Simulator, http: GatedSession) -> None:
    """ValueError, and nothing sent."""
    with pytest.raises(ValueError, match="501 addresses"):
        CYMRU.fetch([*IPS, "8.8.8.8"], http, config)
    assert (sim.requests(), http.slots) == ([], 0)


def test_a_session_that_cannot_pace_it_sends_nothing(config: ServiceConfig, sim: Simulator) -> None:
    """TypeError: better no answer than an unpaced one."""
    with requests.Session() as plain, pytest.raises(TypeError, match="Session paces HTTP only"):
        CYMRU.fetch(["8.8.8.8"], plain, config)
    assert sim.requests() == []


@pytest.mark.parametrize("key", ["fe80::1%eth0\nend", "fe80::1%x"])
def test_a_zone_cannot_smuggle_lines(
    key: str, config: ServiceConfig, sim: Simulator, http: GatedSession
) -> None:
    """Python takes any text for the zone of an IPv6 address; here none is sent."""
    with pytest.raises(ValueError, match="zone"):
        CYMRU.fetch([key], http, config)
    assert sim.requests() == []


def test_what_is_missing_from_a_cut_list_is_invalid(
    config: ServiceConfig, sim: Simulator, http: GatedSession
) -> None:
    """The lines that arrived whole are answers, the others are asked again."""
    sim.set_fault("cymru", Fault(kind="truncated"))
    answers = CYMRU.fetch(IPS[:100], http, config)
    statuses = [answer.status for answer in answers.values()]
    cut = statuses.index(LookupStatus.INVALID_RESPONSE)
    assert 40 < cut < 60
    assert LookupStatus.INVALID_RESPONSE not in statuses[:cut]
    assert set(statuses[cut:]) == {LookupStatus.INVALID_RESPONSE}


def test_being_null_routed_is_an_error(config: ServiceConfig, sim: Simulator, http: GatedSession) -> None:
    """Who asks too often gets no word; it must not pass for "announced by nobody"."""
    sim.set_limit("cymru", Limit(rules=(FixedWindow(limit=1, seconds=60),)))
    CYMRU.fetch(["8.8.8.8"], http, config)
    with pytest.raises(requests.ConnectionError, match="without an answer"):
        CYMRU.fetch(["8.8.8.8"], http, config)
    assert sim.over_limit("cymru") == 1


def test_a_drip_is_not_waited_for(http: GatedSession) -> None:
    """The timeout is for the whole answer: a server that sends byte after byte cannot hold a worker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = Event()
        config = ServiceConfig(f"whois://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(100):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                    stop.wait(0.05)

        thread = Thread(target=drip)
        thread.start()
        with pytest.raises(requests.Timeout):
            CYMRU.fetch(["8.8.8.8"], http, config)
        stop.set()
        thread.join()


@pytest.mark.parametrize("url", ["whois://127.0.0.1:1", f"whois://{'x' * 70}.example"])
def test_a_host_out_of_reach_raises(url: str, http: GatedSession, config: ServiceConfig) -> None:
    """Refused, or not even a host's name."""
    with pytest.raises(requests.ConnectionError):
        CYMRU.fetch(["8.8.8.8"], http, replace(config, api_url=url))
