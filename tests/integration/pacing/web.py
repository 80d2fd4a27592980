"""A small real HTTP server that answers by script and remembers when each request arrived."""

from __future__ import annotations

import ssl
import threading
import time
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Reply = tuple[int, dict[str, str]]


class WebServer(ThreadingHTTPServer):
    """Replies 200, unless `script[path]` holds replies for the next requests; `delay_s` before each reply.

    `arrivals` are the moments of all requests, `limited` those at which a 429 was sent (monotonic clock).
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrivals: list[float] = []
        self.limited: list[float] = []
        self.script: dict[str, deque[Reply]] = defaultdict(deque)
        self.delay_s = 0.0
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def __enter__(self) -> WebServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        self.server.arrivals.append(time.monotonic())
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.server.delay_s)
        replies = self.server.script[self.path]
        status, headers = replies.popleft() if replies else (200, {})
        if status == 429:
            self.server.limited.append(time.monotonic())
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        pass
