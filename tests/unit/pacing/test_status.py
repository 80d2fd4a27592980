"""The ledger's forecast of how long a backlog takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from cowrie_enrich_dagster.pacing import Policy, QuotaStatus, calls_left, eta_seconds
from cowrie_enrich_dagster.pacing.gcra import decide
from cowrie_enrich_dagster.pacing.model import Grant, Reason, State, Wait
from cowrie_enrich_dagster.pacing.status import HORIZON, quota_status

NOON = datetime(2026, 5, 3, 12, tzinfo=timezone.utc).timestamp()
DAY = 86_400.0


def status(policy: Policy, state: State | None = None) -> QuotaStatus:
    return quota_status(state or State("service"), policy, NOON)


def test_spacing_alone() -> None:
    """The first request goes now, each of the others one spacing later."""
    ledger = status(Policy("service", rate=0.5, margin=0.0))
    assert eta_seconds(ledger, 0) == 0
    assert eta_seconds(ledger, 1) == 0
    assert eta_seconds(ledger, 101) == pytest.approx(200)


def test_a_cooldown_comes_first() -> None:
    """A stop of an hour is added, and the ledger says until when and why."""
    state = State("service", cooldown_until=NOON + 3600, cooldown_reason=Reason.RATE_LIMITED)
    ledger = status(Policy("service", rate=1.0, margin=0.0), state)
    assert ledger.cooldown_until == datetime.fromtimestamp(NOON + 3600, timezone.utc)
    assert ledger.cooldown_reason is Reason.RATE_LIMITED
    assert eta_seconds(ledger, 11) == pytest.approx(3610)


def test_the_learned_rate_is_the_one_that_counts() -> None:
    """A learned rate of half the configured one doubles the time."""
    policy = Policy("service", rate=1.0, margin=0.0)
    ledger = status(policy, State("service", learned_rate=0.5))
    assert (ledger.configured_rate, ledger.learned_rate, ledger.effective_rate) == (1.0, 0.5, 0.5)
    assert eta_seconds(ledger, 11) == pytest.approx(20)


def test_days_and_months_are_waited_for() -> None:
    """500 a day from noon: the 501st goes at midnight, the 1001st a day later; the month ends it for May."""
    policy = Policy("service", rate=1.0, margin=0.0, windows={"day": 500, "month": 1200})
    ledger = status(policy)
    assert eta_seconds(ledger, 500) == pytest.approx(499)
    assert eta_seconds(ledger, 501) == pytest.approx(DAY / 2)
    assert eta_seconds(ledger, 1001) == pytest.approx(1.5 * DAY)
    assert eta_seconds(ledger, 1201) == pytest.approx(28.5 * DAY)


def test_what_is_left_within_a_day() -> None:
    """What the pace allows until this time tomorrow, or less where a day or month has less left."""
    assert calls_left(status(Policy("service", rate=0.5, margin=0.0))) == pytest.approx(43_200)
    assert calls_left(
        status(Policy("service", rate=1.0, margin=0.0, windows={"minute": 4}))
    ) == pytest.approx(5760)
    windows = {"day": 500, "month": 1200}
    assert calls_left(status(Policy("service", rate=1.0, margin=0.0, windows=windows))) == 500
    banned = State("service", cooldown_until=NOON + DAY / 2, cooldown_reason=Reason.RATE_LIMITED)
    assert calls_left(status(Policy("service", rate=1.0, margin=0.0), banned)) == pytest.approx(DAY / 2)
    banned = State("service", cooldown_until=NOON + 2 * DAY, cooldown_reason=Reason.RATE_LIMITED)
    assert calls_left(status(Policy("service", rate=1.0, margin=0.0), banned)) == 0


def test_a_minute_window_slows_the_pace() -> None:
    """Four a minute with a rate of one a second is one every 15 seconds in the long run."""
    ledger = status(Policy("service", rate=1.0, margin=0.0, windows={"minute": 4}))
    assert eta_seconds(ledger, 401) == pytest.approx(6000, rel=0.02)


def test_a_hopeless_backlog_ends_at_the_horizon() -> None:
    """A billion lookups at one a day is a figure, not an endless loop."""
    ledger = status(Policy("service", rate=1.0, windows={"day": 1}))
    assert eta_seconds(ledger, 10**9) == HORIZON.total_seconds()


@pytest.mark.parametrize("backlog", [1, 3, 7, 40])
@pytest.mark.parametrize("windows", [{}, {"day": 3}, {"day": 4, "month": 9}])
def test_the_forecast_is_what_the_limiter_then_does(backlog: int, windows: dict[str, int]) -> None:
    """Playing the backlog against the limiter itself takes as long as was foretold."""
    policy = Policy("service", rate=0.01, windows=windows)
    state = State("service", cooldown_until=NOON + 50, cooldown_reason=Reason.RATE_LIMITED)
    foretold = eta_seconds(status(policy, state), backlog)
    now, left = NOON, backlog
    while left:
        state, outcome = decide(state, policy, now)
        if isinstance(outcome, Wait):
            now += outcome.seconds
        else:
            assert isinstance(outcome, Grant)
            left -= 1
    assert foretold == pytest.approx(now - NOON, rel=0.01)


def test_windows_show_used_left_and_reset() -> None:
    """The ledger shows every window; where no limit is known it shows what was used."""
    policy = Policy("service", rate=1.0, windows={"day": 500})
    state = State("service")
    state, _ = decide(state, policy, NOON)
    minute, day, month = quota_status(state, policy, NOON + 1).windows
    assert (day.name, day.used, day.limit, day.left) == ("day", 1, 500, 499)
    assert day.resets_at == datetime(2026, 5, 4, tzinfo=timezone.utc)
    assert (minute.used, minute.limit, minute.left) == (1, None, None)
    assert month.resets_at - day.resets_at == timedelta(days=28)
    later = quota_status(replace(state), policy, NOON + DAY)
    assert [window.used for window in later.windows] == [0, 0, 1]
