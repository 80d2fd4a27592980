"""Asking again, when that can help: after the wait the server names, else after an exponential backoff."""

from __future__ import annotations

import functools
import random as _random
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import requests
from tenacity import RetryCallState, Retrying, stop_after_attempt

from cowrie_enrich_dagster.pacing.flight import DeadlineExceeded
from cowrie_enrich_dagster.pacing.retry_after import get_retry_after_seconds

P = ParamSpec("P")
R = TypeVar("R")

RETRIED_STATUSES = frozenset({401, 403, 429})
"""The 4xx that may pass by themselves; all 5xx may, every other 4xx is final."""

_RETRIED_ERRORS = (
    requests.Timeout,
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
)


def with_retries(
    max_retries: int = 3,
    backoff_base: float = 1.0,
    backoff_factor: float = 2.0,
    jitter: float = 0.5,
    respect_retry_after: bool = True,
    *,
    max_wait: float = 120.0,
    sleep: Callable[[float], None] = time.sleep,
    random: Callable[[], float] = _random.random,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: call again, at most `max_retries` times, when the outcome is one that may pass.

    Judged are a returned `requests.Response`, a raised `requests.HTTPError` with its response, and timeouts
    and broken connections; any other outcome is handed on at once. So is `DeadlineExceeded`: who was waited
    for as long as a request may take is not waited for again.

    - A Retry-After on a status that may pass is waited for exactly, unless it exceeds `max_wait`: then the
      outcome is handed on at once, for nothing sleeps longer than its caller is willing to.
    - Else the n-th wait is `backoff_base * backoff_factor**(n-1)`, spread by up to `jitter` (a share of it)
      to either side and at most `max_wait`. `random` draws from [0, 1).

    After the last try the response is returned, or the exception raised, as it came.
    """

    def wait(state: RetryCallState) -> float:
        asked = _asked_wait(state) if respect_retry_after else None
        if asked is not None:
            return asked
        backoff = backoff_base * backoff_factor ** (state.attempt_number - 1)
        return min(max_wait, backoff * (1 + jitter * (2 * random() - 1)))

    def may_pass(state: RetryCallState) -> bool:
        if not _is_passing(state):
            return False
        asked = _asked_wait(state) if respect_retry_after else None
        return asked is None or asked <= max_wait

    retrying = Retrying(
        stop=stop_after_attempt(max_retries + 1),
        wait=wait,
        retry=may_pass,
        sleep=sleep,
        retry_error_callback=_as_it_came,
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            return retrying.copy()(function, *arguments, **options)

        return call

    return decorate


def _response(state: RetryCallState) -> requests.Response | None:
    outcome = state.outcome
    if outcome is None:
        return None
    result = outcome.exception() if outcome.failed else outcome.result()
    if isinstance(result, requests.HTTPError):
        return result.response
    return result if isinstance(result, requests.Response) else None


def _is_passing(state: RetryCallState) -> bool:
    response = _response(state)
    if response is not None:
        return response.status_code >= 500 or response.status_code in RETRIED_STATUSES
    problem = state.outcome.exception() if state.outcome else None
    return isinstance(problem, _RETRIED_ERRORS) and not isinstance(problem, DeadlineExceeded)


def _asked_wait(state: RetryCallState) -> int | None:
    response = _response(state)
    return None if response is None else get_retry_after_seconds(response)


def _as_it_came(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None
