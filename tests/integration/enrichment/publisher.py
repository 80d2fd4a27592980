"""A publisher that sends whatever bytes it is given; lists that are framed right, and that break off."""

from __future__ import annotations

import gzip
import socket
import threading
from contextlib import suppress

from tests.integration.enrichment.listing import lines
from tests.logs import routable_ips

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
            with connection, suppress(ConnectionError):  # who has read enough hangs up
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


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
