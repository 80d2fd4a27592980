"""The simulator's HTTP server: one thread per connection, HTTP/1.1 with keep-alive."""

from __future__ import annotations

import io
import logging
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from cowrie_enrich_dagster.simulator import pages
from cowrie_enrich_dagster.simulator.arrival import TimedReader, tell_arrivals
from cowrie_enrich_dagster.simulator.engine import Engine, Outcome
from cowrie_enrich_dagster.simulator.model import Control, SimulatorConfig
from cowrie_enrich_dagster.simulator.pages import Reply, Request
from cowrie_enrich_dagster.simulator.whois import WhoisServer, befall

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 8 * 1024 * 1024


class SimulatorServer(ThreadingHTTPServer):
    """Listens from construction on; `serve_forever` in a thread, then `stop`.

    `port` 0 takes a free one. Raises OSError if the address is taken, ValueError for an unknown service.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, host: str, port: int, config: SimulatorConfig, log_file: Path | None = None) -> None:
        self.engine = Engine(config, log_file)
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self.url = f"http://{host}:{self.server_address[1]}"
        self.whois = WhoisServer(host, self.engine, self.stopping)
        self.whois.start()

    def stop(self) -> None:
        """Stop listening and break every connection, as a service that goes down does."""
        self.stopping.set()
        self.whois.stop()
        self.shutdown()
        self.server_close()
        with self._connections_lock:
            for connection in self._connections:
                _shut(connection)
        self.engine.close()

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for the host's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        tell_arrivals(self.socket)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exc_info()[1], ConnectionError):
            logger.debug("%s went away", client_address)
        else:
            logger.exception("a request from %s failed", client_address)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("connection was gone already")


class _Handler(BaseHTTPRequestHandler):
    server: SimulatorServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._timed = TimedReader(self.connection)
        self.rfile.close()
        self.rfile = io.BufferedReader(self._timed)

    def parse_request(self) -> bool:
        self._arrived = self._timed.arrived
        return super().parse_request()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)

    def _handle(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        target = urlsplit(self.path)
        service, _, rest = target.path.removeprefix("/").partition("/")
        if service.startswith("_"):
            self._send(self._manage(f"{self.command} /{service}", body))
            return
        request = Request(self.command, f"/{rest}", target.query, self.headers, body)
        self._carry_out(self.server.engine.handle(service, request, self._arrived, self.client_address[1]))

    def _manage(self, action: str, body: bytes) -> Reply:
        engine = self.server.engine
        if action == "GET /_health":
            return _json(
                200, {"status": "ok", "services": list(pages.ALL), "whois_url": self.server.whois.url}
            )
        if action == "GET /_log":
            return _json(200, engine.records())
        if action == "POST /_control":
            try:
                engine.control(Control.model_validate_json(body))
            except ValidationError as error:
                return Reply(400, error.json(include_url=False).encode())
            except ValueError as error:
                return _json(400, {"error": str(error)})
            return _json(200, {"status": "ok"})
        return _json(404, {"error": f"there is no {action}"})

    def _carry_out(self, outcome: Outcome) -> None:
        fault = outcome.fault
        if fault:
            befall(fault, self.connection, self.server.stopping)
        if outcome.reply is None:
            self.close_connection = True
        else:
            self._send(outcome.reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status == HTTPStatus.NO_CONTENT:  # by RFC 9110 a client takes a body for the next answer
            self.end_headers()
            return
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)


def _json(status: int, body: object) -> Reply:
    return Reply(status, orjson.dumps(body))
