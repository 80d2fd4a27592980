"""A webhook on localhost that takes messages, or fails as it is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hook(ThreadingHTTPServer):
    """`taken` are the path and the JSON of each message.

    `status` is what it answers with; with `hangs` it sends a byte of its answer each `pause` seconds.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.hangs = False
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _Taking)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/services/T0/B0/SecretPath") -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    @property
    def texts(self) -> list[str]:
        """What was said in Slack's form."""
        return [body["text"] for _, body in self.taken]

    def close(self) -> None:
        """Let go of whoever still waits, and end."""
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Taking(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.hangs:
            while not self.server.ended.wait(0.2):
                self.wfile.write(b"H")  # a timeout of the socket alone would begin anew with each
            return
        if self.server.status < 300:
            self.server.taken.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Location", self.server.url("/elsewhere/for/others"))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
