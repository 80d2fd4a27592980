"""A simulator in this process, and a polite caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests

from cowrie_enrich_dagster.simulator import Simulator

AGENT = "simulator-tests/1.0 (+tests@example.org)"

Get = Callable[..., requests.Response]


@pytest.fixture(scope="package")
def running_simulator() -> Iterator[Simulator]:
    """One simulator for all tests here."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running_simulator: Simulator) -> Simulator:
    """A simulator without limits, faults or past requests."""
    running_simulator.reset()
    return running_simulator


@pytest.fixture
def http() -> Iterator[requests.Session]:
    """A session that names its contact and knows no proxy."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = AGENT
        yield session


@pytest.fixture
def get(sim: Simulator, http: requests.Session) -> Get:
    """Looks an address up at the simulated DShield."""

    def look_up(ip: str = "1.45.14.166", **options: object) -> requests.Response:
        return http.get(f"{sim.url('dshield')}/ip/{ip}?json", **{"timeout": 5, **options})

    return look_up
