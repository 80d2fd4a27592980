"""The one way out: a requests session that lets no request leave without a slot.

The slot is taken before a connection is looked for, and looked at again when the connection stands and the
next thing to happen is the writing of the request: connecting may take longer than the slot is good for.

A response is read here to its end, within the deadline of its request, and no further than its session
allows: whoever holds it holds all of it.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Retry
from urllib3.util.connection import allowed_gai_family

from cowrie_enrich_dagster.pacing.flight import BeforeSend, Flight
from cowrie_enrich_dagster.pacing.limiter import AdaptiveRateLimiter, Slot
from cowrie_enrich_dagster.pacing.meaning import Meaning, meaning_of, signs_of

DEFAULT_TIMEOUT = 30.0
"""Seconds to the deadline of a request that names none: connecting, its head and its body together."""

MAX_FLIGHT_S = 600.0
"""The deadline of requests that keep one of their own."""

MAX_BODY_BYTES = 4 * 1024 * 1024 + 1
"""No service here sends a tenth of it; one byte more than any answer may have, so that too much is seen."""

MAX_LINE_BYTES = 64 * 1024
"""A line of a response's framing is no longer (http.client's own bound, which urllib3 does not keep)."""


FRESH_S = 1.0
"""How old the leave to send may be when the request is written."""


def _clock() -> float:
    """Seconds on a clock that goes on while the process is frozen, or the machine asleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Turn:
    """One request's way to its slot: taken, confirmed when the connection stands, marked when written."""

    def __init__(self, session: PacedSession, flight: Flight) -> None:
        self._session = session
        self.flight = flight
        self._deadline = time.monotonic() + session.max_wait
        self._look()
        self._slot: Slot | None = self._acquire()
        self.sent: Slot | None = None

    def confirm(self) -> None:
        """Hold a good slot, and leave to send; a second writing of the request, whoever decided it, needs a
        second slot. Both are good for a moment only: whoever was held up between them looks again."""
        while True:
            if _clock() - self._looked_at >= FRESH_S:
                self._look()
            slot, self._slot = self._slot or self._acquire(), None
            self._slot = self._session.limiter.confirm(slot, self._patience())
            if _clock() - self._looked_at < FRESH_S:
                return

    def _look(self) -> None:
        self._looked_at = _clock()
        self._session.before_send()

    def mark_sent(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._session.requests_sent += 1
            with self.flight.standing_still():  # it may wait for the database
                self.sent = self._session.limiter.mark_sent(slot)

    def end(self) -> None:
        """Give a slot back that was not used, such as that of a request whose connection failed."""
        if self._slot is not None:
            self._session.limiter.give_back(self._slot)

    def _acquire(self) -> Slot:
        slot = self._session.limiter.acquire(self._patience())
        self._session.waited_s += slot.waited_s
        return slot

    def _patience(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


_turn: ContextVar[_Turn] = ContextVar("turn")


class _Reader(io.BufferedReader):
    def readline(self, size: int | None = -1) -> bytes:
        """A line; one without end is cut into pieces, which are no framing and end the response."""
        return super().readline(MAX_LINE_BYTES if size is None or size < 0 else size)


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = _Reader(self.fp.detach())


class _Paced(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        host, flight = self._dns_host.strip("[]"), _turn.get().flight
        try:
            return flight.connect(host, self.port or 0, allowed_gai_family(), self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from error
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error

    def request(self, *arguments: Any, **options: Any) -> None:
        turn = _turn.get()  # LookupError for whoever comes by another way than the session
        if self.sock is None:
            self.connect()
        turn.flight.carry(self.sock)
        with turn.flight.standing_still():
            turn.confirm()
        try:
            super().request(*arguments, **options)
        finally:
            turn.mark_sent()


class _PacedTls(_Paced, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Paced


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PacedTls


_POOLS = {"http": _Pool, "https": _TlsPool}


class _PacedAdapter(HTTPAdapter):
    def __init__(self, session: PacedSession) -> None:
        self._session = session
        super().__init__(max_retries=Retry(0, read=False))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        with self._session.flight(_total(timeout)) as flight:
            flight.pause()
            turn = _Turn(self._session, flight)
            flight.start()
            token = _turn.set(turn)
            try:
                response = super().send(request, True, timeout or DEFAULT_TIMEOUT, verify, cert, proxies)
            finally:
                _turn.reset(token)
                turn.end()
            body, problem = _body_of(response, self._session.max_body_bytes)
        policy = self._session.limiter.policy
        if turn.sent is not None:
            self._session.limiter.observe(turn.sent, response.status_code, response.headers, body)
        signs = signs_of(policy, response.status_code, response.headers, body)
        if meaning_of(policy, signs) is Meaning.ANSWER:  # else its status is all that counts
            flight.check()  # a connection that was broken looks like one that ended
            if problem is not None:
                raise problem
        vars(response).update(_content=body, _content_consumed=True)  # as Response.content leaves it
        return response


def _total(timeout: Any) -> float:
    """The deadline that a timeout of requests' kinds amounts to."""
    parts = timeout if isinstance(timeout, tuple) else (timeout,)
    seconds = [part for part in parts if isinstance(part, (int, float))]
    return float(sum(seconds)) if seconds else DEFAULT_TIMEOUT


def _body_of(response: requests.Response, most: int) -> tuple[bytes, requests.RequestException | None]:
    """The body as far as it came, up to `most` bytes, and what broke it off."""
    body = bytearray()
    try:
        for chunk in response.iter_content(65536):
            body += chunk
            if len(body) >= most:
                response.close()
                return bytes(body), None
    except requests.RequestException as error:
        return bytes(body), error
    except ValueError:  # urllib3 lets chunks of a size below zero through to the socket
        return bytes(body), requests.exceptions.ChunkedEncodingError("a chunk of less than nothing")
    if body and _is_cut(response):
        return bytes(body), requests.exceptions.ChunkedEncodingError("a packed body that breaks off")
    return bytes(body), None


def _is_cut(response: requests.Response) -> bool:
    """Whether a packed body (gzip, deflate) ends before its end, which urllib3 lets pass: that of an answer
    that was cut before it was framed, or has nothing to tell its length."""
    unpacking = getattr(getattr(response.raw, "_decoder", None), "_obj", None)
    return getattr(unpacking, "eof", True) is False


def _nothing() -> None:
    """The default of `PacedSession.before_send`."""


class _NoCredentials(requests.auth.AuthBase):
    """Stands where requests would else put what it finds in a netrc file."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class PacedSession(requests.Session):
    """A session whose every request, redirects and retries included, takes a slot and reports its response.

    `max_wait` is how many seconds one request may wait for its slots; it may be changed at any time. Raises
    `SlotRefused` for a request whose slot is further away; nothing was sent then. A request's timeout is its
    deadline (the parts of a pair are added up), by default `DEFAULT_TIMEOUT`: `DeadlineExceeded` is raised
    after it. `before_send` is called when the next thing to happen is the writing of a request. From the
    environment come proxies and certificate authorities, but no credentials (netrc). No body is read further
    than `max_body_bytes`. `requests_sent` and `waited_s` add up what left and what the limiter made us wait.
    One session per thread, but `abort` may be called from any; the limiter may be shared.
    """

    def __init__(
        self, limiter: AdaptiveRateLimiter, max_wait: float, before_send: BeforeSend = _nothing
    ) -> None:
        super().__init__()
        self.limiter = limiter
        self.max_wait = max_wait
        self.before_send = before_send
        self.max_body_bytes = MAX_BODY_BYTES
        self.requests_sent = 0
        self.waited_s = 0.0
        self.auth = _NoCredentials()
        self._flight: Flight | None = None
        self._is_aborted = False
        self._settings: dict[object, Any] = {}
        for scheme in ("http://", "https://"):
            self.mount(scheme, _PacedAdapter(self))

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """As requests does, which reads the whole environment for each request: here, for each host once."""
        if proxies:
            return super().merge_environment_settings(url, proxies, stream, verify, cert)
        own = (self.trust_env, self.verify, self.cert, tuple(self.proxies.items()))
        of = (urlsplit(url)[:2], own, stream, verify, cert)
        if of not in self._settings:
            self._settings[of] = super().merge_environment_settings(url, {}, stream, verify, cert)
        found = self._settings[of]
        return {**found, "proxies": found["proxies"].copy()}

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """A redirect carries no credentials, and finds none (netrc) on its way."""
        prepared_request.headers.pop("Authorization", None)

    def abort(self) -> None:
        """Break the request that is on its way, and let none begin any more: they raise `Stopped`."""
        self._is_aborted = True
        if (flight := self._flight) is not None:
            flight.stop()

    @contextmanager
    def flight(self, seconds: float) -> Iterator[Flight]:
        """The block is one request; when it fails for being broken off, that is what is raised."""
        with Flight(seconds) as flight:
            self._flight = flight
            if self._is_aborted:
                flight.stop()
            try:
                flight.check()
                yield flight
            except (OSError, ValueError, http.client.HTTPException):  # requests' errors are OSErrors
                flight.check()
                raise
            finally:
                self._flight = None

    @contextmanager
    def slot(self) -> Iterator[None]:
        """The right to send one request that is not HTTP; the block connects and sends it.

        Raises `SlotRefused` as a request would.
        """
        turn = _Turn(self, Flight(DEFAULT_TIMEOUT))
        try:
            yield
        finally:
            turn.mark_sent()

    @contextmanager
    def watched(self, connection: socket.socket) -> Iterator[None]:
        """While the block lasts, `abort` breaks the connection; the block writes the request first of all.

        Its deadline is its own affair.
        """
        self.before_send()
        with self.flight(MAX_FLIGHT_S) as flight:
            flight.carry(connection)
            yield
            flight.check()
