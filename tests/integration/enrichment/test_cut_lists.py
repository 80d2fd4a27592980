"""A list that breaks off on its way is refused, however it was framed; over real connections."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from tests.integration.enrichment.listing import at, lines
from tests.logs import START, routable_ips

Open = Callable[..., Enricher]
WHOLE = lines(*routable_ips(200)).encode()
CUT = WHOLE[: len(WHOLE) * 4 // 5]
"""More than half of the entries, the last of them cut too."""
PACKED = gzip.compress(WHOLE)
HALF_PACKED = PACKED[: len(PACKED) * 4 // 5]


class Publisher:
    """Answers each connection with the bytes it was given, and closes it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.answer = b""
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/list.txt"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    running = Publisher()
    yield running
    running.close()


def framed(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/plain", *headers, "", ""]).encode() + body


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


GZIP = "Content-Encoding: gzip"
CHUNKED = "Transfer-Encoding: chunked"
BROKEN = {
    "before its Content-Length": framed(CUT, f"Content-Length: {len(WHOLE)}"),
    "in a chunk": framed(chunk(WHOLE)[: len(CUT)], CHUNKED),
    "between chunks": framed(chunk(CUT), CHUNKED),
    "before the last chunk": framed(chunk(WHOLE), CHUNKED),
    "packed, before its Content-Length": framed(HALF_PACKED, GZIP, f"Content-Length: {len(PACKED)}"),
    "packed, in a chunk": framed(chunk(PACKED)[: len(HALF_PACKED)], CHUNKED, GZIP),
    "while it was packed": framed(HALF_PACKED, GZIP, f"Content-Length: {len(HALF_PACKED)}"),
    "packed, with nothing to tell its end": framed(HALF_PACKED, GZIP, "Connection: close"),
}
WHOLE_ANSWERS = {
    "with its length": framed(WHOLE, f"Content-Length: {len(WHOLE)}"),
    "in chunks": framed(chunk(CUT) + chunk(WHOLE[len(CUT) :]) + b"0\r\n\r\n", CHUNKED),
    "packed": framed(PACKED, GZIP, f"Content-Length: {len(PACKED)}"),
    "packed, until the connection ends": framed(PACKED, GZIP, "Connection: close"),
    "packed in two members": framed(gzip.compress(CUT) + gzip.compress(WHOLE[len(CUT) :]), GZIP),
    "until the connection ends": framed(WHOLE, "Connection: close"),
}


def entries(enricher: Enricher) -> int:
    with enricher.database.read() as connection:
        query = text("SELECT count(*) FROM list_entries WHERE seen_until IS NULL")
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("where", BROKEN)
def test_a_list_that_breaks_off_is_refused_and_the_last_good_one_kept(
    open_enricher: Open, publisher: Publisher, configure: Callable[..., None], where: str
) -> None:
    """Nothing of it is taken, the report says why, and an hour later it is asked for again."""
    enricher, clock = _with_a_good_one(open_enricher, publisher, configure)
    publisher.answer = BROKEN[where]
    clock.now += timedelta(days=1)
    (report,) = enricher.refresh_lists()
    assert report.status in ("failed", "refused")
    assert report.problem.startswith(f"{report.status}: ")
    assert report.problem.endswith("; the one of 2025-11-01 00:00 UTC is kept")
    assert len(report.reason) > 10
    assert entries(enricher) == 200
    publisher.answer = WHOLE_ANSWERS["with its length"]
    clock.now += timedelta(hours=1, minutes=2)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.problem, report.entries) == ("taken", "", 200)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", WHOLE_ANSWERS)
def test_a_whole_list_is_taken_however_it_is_sent(
    open_enricher: Open, publisher: Publisher, configure: Callable[..., None], how: str
) -> None:
    """What is refused above is refused for being cut alone."""
    enricher, clock = _with_a_good_one(open_enricher, publisher, configure)
    publisher.answer = WHOLE_ANSWERS[how]
    clock.now += timedelta(days=1)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.problem, report.came, report.went) == ("taken", "", 0, 0)


def _with_a_good_one(open_enricher: Open, publisher: Publisher, configure: Callable[..., None]) -> Any:
    configure({"name": "exits", "says": "tor", "url": publisher.url, "refresh_hours": 12})
    publisher.answer = WHOLE_ANSWERS["with its length"]
    enricher = open_enricher(ENRICH_MAX_WAIT_SECONDS="0")
    clock = at(enricher, START)
    assert enricher.refresh_lists()[0].entries == 200
    return enricher, clock
