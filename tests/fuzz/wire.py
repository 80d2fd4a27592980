"""Responses from memory: everything from the socket upwards is the real thing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.util import Retry


class Wire(HTTPAdapter):
    """Answers every request with the bytes in `answer`, then the connection closes.

    `connections` counts them; `status` and `headers` are those of the response, None and none where it was
    too broken to be one.
    """

    def __init__(self) -> None:
        self.answer = b""
        self.connections = 0
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        super().__init__(max_retries=Retry(0, read=False))

    def load(self, answer: bytes) -> None:
        """Have `answer` ready; nothing was asked yet."""
        self.answer, self.connections, self.status, self.headers = answer, 0, None, {}

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make connections end here."""
        super().init_poolmanager(*arguments, **options)
        wire = self

        class Connection(HTTPConnection):
            is_connected = False

            def connect(self) -> None:
                wire.connections += 1
                self.sock = _Socket(wire.answer)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {"http": Pool}

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        """Note what the response is."""
        response = super().send(*arguments, **options)
        self.status, self.headers = response.status_code, response.headers
        return response


class _Socket:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._answer))

    def sendall(self, data: bytes) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass
