"""No request leaves without a slot, by whatever way it leaves."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy.exc import OperationalError
from urllib3.util import Retry

from cowrie_enrich_dagster.pacing import (
    AdaptiveRateLimiter,
    PacedSession,
    Policy,
    Reason,
    SlotRefused,
    with_retries,
)
from cowrie_enrich_dagster.pacing.flight import Flight
from cowrie_enrich_dagster.storage.engine import Database
from tests.integration.pacing.web import WebServer
from tests.servers import free_port

RATE = 10.0
TOLERANCE_S = 0.05  # how unpunctual the threads of the server may be on a busy machine


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'test.db')}")
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started


@pytest.fixture
def session(sqlite: Database) -> Iterator[PacedSession]:
    limiter = AdaptiveRateLimiter(sqlite, Policy("service", rate=RATE))
    with PacedSession(limiter, max_wait=5.0) as http:
        yield http


def assert_all_paced(http: PacedSession, server: WebServer, count: int) -> None:
    """The server saw `count` requests, each with a slot of its own, spaced as the rate demands."""
    assert len(server.arrivals) == count
    assert http.requests_sent == count
    assert http.limiter.snapshot().requests_total == count
    gaps = [later - earlier for earlier, later in pairwise(server.arrivals)]
    assert all(gap >= 1 / RATE - TOLERANCE_S for gap in gaps)


def test_every_request_takes_a_slot(session: PacedSession, server: WebServer) -> None:
    """Requests of all kinds on one kept-alive connection are spaced, and the waiting is added up."""
    for _ in range(3):
        assert session.get(f"{server.url}/a").status_code == 200
        assert session.post(f"{server.url}/b", data=b"x").status_code == 200
    assert_all_paced(session, server, 6)
    assert session.waited_s >= 5 / RATE * 0.8


def test_redirects_take_slots(session: PacedSession, server: WebServer) -> None:
    """Each hop of a redirect is a request of its own."""
    server.script["/a"].append((302, {"Location": "/b"}))
    server.script["/b"].append((307, {"Location": "/c"}))
    assert session.get(f"{server.url}/a").url.endswith("/c")
    assert_all_paced(session, server, 3)


def test_retries_take_slots(session: PacedSession, server: WebServer) -> None:
    """Each try of `with_retries` is a request of its own."""
    server.script["/a"].extend([(500, {}), (502, {})])
    ask = with_retries(backoff_base=0.001)(lambda: session.get(f"{server.url}/a"))
    assert ask().status_code == 200
    assert_all_paced(session, server, 3)


def test_even_urllib3s_own_retries_take_slots(session: PacedSession, server: WebServer) -> None:
    """Should anybody switch the library's retries on, its repeated requests are paced like all others."""
    adapter: Any = session.get_adapter("http://")
    adapter.max_retries = Retry(5, status_forcelist=[500], backoff_factor=0)
    server.script["/a"].extend([(500, {})] * 3)
    assert session.get(f"{server.url}/a").status_code == 200
    assert_all_paced(session, server, 4)


def test_the_library_does_not_retry_by_itself(session: PacedSession, server: WebServer) -> None:
    """A 503 with Retry-After comes back at once, and is not slept on inside the library."""
    server.script["/a"].append((503, {"Retry-After": "1"}))
    assert session.get(f"{server.url}/a").status_code == 503
    assert_all_paced(session, server, 1)


def test_a_proxy_is_no_way_around(session: PacedSession, server: WebServer) -> None:
    """Requests through an HTTP proxy are paced as well."""
    session.proxies = {"http": server.url}
    session.trust_env = False
    for _ in range(3):
        session.get("http://service.invalid/a")
    assert_all_paced(session, server, 3)


def test_the_environment_names_proxies_and_hosts_without_one(
    session: PacedSession, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY and NO_PROXY are obeyed for each host; what is set on the session later counts too."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "other.invalid")
    for _ in range(2):
        assert session.get("http://service.invalid/a").status_code == 200
        with pytest.raises(requests.ConnectionError):
            session.get("http://other.invalid/a")
    session.proxies = {"http": f"http://127.0.0.1:{free_port()}"}
    session.trust_env = False
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("http://service.invalid/a")
    assert len(server.arrivals) == 2


def test_the_connection_pool_is_no_way_around(session: PacedSession, server: WebServer) -> None:
    """Whoever reaches past the session for its pool cannot send: there is no slot, so there is no request."""
    adapter: Any = session.get_adapter("http://")
    pool = adapter.poolmanager.connection_from_url(server.url)
    with pytest.raises(LookupError):
        pool.urlopen("GET", "/a")
    assert server.arrivals == []


def test_tls_requests_take_slots(session: PacedSession, tmp_path: Path) -> None:
    """HTTPS is paced like HTTP."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not on PATH: no certificate for the HTTPS server")
    certificate = tmp_path / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*new, *subject, *files], check=True, capture_output=True)
    pem = (tmp_path / "cert.pem").read_text() + (tmp_path / "key.pem").read_text()
    certificate.write_text(pem)
    with WebServer(certificate) as server:
        session.verify = str(tmp_path / "cert.pem")
        session.trust_env = False
        for _ in range(3):
            assert session.get(f"{server.url}/a").status_code == 200
        assert_all_paced(session, server, 3)


def test_requests_that_are_not_http_take_slots(session: PacedSession, server: WebServer) -> None:
    """A block under `slot()` (a DNS query, say) counts like a request, and is refused like one."""
    session.get(f"{server.url}/a")
    with session.slot():
        pass
    session.get(f"{server.url}/a")
    assert server.arrivals[1] - server.arrivals[0] >= 2 / RATE - TOLERANCE_S
    assert session.requests_sent == session.limiter.snapshot().requests_total == 3
    server.script["/a"].append((429, {"Retry-After": "7200"}))
    session.get(f"{server.url}/a")
    with pytest.raises(SlotRefused), session.slot():
        pytest.fail("the block must not run without a slot")


def test_a_refused_slot_comes_out_unchanged(session: PacedSession, server: WebServer) -> None:
    """A stop beyond the session's patience raises SlotRefused, at once, with nothing sent."""
    server.script["/a"].append((429, {"Retry-After": "7200"}))
    assert session.get(f"{server.url}/a").status_code == 429
    session.max_wait = 120
    began = time.monotonic()
    with pytest.raises(SlotRefused) as caught:
        session.get(f"{server.url}/a")
    assert caught.value.reason is Reason.RATE_LIMITED
    assert time.monotonic() - began < 1
    assert_all_paced(session, server, 1)


def slow_connect(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    connect = Flight.connect

    def slowly(*arguments: Any, **options: Any) -> Any:
        before()
        return connect(*arguments, **options)

    monkeypatch.setattr(Flight, "connect", slowly)


def test_a_slow_connection_moves_the_slot(
    session: PacedSession, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose connection took 300 ms counts from its writing: the next one keeps its distance."""
    slow_connect(monkeypatch, lambda: time.sleep(0.3))
    session.get(f"{server.url}/a")
    session.get(f"{server.url}/a")
    assert_all_paced(session, server, 2)


def test_a_slot_lost_while_connecting_is_refused_unchanged(
    session: PacedSession, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the service is stopped while we connect, nothing is written, and SlotRefused says why."""
    other = session.limiter.acquire(1.0)

    def stop() -> None:
        time.sleep(0.1)
        session.limiter.observe(other, 429, {"Retry-After": "600"})

    slow_connect(monkeypatch, stop)
    with pytest.raises(SlotRefused) as caught:
        session.get(f"{server.url}/a")
    assert caught.value.reason is Reason.RATE_LIMITED
    assert server.arrivals == []


def test_a_server_that_does_not_answer_is_given_up(session: PacedSession, server: WebServer) -> None:
    """A timeout is raised as such, and the request that was written counts."""
    server.delay_s = 0.3
    with pytest.raises(requests.ReadTimeout):
        session.get(f"{server.url}/a", timeout=(1, 0.1))
    server.delay_s = 0.0
    session.get(f"{server.url}/a")
    assert_all_paced(session, server, 2)


def test_requests_without_a_timeout_get_one(session: PacedSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request may hang for ever: without a timeout of its own it gets the default ones."""
    seen: list[Any] = []
    plain_send = requests.adapters.HTTPAdapter.send

    def send(self: Any, request: Any, stream: Any, timeout: Any, *rest: Any) -> requests.Response:
        seen.append(timeout)
        return plain_send(self, request, stream, timeout, *rest)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with WebServer() as server:
        session.get(f"{server.url}/a")
        session.get(f"{server.url}/a", timeout=7)
    assert seen == [30.0, 7]


def test_a_broken_connection_does_not_stop_the_others(session: PacedSession, server: WebServer) -> None:
    """A refused connection is a ConnectionError; the limiter goes on as before."""
    with pytest.raises(requests.ConnectionError):
        session.get("http://127.0.0.1:1/a")
    assert session.get(f"{server.url}/a").status_code == 200
    assert session.requests_sent == len(server.arrivals) == 1


def test_what_was_never_sent_costs_no_quota(database: Database, server: WebServer) -> None:
    """With the network down for three requests, a day of two still has its two."""
    limiter = AdaptiveRateLimiter(database, Policy("service", rate=50.0, windows={"day": 2}))
    with PacedSession(limiter, max_wait=1.0) as http:
        for _ in range(3):
            with pytest.raises(requests.ConnectionError):
                http.get("http://127.0.0.1:1/a")
        assert limiter.snapshot().windows[1].left == 2
        for _ in range(2):
            assert http.get(f"{server.url}/a").status_code == 200
        with pytest.raises(SlotRefused) as caught:
            http.get(f"{server.url}/a")
    assert caught.value.reason is Reason.DAY_WINDOW


def test_what_was_sent_is_counted_even_if_the_database_fails_right_after(
    database: Database, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on marking a request as sent gives nothing back to the quota."""
    limiter = AdaptiveRateLimiter(database, Policy("service", rate=50.0, windows={"day": 2}))

    def fail(*_: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("gone"))

    with PacedSession(limiter, max_wait=1.0) as http:
        monkeypatch.setattr(limiter, "mark_sent", fail)
        with pytest.raises(OperationalError):
            http.get(f"{server.url}/a")
        assert http.requests_sent == 1
    assert limiter.snapshot().windows[1].left == 1
