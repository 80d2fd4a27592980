"""One request on its way: whatever its server does, it ends at its deadline, or when the run is told to stop.

The timeouts of sockets are for the next byte, not for the whole: a server that sends one every few seconds
holds its client for ever. So the connection itself is broken from outside, on whichever of its reads (a
handshake, a status line, headers, the framing of a body) the client happens to wait.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import requests

CONNECT_S = 10.0
"""Longest wait for one address of a host to accept a connection."""

FROZEN_S = 1.0
"""A timer later than this was held up with the whole process (SIGSTOP, a machine that sleeps)."""

THAW_S = 2.0
"""How much longer a request may take then."""

_Found = Sequence[tuple[Any, Any, int, str, Any]]


class DeadlineExceeded(requests.Timeout):
    """There was no whole answer by the deadline of the request. It is not asked again at once."""


class Stopped(Exception):
    """The run was told to stop while a request was on its way; the connection is closed."""


class _Watch:
    """One thread that lets the flights of this process expire. A timer each would be a thread each, and four
    for every request: its time stands still and runs on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flights: set[Flight] = set()
        self._looks_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, flight: Flight) -> None:
        """Let it expire when it is due."""
        with self._changed:
            self._flights.add(flight)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flights", daemon=True)
                self._thread.start()
            if flight.due < self._looks_at:
                self._changed.notify()

    def remove(self, flight: Flight) -> None:
        """Do not; nothing happens where it has expired."""
        with self._changed:
            self._flights.discard(flight)

    def _run(self) -> None:
        while True:
            for flight in self._expired():
                flight.expire()

    def _expired(self) -> list[Flight]:
        with self._changed:
            self._looks_at = min((flight.due for flight in self._flights), default=math.inf)
            left = self._looks_at - time.monotonic()
            if left > 0:
                self._changed.wait(None if left == math.inf else left)
            now = time.monotonic()
            over = [flight for flight in self._flights if flight.due <= now]
            self._flights.difference_update(over)
        return over


_watch = _Watch()


def _watch_anew() -> None:
    """No thread of its parent lives in a process that was forked."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_watch_anew)


class Flight:
    """Breaks the connections it carries `seconds` after `start`, pauses excepted, or at once by `stop`.

    Use as a context manager around the whole request. Safe to `stop` from another thread. While the time runs
    `due` is the moment of `time.monotonic` at which it ends.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_running = False
        self._started = self.due = 0.0
        self._why: Exception | None = None

    def __enter__(self) -> Flight:
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.pause()
        self.carry(None)

    def start(self) -> None:
        """Let the time run (again)."""
        self._started = time.monotonic()
        self.due = self._started + max(0.0, self._left)
        self._is_running = True
        _watch.add(self)

    def pause(self) -> None:
        """Let the time stand still: what is waited for is not the server."""
        if self._is_running:
            _watch.remove(self)
            self._is_running = False
            self._left -= time.monotonic() - self._started

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """While the block lasts the time stands still, if it was running."""
        is_running = self._is_running
        self.pause()
        try:
            yield
        finally:
            if is_running:
                self.start()

    def carry(self, connection: socket.socket | None) -> None:
        """Answer for this connection from now on, and for none before it.

        Held is a second handle of the same connection: the first may be wrapped (TLS) or closed meanwhile.
        """
        handle = None if connection is None else socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            handle, self._connection = self._connection, handle
        if handle is not None:
            handle.close()
        if self._why is not None:
            self._break()

    def stop(self) -> None:
        """Break the connection because the run ends."""
        self._cut(Stopped("the run was told to stop"))

    def check(self) -> None:
        """Raise why the connection was broken, if it was: `DeadlineExceeded` or `Stopped`."""
        if self._why is not None:
            raise self._why

    def left(self) -> float:
        """Seconds to the deadline."""
        return self._left - (time.monotonic() - self._started if self._is_running else 0.0)

    def connect(self, host: str, port: int, family: Any, options: Sequence[Any]) -> socket.socket:
        """A connection to the first address of `host` that accepts one.

        Raises `socket.gaierror` for a name without addresses, `OSError` for the last address that refused,
        and what `check` raises.
        """
        problem: OSError | None = None
        for kind, how, protocol, _, where in self._resolve(host, port, family):
            connection = socket.socket(kind, how, protocol)
            try:
                for option in options:
                    connection.setsockopt(*option)
                connection.settimeout(max(0.001, min(CONNECT_S, self.left())))
                self.carry(connection)
                connection.connect(where)
                self.check()
            except BaseException as error:
                connection.close()
                if not isinstance(error, OSError):
                    raise
                self.check()
                problem = error
            else:
                return connection
        raise problem or OSError(f"{host} has no address")

    def _resolve(self, host: str, port: int, family: Any) -> _Found:
        """`getaddrinfo`, which nothing can interrupt: so it is waited for beside us, while we may."""
        found: list[_Found] = []
        problems: list[Exception] = []
        done = threading.Event()

        def ask() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                problems.append(error)
            done.set()

        threading.Thread(target=ask, name="resolve", daemon=True).start()
        while not done.wait(0.1):
            self.check()
        if problems:
            raise problems[0]
        return found[0]

    def expire(self) -> None:
        """Break the connection because the deadline, `due`, has passed."""
        if time.monotonic() - self.due > FROZEN_S:
            # It was us who stood still, not the server: what came meanwhile is still to be read.
            self._left = THAW_S
            self.start()
            return
        self._cut(DeadlineExceeded(f"no whole answer within {self._seconds:g} s"))

    def _cut(self, why: Exception) -> None:
        self._why = self._why or why
        self._break()

    def _break(self) -> None:
        with self._lock, suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)


BeforeSend = Callable[[], None]
"""Called when the next thing to happen is the writing of a request; what it raises, keeps it from that."""
