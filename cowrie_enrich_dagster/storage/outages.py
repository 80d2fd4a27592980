"""Outages of a database, such as a restart, a failover or too many clients: told apart, and waited for."""

from __future__ import annotations

import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psycopg2
import tenacity
from sqlalchemy.exc import DBAPIError

OUTAGE_PATIENCE_S = 60.0

P = ParamSpec("P")
R = TypeVar("R")


READ_ONLY = "25006"
"""SQLSTATE read_only_sql_transaction: a primary that is not one yet, or any more."""

_BUSY = (
    *("too many clients", "remaining connection slots", "too many connections"),
    *("starting up", "shutting down", "in recovery mode", "not yet accepting connections"),
)
_WRONG = (
    *("password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist"),
    *("could not translate host name", "No space left on device"),
)
"""What passes by itself, and what no waiting mends, in the words of PostgreSQL and libpq: a connection that
fails has no SQLSTATE."""


_WAITED_FOR = "cowrie_enrich_waited_for"


def _is_busy(problem: BaseException) -> bool:
    """Whether the database is there, and will serve us by and by: full of clients, starting, in failover."""
    own = problem.orig if isinstance(problem, DBAPIError) else problem
    if not isinstance(own, psycopg2.Error):
        return False
    return own.pgcode == READ_ONLY or any(word in str(own) for word in _BUSY)


def _is_outage(problem: BaseException) -> bool:
    """Whether the database is away or busy, and worth waiting for; of SQLite: locked."""
    if hasattr(problem, _WAITED_FOR):
        return False
    # COPY goes past SQLAlchemy, and so do its errors.
    own = problem.orig if isinstance(problem, DBAPIError) else problem
    if isinstance(own, sqlite3.Error):
        return "locked" in str(own)
    if not isinstance(own, psycopg2.Error):
        return False
    if _is_busy(problem):
        return True
    if any(word in str(own) for word in _WRONG):
        return False
    invalidated = isinstance(problem, DBAPIError) and problem.connection_invalidated
    return invalidated or isinstance(own, (psycopg2.OperationalError, psycopg2.InterfaceError))


_ended: ContextVar[threading.Event | None] = ContextVar("ended", default=None)


@contextmanager
def patient_until(ended: threading.Event) -> Iterator[None]:
    """In this thread, while the block lasts: no outage is waited for once `ended` is set."""
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


def _is_over(waited_s: float) -> bool:
    ended = _ended.get()
    return bool(ended and ended.is_set()) or waited_s >= OUTAGE_PATIENCE_S


def _gives_up(state: tenacity.RetryCallState) -> bool:
    return _is_over(state.seconds_since_start or 0.0)


def _pause(seconds: float) -> None:
    ended = _ended.get()
    if ended is None:
        time.sleep(seconds)
    else:
        ended.wait(seconds)


def _give_up(state: tenacity.RetryCallState) -> object:
    """Raise the last error; marked, so that whoever called us does not wait the same time again."""
    outcome = state.outcome
    if outcome is None:
        return None
    if problem := outcome.exception():
        setattr(problem, _WAITED_FOR, True)
    return outcome.result()


def _repeated(passes: Callable[[BaseException], bool], work: Callable[P, R]) -> Callable[P, R]:
    again = tenacity.retry(
        retry=tenacity.retry_if_exception(passes),
        stop=_gives_up,
        wait=tenacity.wait_exponential(multiplier=0.1, max=2.0),
        sleep=_pause,
        retry_error_callback=_give_up,
    )(work)

    @functools.wraps(work)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        # Nearly always the first try is all there is, and to prepare for more takes as long as a statement.
        started = time.monotonic()
        try:
            return work(*arguments, **options)
        except Exception as problem:
            if not passes(problem):
                raise
            if _is_over(time.monotonic() - started):
                setattr(problem, _WAITED_FOR, True)
                raise
        return again(*arguments, **options)

    return call


def survives_outage(work: Callable[P, R]) -> Callable[P, R]:
    """Decorator: repeat a whole transaction while the database restarts, for up to a minute.

    The last error is raised unchanged after that; an error that is no outage is raised at once.
    """
    return _repeated(_is_outage, work)


def waits_for_turn(work: Callable[P, R]) -> Callable[P, R]:
    """Decorator, for the first thing that is asked of a database: waits where it is there and busy.

    One that is not there at all may be a wrong setting, and is told at once.
    """
    return _repeated(_is_busy, work)


class Awaited(Protocol):
    """A database that can be waited for."""

    def await_answer(self) -> None:
        """Return when it takes writes; raises its error when it stays away."""


class HasDatabase(Protocol):
    """What works on a database of its own."""

    @property
    def database(self) -> Awaited:
        """That database."""


D = TypeVar("D", bound=Awaited | HasDatabase)


def repeats_after_outage(work: Callable[Concatenate[D, P], R]) -> Callable[Concatenate[D, P], R]:
    """Decorator for steps of many transactions that can be done anew: when an outage breaks one off, the
    database is waited for, and the step repeated; twice at most.

    The first argument of the step is a database, or has one.
    """

    @functools.wraps(work)
    def call(owner: D, /, *arguments: P.args, **options: P.kwargs) -> R:
        for _ in range(2):
            try:
                return work(owner, *arguments, **options)
            except (DBAPIError, psycopg2.Error) as problem:
                if not _is_outage(problem):
                    raise
                database: Any = getattr(owner, "database", owner)
                database.await_answer()
        return work(owner, *arguments, **options)

    return call
