"""One deadline over connecting, head and body, whatever a server does; and a stop that waits for none."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path

import pytest
import requests

from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, DeadlineExceeded, PacedSession, Policy, Stopped
from cowrie_enrich_dagster.services import ALL, ServiceConfig
from cowrie_enrich_dagster.storage.engine import Database

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BY_BYTE = [bytes([byte]) for byte in HEAD + b"Content-Length: 9\r\n\r\n123456789"]

DAWDLERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "drips a status line": lambda: (bytes([byte]) for byte in b"HTTP/1.1 200 " + b"O" * 9000),
    "drips headers": lambda: chain([HEAD], repeat(b"X-A: b\r\n")),
    "drips a body": lambda: chain([HEAD + b"Content-Length: 90000000\r\n\r\n"], repeat(b"1")),
    "drips chunks": lambda: chain([CHUNKED], repeat(b"1\r\n1\r\n")),
    "drips a chunk's line": lambda: chain([CHUNKED + b"1;"], repeat(b"x")),
    "says 100 Continue for ever": lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "is silent": lambda: iter(()),
    "is silent after its head": lambda: iter([HEAD + b"Content-Length: 9\r\n\r\n"]),
}


@contextmanager
def server(send: Callable[[], Iterator[bytes]], every_s: float) -> Iterator[str]:
    """Accepts, reads the request, sends the pieces one by one, and then nothing."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            for piece in send():
                connection.sendall(piece)
                if over.wait(every_s):
                    return
            over.wait(60)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        over.set()


@pytest.fixture
def session(tmp_path: Path, sqlite_template: Path) -> Iterator[PacedSession]:
    database = Database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'test.db')}")
    with PacedSession(AdaptiveRateLimiter(database, Policy("service", rate=1000.0)), max_wait=5.0) as http:
        yield http
    database.close()


@pytest.mark.parametrize("every_s", [0.0, 0.05])
@pytest.mark.parametrize("what", DAWDLERS)
def test_a_request_ends_at_its_deadline(what: str, every_s: float, session: PacedSession) -> None:
    """Slowly or as fast as it can: a server that never comes to an end is given up."""
    endless = server(DAWDLERS[what], every_s)
    with endless as where, pytest.raises(requests.RequestException) as caught:
        session.get(f"http://{where}/", timeout=1.0)
    # As fast as it can, some run into another bound before the deadline: a line or a body may be too long.
    assert every_s == 0.0 or isinstance(caught.value, requests.Timeout)
    assert session.requests_sent == 1


def test_the_deadline_is_one_of_whole_requests(session: PacedSession) -> None:
    """Half of it for the head, half for the body, and a byte every so often: that is not twice the time."""
    began = time.monotonic()
    with server(lambda: iter(BY_BYTE), 0.1) as where, pytest.raises(DeadlineExceeded):
        session.get(f"http://{where}/", timeout=1.5)
    assert time.monotonic() - began < 5  # its 86 bytes take 8.6 s


@pytest.mark.parametrize("what", DAWDLERS)
def test_a_stop_breaks_what_is_on_its_way(what: str, session: PacedSession) -> None:
    """From another thread, at once; and no request begins after it."""
    with server(DAWDLERS[what], 0.05) as where:
        threading.Timer(0.3, session.abort).start()
        with pytest.raises(Stopped):
            session.get(f"http://{where}/", timeout=60.0)
        with pytest.raises(Stopped):
            session.get(f"http://{where}/", timeout=60.0)
    assert session.requests_sent == 1


def test_a_stop_breaks_a_connection_that_nobody_accepts(session: PacedSession) -> None:
    """A host that is not there (its packets are dropped) holds a stop no longer than one that answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        where = full.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(where)
        threading.Timer(0.3, session.abort).start()
        with pytest.raises(Stopped):
            session.get(f"http://127.0.0.1:{where[1]}/", timeout=60.0)
        for each in waiting:
            each.close()


def test_a_stop_breaks_whois_too(session: PacedSession) -> None:
    """What is not HTTP ends like the rest."""
    with server(lambda: repeat(b"x"), 0.05) as where:
        threading.Timer(0.3, session.abort).start()
        config = ServiceConfig(f"whois://{where}")
        with pytest.raises(Stopped):
            ALL["cymru"].fetch(["8.8.8.8"], session, config)


def test_whois_has_a_deadline(session: PacedSession) -> None:
    """A byte every so often is no answer."""
    with server(lambda: repeat(b"x"), 0.05) as where, pytest.raises(requests.Timeout):
        ALL["cymru"].fetch(["8.8.8.8"], session, ServiceConfig(f"whois://{where}", timeout_s=1.0))


def test_what_is_called_before_sending_may_forbid_it(session: PacedSession) -> None:
    """Raising there, nothing is written, and no slot is used."""

    class No(Exception):
        pass

    def forbid() -> None:
        raise No

    session.before_send = forbid
    with server(lambda: iter(()), 0.0) as where, pytest.raises(No):
        session.get(f"http://{where}/")
    assert session.requests_sent == 0


@pytest.mark.parametrize("method", ["get", "post"])
def test_nothing_of_a_netrc_file_is_sent(
    method: str, session: PacedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `default` entry would go to every service (a public report); a redirect finds none either."""
    seen: list[bytes] = []
    cases = Path(__file__).parents[2] / "data" / "cases" / "services"
    monkeypatch.setenv("NETRC", str(cases / "netrc_default"))

    def once() -> Iterator[bytes]:
        moved = b"HTTP/1.1 307 x\r\nLocation: /b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        yield moved if len(seen) == 1 else HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    connection.sendall(next(once()))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert session.request(method, f"http://127.0.0.1:{listener.getsockname()[1]}/").ok
        thread.join()
    assert len(seen) == 2
    assert b"authorization" not in b"".join(seen).lower()
