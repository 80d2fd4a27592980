"""The simulator's whois server (RFC 3912), for the one service that is asked over plain TCP."""

from __future__ import annotations

import logging
import socket
import socketserver
import struct
import threading
import time
from email.message import Message

from cowrie_enrich_dagster.simulator.engine import Engine
from cowrie_enrich_dagster.simulator.model import Fault
from cowrie_enrich_dagster.simulator.pages import Request
from cowrie_enrich_dagster.simulator.pages.cymru import METHOD, PAGE

logger = logging.getLogger(__name__)

SERVICE = PAGE.name
MAX_QUERY_BYTES = 1024 * 1024
IDLE_S = 30.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class WhoisServer(socketserver.ThreadingTCPServer):
    """Listens from construction on, on a free port; `start`, then `stop`."""

    daemon_threads = True

    def __init__(self, host: str, engine: Engine, stopping: threading.Event) -> None:
        self.engine = engine
        self.stopping = stopping
        super().__init__((host, 0), _Handler)
        self.url = f"whois://{host}:{self.server_address[1]}"

    def start(self) -> None:
        """Answer in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.05,), name="whois", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: WhoisServer
    timeout = IDLE_S

    def handle(self) -> None:
        body = b""
        try:
            while not body.endswith(b"end\n") and len(body) < MAX_QUERY_BYTES:
                line = self.rfile.readline(MAX_QUERY_BYTES)
                if not line:
                    return
                body += line.replace(b"\r\n", b"\n")
            request = Request(METHOD, "/", "", Message(), body)
            outcome = self.server.engine.handle(SERVICE, request, time.monotonic(), self.client_address[1])
            if outcome.fault:
                befall(outcome.fault, self.connection, self.server.stopping)
            # Whoever asks too much is null-routed: there is no status to say it by.
            if outcome.reply and outcome.reply.status == 200:
                self.wfile.write(outcome.reply.body)
        except OSError as error:
            logger.debug("%s went away: %s", self.client_address, error)


def befall(fault: Fault, connection: socket.socket, stopping: threading.Event) -> None:
    """What a fault does to a connection before anything is sent: the wait, the break."""
    if fault.kind in ("slow", "hang"):
        stopping.wait(fault.delay_s)
    if fault.kind == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.close()
