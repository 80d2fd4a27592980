"""The one way out: a requests session that lets no request leave without a slot.

The slot is taken before a connection is looked for, and looked at again when the connection stands and the
next thing to happen is the writing of the request: connecting may take longer than the slot is good for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Retry

from cowrie_enrich_dagster.pacing.limiter import AdaptiveRateLimiter, Slot

DEFAULT_TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and to wait for the next bytes."""


class _Turn:
    """One request's way to its slot: taken, confirmed when the connection stands, marked when written."""

    def __init__(self, session: PacedSession) -> None:
        self._session = session
        self._deadline = time.monotonic() + session.max_wait
        self._slot: Slot | None = self._acquire()
        self.sent: Slot | None = None

    def confirm(self) -> None:
        """Hold a good slot; a second writing of the request, whoever decided it, needs a second slot."""
        slot, self._slot = self._slot or self._acquire(), None
        self._slot = self._session.limiter.confirm(slot, self._patience())

    def mark_sent(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._session.requests_sent += 1
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


class _Paced(HTTPConnection):
    def request(self, *arguments: Any, **options: Any) -> None:
        turn = _turn.get()  # LookupError for whoever comes by another way than the session
        if self.sock is None:
            self.connect()
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
        turn = _Turn(self._session)
        token = _turn.set(turn)
        try:
            response = super().send(request, stream, timeout or DEFAULT_TIMEOUT, verify, cert, proxies)
        finally:
            _turn.reset(token)
            turn.end()
        if turn.sent is not None:
            self._session.limiter.observe(turn.sent, response.status_code, response.headers)
        return response


class PacedSession(requests.Session):
    """A session whose every request, redirects and retries included, takes a slot and reports its response.

    `max_wait` is how many seconds one request may wait for its slots; it may be changed at any time. Raises
    `SlotRefused` for a request whose slot is further away; nothing was sent then. Timeouts default to
    `DEFAULT_TIMEOUT`. `requests_sent` and `waited_s` add up what left and what the limiter made us wait. One
    session per thread; the limiter may be shared.
    """

    def __init__(self, limiter: AdaptiveRateLimiter, max_wait: float) -> None:
        super().__init__()
        self.limiter = limiter
        self.max_wait = max_wait
        self.requests_sent = 0
        self.waited_s = 0.0
        for scheme in ("http://", "https://"):
            self.mount(scheme, _PacedAdapter(self))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """The right to send one request that is not HTTP; the block connects and sends it.

        Raises `SlotRefused` as a request would.
        """
        turn = _Turn(self)
        try:
            yield
        finally:
            turn.mark_sent()
