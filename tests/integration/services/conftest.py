"""A simulator, a session that also gives slots, and every service with its fixture of answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Service, ServiceConfig
from cowrie_enrich_dagster.simulator import Simulator, pages

FIXTURES = Path(__file__).parent / "fixtures"
SIMULATED = [name for name in services.ALL if name in pages.ALL]
OVER_HTTP = [name for name in SIMULATED if services.ALL[name].default_url.startswith("http")]

over_http = pytest.mark.parametrize("service", OVER_HTTP, indirect=True)
"""Only the services that speak HTTP."""


@cache
def fixture_of(service: str) -> dict[str, Any]:
    """The fixture file of one service: answers as recorded, and what is to be read from them.

    `body` is JSON, `text` is not; `payload` is what is kept of it where that is not `body` itself. An answer
    with neither is the simulator's. `echoes_key` is false where an answer does not say what it is about.
    `names_key_at`: the places (names with dots between them) of which one names the key in every answer that
    is `found`. `nothing_known`: by place, the words by which a service says that it knows nothing.
    """
    content: dict[str, Any] = orjson.loads((FIXTURES / f"{service}.json").read_bytes())
    return content


def body_text(answer: dict[str, Any]) -> str:
    """The body of a recorded answer, as sent."""
    return str(answer["text"]) if "text" in answer else json.dumps(answer.get("body"))


class GatedSession(requests.Session):
    """A session as `requests` makes it, but for the environment's proxies; it counts the slots it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.slots = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """See `Gate`."""
        self.slots += 1
        yield

    @contextmanager
    def watched(self, connection: socket.socket) -> Iterator[None]:
        """See `Gate`."""
        yield


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
def http() -> Iterator[GatedSession]:
    """A session without a limit."""
    with GatedSession() as session:
        yield session


@pytest.fixture(params=SIMULATED)
def service(request: pytest.FixtureRequest) -> Service:
    """Each service that is asked over the network, in turn."""
    return services.ALL[request.param]


@pytest.fixture
def config(service: Service, sim: Simulator) -> ServiceConfig:
    """The service as the simulator offers it."""
    return config_for(service.name, sim)


def config_for(service: str, sim: Simulator) -> ServiceConfig:
    """One service as the simulator offers it."""
    return ServiceConfig(sim.url(service), api_key="tests-key", contact="tests@example.org")


@pytest.fixture
def key(service: Service) -> str:
    """A key that the service knows."""
    return str(fixture_of(service.name)["answers"][0]["key"])
