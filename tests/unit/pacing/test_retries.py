"""Retries wait exactly as long as they should, and never turn a failure into something else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from cowrie_enrich_dagster.pacing import with_retries
from cowrie_enrich_dagster.vocabulary import utc_now
from tests.unit.pacing.responses import response


class Service:
    """Gives its outcomes one by one (the last one for ever), returned or raised."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    def __call__(self) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def retrying(naps: list[float]) -> Callable[..., Any]:
    def build(service: Service, **options: Any) -> Any:
        defaults = {"sleep": naps.append, "random": lambda: 0.5}
        return with_retries(**{**defaults, **options})(service)

    return build


def http_error(status: int, headers: dict[str, str] | None = None) -> requests.HTTPError:
    return requests.HTTPError(response=response(status, headers))


@pytest.mark.parametrize("status", [401, 429, 503])
@pytest.mark.parametrize("raised", [False, True])
def test_retry_after_is_waited_for_exactly(
    retrying: Any, naps: list[float], status: int, raised: bool
) -> None:
    """Retry-After on 401, 429 and 503 is the wait to the second, for returned and raised responses alike."""
    limited = (http_error if raised else response)(status, {"Retry-After": "17"})
    service = Service(limited, limited, good := response(200))
    assert retrying(service)() is good
    assert naps == [17, 17]


def test_a_retry_after_date_is_waited_for(retrying: Any, naps: list[float]) -> None:
    """The HTTP-date form is a wait until that date."""
    date = format_datetime(utc_now() + timedelta(seconds=60), usegmt=True)
    service = Service(response(429, {"Retry-After": date}), response(200))
    assert retrying(service)().status_code == 200
    assert naps == [pytest.approx(60, abs=1)]


def test_a_wait_beyond_the_callers_patience_is_not_slept(retrying: Any, naps: list[float]) -> None:
    """Retry-After of two hours hands the response back at once: nothing sleeps for hours."""
    service = Service(limited := response(429, {"Retry-After": "7200"}))
    assert retrying(service, max_wait=120)() is limited
    assert (service.calls, naps) == (1, [])


def test_without_retry_after_the_backoff_is_exponential(retrying: Any, naps: list[float]) -> None:
    """429 without the header waits base, base*factor, base*factor**2; then the response comes back."""
    service = Service(limited := response(429))
    assert retrying(service, backoff_base=2.0, backoff_factor=3.0)() is limited
    assert naps == [2.0, 6.0, 18.0]
    assert service.calls == 4


def test_retry_after_can_be_disregarded(retrying: Any, naps: list[float]) -> None:
    """`respect_retry_after=False` leaves the backoff alone in charge."""
    service = Service(response(429, {"Retry-After": "99"}), response(200))
    retrying(service, respect_retry_after=False)()
    assert naps == [1.0]


@pytest.mark.parametrize(("draw", "nap"), [(0.0, 5.0), (0.5, 10.0), (1.0, 15.0)])
def test_jitter_spreads_the_backoff(retrying: Any, naps: list[float], draw: float, nap: float) -> None:
    """A jitter of 0.5 spreads a wait of 10 s evenly over 5 to 15 s."""
    retrying(Service(response(500), response(200)), backoff_base=10.0, jitter=0.5, random=lambda: draw)()
    assert naps == [nap]


def test_the_backoff_is_bounded_by_the_patience(retrying: Any, naps: list[float]) -> None:
    """No computed wait exceeds `max_wait`."""
    retrying(Service(response(500)), max_retries=6, backoff_base=10.0, max_wait=60.0)()
    assert naps == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


@pytest.mark.parametrize(
    "passing",
    [
        response(401), response(403), response(429), response(500), response(502), response(503),
        response(504), http_error(500), requests.Timeout(), requests.ReadTimeout(),
        requests.ConnectTimeout(), requests.ConnectionError(), requests.exceptions.ChunkedEncodingError(),
    ],
)  # fmt: skip
def test_outcomes_that_may_pass_are_tried_again(retrying: Any, passing: Any) -> None:
    """401, 403, 429, every 5xx, timeouts and broken connections are asked again."""
    service = Service(passing, good := response(200))
    assert retrying(service)() is good
    assert service.calls == 2


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 413, 418, 422, 451])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}])
def test_other_client_errors_are_final(retrying: Any, naps: list[float], status: int, headers: Any) -> None:
    """Every 4xx but 401, 403 and 429 is asked once, with or without Retry-After."""
    service = Service(final := response(status, headers))
    assert retrying(service)() is final
    assert (service.calls, naps) == (1, [])


def test_an_error_that_cannot_pass_is_raised_at_once(retrying: Any) -> None:
    """A mistake in our own code or in the URL is no reason to ask again."""
    for problem in (ValueError("ours"), requests.exceptions.InvalidURL("ours"), http_error(404)):
        service = Service(problem)
        with pytest.raises(type(problem)) as caught:
            retrying(service)()
        assert caught.value is problem
        assert service.calls == 1


@pytest.mark.parametrize("problem", [http_error(503), requests.ReadTimeout("slow")])
def test_the_last_failure_is_raised_unchanged(retrying: Any, problem: Exception) -> None:
    """After the last try the very exception of that try comes out: never an empty payload."""
    service = Service(problem)
    with pytest.raises(type(problem)) as caught:
        retrying(service, max_retries=2)()
    assert caught.value is problem
    assert service.calls == 3


def test_results_that_are_no_responses_pass_through(retrying: Any) -> None:
    """A function may return what it likes: a mapping of answers is handed on, empty or not."""
    for result in ({"192.0.2.1": "found"}, {}, None):
        assert retrying(Service(result))() is result


def test_the_decorated_function_keeps_its_face() -> None:
    """Arguments, name and docstring are those of the function."""

    @with_retries()
    def ask(key: str, *, twice: bool = False) -> str:
        """Ask."""
        return key * (2 if twice else 1)

    assert (ask("a", twice=True), ask.__name__, ask.__doc__) == ("aa", "ask", "Ask.")
