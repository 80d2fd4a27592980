"""A simulator, a plain session, and every service with its fixture of answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Service, ServiceConfig
from cowrie_enrich_dagster.simulator import Simulator

FIXTURES = Path(__file__).parent / "fixtures"


def fixture_of(service: str) -> dict[str, Any]:
    """The fixture file of one service: answers as recorded, and what is to be read from them."""
    content: dict[str, Any] = orjson.loads((FIXTURES / f"{service}.json").read_bytes())
    return content


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
    """A session as `requests` makes it, but for the environment's proxies."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(params=list(services.ALL))
def service(request: pytest.FixtureRequest) -> Service:
    """Each service in turn."""
    return services.ALL[request.param]


@pytest.fixture
def config(service: Service, sim: Simulator) -> ServiceConfig:
    """The service as the simulator offers it."""
    return ServiceConfig(api_url=sim.url(service.name), contact="tests@example.org", timeout_s=5)


@pytest.fixture
def key(service: Service) -> str:
    """A key that the service knows."""
    return str(fixture_of(service.name)["answers"][0]["key"])
