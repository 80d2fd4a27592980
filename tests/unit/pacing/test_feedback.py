"""Responses change the shared state as the contract says: ladder, Retry-After, refused keys, quotas."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from cowrie_enrich_dagster.pacing.feedback import observe
from cowrie_enrich_dagster.pacing.gcra import decide, held_until, sent
from cowrie_enrich_dagster.pacing.model import (
    Grant,
    HeaderQuota,
    Observation,
    Policy,
    Reason,
    State,
    Wait,
)
from tests.unit.pacing.world import START

LADDER = [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


class Worker:
    """Sends whenever the state allows it, on a clock that jumps to the next slot."""

    def __init__(self, policy: Policy, state: State | None = None) -> None:
        self.policy = policy
        self.state = state or State(policy.service)
        self.now = START

    def send(self, status: int, retry_after: int | None = None, *quotas: HeaderQuota) -> float:
        """Send one request and observe its answer; returns how long the slot was waited for."""
        began = self.now
        while True:
            self.state, outcome = decide(self.state, self.policy, self.now)
            if isinstance(outcome, Grant):
                break
            self.now += outcome.seconds
        self.state = sent(self.state, self.policy, outcome, outcome.at)
        self.answer(Observation(outcome.at, outcome.number, status, retry_after, quotas))
        return self.now - began

    def answer(self, seen: Observation) -> None:
        self.state = observe(self.state, self.policy, self.now, seen)

    def hold(self) -> tuple[float, Reason | None]:
        until, reason = held_until(self.state, self.policy, self.now)
        return max(0.0, until - self.now), reason


def policy(**options: Any) -> Policy:
    return Policy(**{"service": "service", "rate": 1.0, "limit_statuses": frozenset({401, 429})} | options)


@pytest.mark.parametrize("status", [401, 429])
def test_consecutive_refusals_climb_the_ladder(status: int) -> None:
    """60, 120, 240 ... 3600 s without Retry-After, exactly, for 401 and 429 alike; and it stays at 3600."""
    worker = Worker(policy())
    held = []
    for _ in LADDER:
        worker.send(status)
        held.append(worker.hold())
    assert held == [(pytest.approx(step), Reason.RATE_LIMITED) for step in LADDER]


def test_the_next_request_waits_the_whole_step() -> None:
    """After a refusal no slot is given for 60 s, and one is given then."""
    worker = Worker(policy())
    worker.send(429)
    assert worker.send(200) == pytest.approx(60, abs=1e-5)


@pytest.mark.parametrize("success", [200, 404, 302])
def test_a_success_resets_the_ladder(success: int) -> None:
    """After any answer that shows we are served the next refusal is the first one again."""
    worker = Worker(policy())
    for status in (429, 401, 429, success, 429):
        worker.send(status)
    assert worker.hold() == (pytest.approx(60), Reason.RATE_LIMITED)


@pytest.mark.parametrize("status", [500, 502, 503, 403])
def test_a_server_fault_does_not_reset_the_ladder(status: int) -> None:
    """A fault says nothing about the limit: the next refusal is the second one."""
    worker = Worker(policy())
    for answer in (429, status, 429):
        worker.send(answer)
    assert worker.hold()[0] == pytest.approx(120)


def test_the_first_step_is_a_setting() -> None:
    """DShield asks for five minutes: the ladder then runs 300, 600, 1200, 2400, 3600."""
    worker = Worker(policy(first_cooldown=300.0))
    held = []
    for _ in range(5):
        worker.send(429)
        held.append(worker.hold()[0])
    assert held == [pytest.approx(step) for step in (300, 600, 1200, 2400, 3600)]


@pytest.mark.parametrize("retry_after", [1, 17, 7200])
def test_retry_after_wins_over_the_ladder(retry_after: int) -> None:
    """However far up the ladder, the wait is what the server asks for (plus a second against rounding)."""
    worker = Worker(policy())
    for _ in range(4):
        worker.send(429)
    worker.send(429, retry_after)
    assert worker.hold() == (pytest.approx(retry_after + 1), Reason.RATE_LIMITED)


def test_a_retry_after_of_nothing_is_obeyed_once() -> None:
    """0, or a date that has passed, each time: from the second refusal on the ladder runs, from its start."""
    worker = Worker(policy())
    held = []
    for _ in range(5):
        worker.send(429, 0)
        held.append(worker.hold()[0])
    assert held == [pytest.approx(step) for step in (1, 60, 120, 240, 480)]


def test_retry_after_can_be_disregarded() -> None:
    """RESPECT_RETRY_AFTER=false leaves the ladder alone in charge."""
    worker = Worker(policy(respect_retry_after=False))
    worker.send(429, 7200)
    assert worker.hold()[0] == pytest.approx(60)
    worker.send(503, 7200)
    assert worker.hold()[0] == 0


def test_an_absurd_retry_after_is_clipped() -> None:
    """A wait of 68 years is one of 31 days."""
    worker = Worker(policy())
    worker.send(429, 2**31)
    assert worker.hold()[0] == pytest.approx(31 * 86_400)


def in_flight(worker: Worker, count: int) -> list[Observation]:
    """Requests sent before any answer came; their answers are filled in later."""
    requests = []
    for _ in range(count):
        worker.state, outcome = decide(worker.state, worker.policy, worker.now)
        assert isinstance(outcome, Grant)
        requests.append(Observation(outcome.at, outcome.number, 200))
    return requests


def test_refusals_of_requests_in_flight_count_once() -> None:
    """Five requests on their way when the limit strikes are one failure: one step, one cut of the rate."""
    worker = Worker(policy(burst=5))
    sent = in_flight(worker, 5)
    for number, request in enumerate(sent):
        worker.now += 0.01 * number
        worker.answer(replace(request, status=429))
    assert worker.state.consecutive_failures == 1
    assert worker.state.learned_rate == pytest.approx(0.7)
    assert worker.state.limited_total == 5
    assert worker.state.cooldown_until == START + 60


def test_a_longer_retry_after_in_flight_extends_the_stop() -> None:
    """Of several waits asked for at once the longest is kept, a shorter one is not."""
    worker = Worker(policy(burst=3))
    first, second, third = in_flight(worker, 3)
    for request, seconds in ((first, 5), (second, 30), (third, 10)):
        worker.answer(replace(request, status=429, retry_after=seconds))
    assert worker.hold() == (pytest.approx(31), Reason.RATE_LIMITED)
    assert worker.state.consecutive_failures == 1


def test_a_success_in_flight_does_not_lift_the_stop() -> None:
    """An answer to a request sent before the refusal neither ends the stop nor resets the ladder."""
    worker = Worker(policy(burst=2))
    first, second = in_flight(worker, 2)
    worker.answer(replace(first, status=429))
    worker.answer(replace(second, status=200))
    assert worker.hold() == (pytest.approx(60), Reason.RATE_LIMITED)
    assert worker.state.consecutive_failures == 1


def test_a_shorter_stop_never_replaces_a_longer_one() -> None:
    """503 with Retry-After: 5 inside a stop of a minute leaves the minute."""
    worker = Worker(policy(burst=2))
    first, second = in_flight(worker, 2)
    worker.answer(replace(first, status=429))
    worker.answer(replace(second, status=503, retry_after=5))
    assert worker.hold() == (pytest.approx(60), Reason.RATE_LIMITED)


def test_503_with_retry_after_stops_all_without_blame() -> None:
    """Maintenance is a shared stop for the time named: no ladder, no lower rate."""
    worker = Worker(policy())
    worker.send(503, 30)
    assert worker.hold() == (pytest.approx(31), Reason.UNAVAILABLE)
    assert (worker.state.consecutive_failures, worker.state.learned_rate) == (0, None)


def test_a_fault_without_retry_after_stops_nobody() -> None:
    """500 and 503 alone are the retries' business, not the limiter's."""
    worker = Worker(policy())
    for status in (500, 502, 503):
        worker.send(status)
        assert worker.hold() == (0, None)


def keyed(**options: Any) -> Policy:
    return policy(
        limit_statuses=frozenset({429}), auth_statuses=frozenset({401, 403}), credential="aaaa", **options
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_service_for_an_hour(status: int) -> None:
    """A service with keys that answers 401 or 403 is left alone for an hour, whoever asks with that key."""
    worker = Worker(keyed())
    worker.send(status)
    assert worker.hold() == (pytest.approx(3600), Reason.AUTH_FAILED)
    assert worker.state.consecutive_failures == 0


def test_another_key_is_free_at_once() -> None:
    """The stop is bound to the refused key: a new one may ask immediately, the old one still may not."""
    worker = Worker(keyed())
    worker.send(401)
    renewed = replace(worker.policy, credential="bbbb")
    _, outcome = decide(worker.state, renewed, worker.now + 2)
    assert isinstance(outcome, Grant)
    _, outcome = decide(worker.state, worker.policy, worker.now + 2)
    assert isinstance(outcome, Wait)
    assert outcome.reason is Reason.AUTH_FAILED


def test_a_refused_key_does_not_hide_a_limit() -> None:
    """A new key does not get around a stop that the server gave to our address."""
    worker = Worker(keyed(burst=2))
    first, second = in_flight(worker, 2)
    worker.answer(replace(first, status=429, retry_after=600))
    worker.answer(replace(second, status=403))
    _, outcome = decide(worker.state, replace(worker.policy, credential="bbbb"), worker.now)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.seconds) == (Reason.RATE_LIMITED, pytest.approx(601))


def test_401_with_retry_after_is_a_limit() -> None:
    """A server that says when to come back does not mean the key."""
    worker = Worker(keyed())
    worker.send(401, 30)
    assert worker.hold() == (pytest.approx(31), Reason.RATE_LIMITED)


NOON = datetime(2026, 5, 3, 12, tzinfo=timezone.utc).timestamp()


def test_an_exhausted_day_stops_before_the_refusal() -> None:
    """Remaining 0 of a day's quota: the next request waits for the reset, no 429 is needed."""
    worker = Worker(policy(windows={"day": 1000}))
    worker.now = NOON
    worker.send(200, None, HeaderQuota(None, 1000, 0, 12 * 3600.0))
    assert worker.send(200) == pytest.approx(12 * 3600 + 2, abs=1e-3)
    assert worker.state.limited_total == 0


def test_an_exhausted_day_without_a_reset_waits_for_midnight() -> None:
    """AbuseIPDB names no reset before its 429: the day ends with the calendar's."""
    worker = Worker(policy(windows={"day": 1000}))
    worker.now = NOON
    worker.send(200, None, HeaderQuota(None, 1000, 0, None))
    assert worker.send(200) == pytest.approx(12 * 3600 + 2, abs=1e-3)


def test_an_exhausted_window_of_another_length_stops_too() -> None:
    """An hour's or a week's quota that is used up stops the service until it resets."""
    worker = Worker(policy())
    worker.send(200, None, HeaderQuota("hour", 100, 0, 1800.0))
    assert worker.hold() == (pytest.approx(1800), Reason.QUOTA)


def test_an_empty_bucket_is_not_an_exhausted_quota() -> None:
    """A server without burst has 0 left after every request; that is the pace, not a stop."""
    worker = Worker(policy(windows={"minute": 60}))
    waits = [worker.send(200, None, HeaderQuota(None, 60, 0, reset)) for reset in (1.0, 2.0, 1.0)]
    assert max(waits) == pytest.approx(1.015)


def test_a_day_with_a_reset_too_far_for_a_day_still_stops() -> None:
    """A "day" that resets in three days is believed about its reset, whatever it is called."""
    worker = Worker(policy())
    worker.send(200, None, HeaderQuota("day", 100, 0, 3 * 86_400.0))
    assert worker.hold() == (pytest.approx(3 * 86_400), Reason.QUOTA)


def test_a_server_that_refuses_again_and_again_is_asked_ever_more_slowly() -> None:
    """Retry-After: 0 on every answer is obeyed, but each refusal lowers the rate: nobody is hammered."""
    worker = Worker(policy())
    waits = [worker.send(429, 0) for _ in range(9)]
    assert waits == sorted(waits)
    assert waits[-1] > 10


def test_a_used_up_day_says_nothing_of_the_rate() -> None:
    """A 429 because the day's quota is gone stops the service, and leaves the rate as it was."""
    worker = Worker(policy(windows={"day": 500}))
    worker.now = NOON
    worker.send(429, None, HeaderQuota("day", 500, 0, 12 * 3600.0))
    assert worker.state.learned_rate is None


def test_headers_correct_our_count() -> None:
    """Somebody else uses the same key: the day's counter becomes the server's, plus what is on its way."""
    worker = Worker(policy(windows={"day": 500}, burst=3))
    worker.now = NOON
    first, second, third = in_flight(worker, 3)
    worker.answer(replace(first, quotas=(HeaderQuota("day", 500, 400, 12 * 3600.0),)))
    assert worker.state.windows["day"].used == 102
    worker.answer(replace(second, quotas=(HeaderQuota("day", 500, 399, 12 * 3600.0),)))
    worker.answer(replace(third, quotas=(HeaderQuota("day", 500, 398, 12 * 3600.0),)))
    assert worker.state.windows["day"].used == 102


def test_a_header_that_agrees_changes_nothing() -> None:
    """In the steady state the counters already say what the headers say: there is nothing to write."""
    worker = Worker(policy(windows={"day": 500}))
    worker.now = NOON
    worker.send(200, None, HeaderQuota("day", 500, 499, 12 * 3600.0))
    worker.state, outcome = decide(worker.state, worker.policy, worker.now + 5)
    assert isinstance(outcome, Grant)
    quota = HeaderQuota("day", 500, 498, 12 * 3600.0 - 5)
    seen = Observation(outcome.at, outcome.number, 200, None, (quota,))
    assert observe(worker.state, worker.policy, worker.now + 5, seen) == worker.state


def test_a_larger_plan_is_learned_from_the_headers() -> None:
    """A key whose day allows 10,000 is not held to the 1,000 of the default plan."""
    worker = Worker(policy(windows={"day": 1}, rate=10.0))
    worker.now = NOON
    worker.send(200, None, HeaderQuota("day", 10_000, 9_999, 12 * 3600.0))
    assert worker.send(200) == pytest.approx(0.105)


def test_a_used_up_quota_is_held_to_its_reset_and_the_pace_unchanged() -> None:
    """VirusTotal's QuotaExceededError: another tool has spent the day's quota, which is whole at midnight."""
    worker = Worker(policy(windows={"minute": 4, "day": 500}, used_up="QuotaExceededError"))
    worker.now = NOON
    worker.state, grant = decide(worker.state, worker.policy, worker.now)
    assert isinstance(grant, Grant)
    worker.answer(Observation(grant.at, grant.number, 429, says_used_up=True))
    assert worker.hold() == (pytest.approx(12 * 3600 + 2), Reason.QUOTA)
    assert (worker.state.learned_rate, worker.state.consecutive_failures) == (None, 0)
    assert worker.state.windows["day"].is_exhausted
    assert worker.send(200) == pytest.approx(12 * 3600 + 2, abs=1e-3)


def test_a_challenge_page_is_no_refused_key() -> None:
    """403 of a network in front of the service stops nobody's key; nor does it show that we are served."""
    worker = Worker(keyed())
    worker.state, grant = decide(worker.state, worker.policy, worker.now)
    assert isinstance(grant, Grant)
    worker.answer(Observation(grant.at, grant.number, 403, is_challenge=True))
    assert worker.hold() == (0, None)


def test_a_configured_number_is_a_cap() -> None:
    """With 10 a day configured and a header that says 1,000 and 990 left, exactly ten requests are sent."""
    worker = Worker(policy(windows={"day": 10}, capped=frozenset({"day"}), rate=10.0))
    worker.now = NOON
    for number in range(1, 11):
        assert worker.send(200, None, HeaderQuota("day", 1000, 1000 - number, None)) < 1
    assert worker.send(200) == pytest.approx(12 * 3600 + 2, abs=2)


def test_a_header_may_lower_a_configured_number() -> None:
    """The server's day has 5 where 10 are configured: five are sent."""
    worker = Worker(policy(windows={"day": 10}, capped=frozenset({"day"}), rate=10.0))
    worker.now = NOON
    for left in (4, 3, 2, 1, 0):
        assert worker.send(200, None, HeaderQuota("day", 5, left, 12 * 3600.0)) < 1
    assert worker.send(200) > 40_000


@pytest.mark.parametrize("reset", [None, 30.0])
def test_a_throttle_of_another_window_is_not_the_days(reset: float | None) -> None:
    """AbuseIPDB's throttle a minute, 60 and 59 left (a public report): the day still has its 1,000."""
    worker = Worker(policy(windows={"day": 1000}, rate=10.0))
    worker.now = NOON
    worker.send(200, None, HeaderQuota(None, 60, 59, reset))
    window = worker.state.windows["day"]
    assert (window.used, window.limit, window.told) == (1, 1000, False)


def test_a_remainder_is_about_the_window_that_its_reset_fits() -> None:
    """Nothing left for 30 s is a minute's, not the day's; nothing left until midnight is the day's."""
    worker = Worker(policy(windows={"day": 1000}, rate=10.0))
    worker.now = NOON
    worker.send(200, None, HeaderQuota(None, 60, 0, 30.0))
    assert worker.send(200) == pytest.approx(30, abs=0.2)
    worker.send(200, None, HeaderQuota(None, 3000, 0, NOON + 12 * 3600.0 - worker.now))
    assert worker.send(200) == pytest.approx(12 * 3600, abs=60)


def test_a_balance_is_told_as_what_is_left() -> None:
    """Spur's remaining queries: shown as this month's, and none left stops the service for a day."""
    worker = Worker(policy(rate=10.0))
    worker.send(200, None, HeaderQuota("balance", None, 4200, None))
    month = worker.state.windows["month"]
    assert month.limit is not None
    assert month.limit - month.used == 4200
    worker.send(200, None, HeaderQuota("balance", None, 0, None))
    assert worker.hold() == (pytest.approx(86_400), Reason.QUOTA)


def test_a_quota_of_unknown_window_with_requests_left_is_left_alone() -> None:
    """A remainder that fits no window of ours changes nothing."""
    worker = Worker(policy(windows={"day": 500, "month": 1000}))
    worker.send(200)
    before = worker.state
    seen = Observation(worker.now, 1, 200, None, (HeaderQuota(None, 77, 5, None),))
    assert observe(before, worker.policy, worker.now, seen) == before
