"""The pure core gives slots at the right moments, and no pattern of arrivals makes it exceed a budget."""

from __future__ import annotations

import heapq
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.pacing.gcra import (
    HOLD_S,
    decide,
    given_back,
    guard,
    retake,
    roll_windows,
    sent,
    spacing,
)
from cowrie_enrich_dagster.pacing.model import Grant, Policy, Reason, State, Wait, WindowCount
from tests.unit.pacing.world import START

FRESH = State("service")


def reserve(state: State, policy: Policy, now: float) -> tuple[State, Grant]:
    """A slot whose request has not left yet."""
    state, grant = decide(state, policy, now)
    assert isinstance(grant, Grant)
    return state, grant


def take(state: State, policy: Policy, now: float) -> tuple[State, Grant]:
    """A slot, used at its moment."""
    state, grant = reserve(state, policy, now)
    return sent(state, policy, grant, grant.at), grant


def refused(state: State, policy: Policy, now: float) -> Wait:
    _, wait = decide(state, policy, now)
    assert isinstance(wait, Wait)
    return wait


def test_the_first_request_goes_at_once_and_the_next_waits_its_turn() -> None:
    """At one request a second and a margin of 2 % the second slot is 1.02 s after the first."""
    policy = Policy("service", rate=1.0, margin=0.02)
    state, grant = take(FRESH, policy, START)
    assert grant.at == START
    wait = refused(state, policy, START + 0.25)
    assert (wait.reason, wait.seconds, wait.until) == (
        Reason.SPACING,
        pytest.approx(0.77),
        pytest.approx(START + 1.02),
    )


def test_being_told_to_wait_changes_nothing() -> None:
    """A worker that has to wait leaves no reservation: the state is the one that was there."""
    policy = Policy("service", rate=1.0)
    state, _ = take(FRESH, policy, START)
    unchanged, _ = decide(state, policy, START + 0.5)
    assert unchanged is state


def test_an_idle_time_is_not_saved_up_beyond_the_burst() -> None:
    """After an hour of silence a burst of 3 goes at once, and the fourth request waits."""
    policy = Policy("service", rate=1.0, burst=3)
    state, _ = take(FRESH, policy, START)
    for _ in range(3):
        state, grant = take(state, policy, START + 3600)
        assert grant.at == pytest.approx(START + 3600, abs=1e-6)
    assert refused(state, policy, START + 3600).seconds == pytest.approx(spacing(state, policy))


def test_a_slot_that_is_nearly_due_is_given_for_its_exact_moment() -> None:
    """With a lead of 20 ms the slot is handed out early, dated when due, and the pace does not drift."""
    policy = Policy("service", rate=10.0, margin=0.0)
    state, _ = take(FRESH, policy, START)
    for turn in range(1, 20):
        state, grant = decide(state, policy, START + turn * 0.1 - 0.015, lead=0.02)
        assert isinstance(grant, Grant)
        assert grant.at == pytest.approx(START + turn * 0.1)
        state = sent(state, policy, grant, grant.at)


def test_a_late_sender_with_nobody_behind_moves_its_slot() -> None:
    """A slot that was not used in time counts from now, and the next request keeps its distance from that."""
    policy = Policy("service", rate=1.0)
    state, grant = reserve(FRESH, policy, START)
    state, moved = retake(state, policy, grant, START + 0.8)
    assert moved == replace(grant, at=START + 0.8)
    state = sent(state, policy, moved, START + 0.8)
    assert refused(state, policy, START + 0.8).seconds == pytest.approx(spacing(state, policy))


def test_a_late_sender_with_somebody_behind_loses_its_slot() -> None:
    """Once another slot was given, the late one may not be used any more."""
    policy = Policy("service", rate=1.0)
    state, late = take(FRESH, policy, START)
    state, _ = take(state, policy, START + 2)
    assert retake(state, policy, late, START + 2.5) == (state, None)


def test_a_lost_slot_is_given_back_to_the_quota() -> None:
    """Of a day of two both are sent, though one slot was lost on the way; a minute's log forgets it too."""
    policy = Policy("service", rate=1.0, windows={"minute": 2, "day": 2}, burst=2)
    noon = datetime(2026, 5, 3, 12, tzinfo=timezone.utc).timestamp()
    state, late = take(FRESH, policy, noon)
    state, _ = take(state, policy, noon + 2)
    assert refused(state, policy, noon + 120).reason is Reason.DAY_WINDOW
    state, again = take(given_back(state, late), policy, noon + 4)
    assert again.number == 3
    assert refused(state, policy, noon + 120).reason is Reason.DAY_WINDOW


def used(state: State) -> dict[str, int]:
    return {name: window.used for name, window in state.windows.items() if name != "minute"}


def test_a_slot_lost_over_midnight_is_no_gift_to_the_new_day() -> None:
    """A day gets back what it counted, and a count that the server told stays its own."""
    policy = Policy("service", rate=1.0, windows={"day": 9, "month": 100})
    before = datetime(2026, 5, 3, 23, 59, 59, tzinfo=timezone.utc).timestamp()
    state, late = take(FRESH, policy, before)
    state, _ = take(state, policy, before + 2)
    assert used(given_back(state, late)) == {"day": 1, "month": 1}
    told = replace(state, windows={**state.windows, "month": replace(state.windows["month"], told=True)})
    assert used(given_back(told, late)) == {"day": 1, "month": 2}


def test_a_slot_moved_over_midnight_counts_in_the_new_day() -> None:
    """Taken before and sent after, whether it was moved first or only marked; given back, it is gone."""
    policy = Policy("service", rate=0.1, windows={"day": 9, "month": 100})
    before = datetime(2026, 5, 3, 23, 59, 59, tzinfo=timezone.utc).timestamp()
    state, late = take(FRESH, policy, before)
    moved, slot = retake(state, policy, late, before + 4)
    assert used(moved) == {"day": 1, "month": 1}
    assert slot is not None
    assert used(given_back(moved, slot)) == {"day": 0, "month": 0}
    assert used(sent(state, policy, late, before + 4)) == {"day": 1, "month": 1}
    assert used(sent(moved, policy, slot, before + 8)) == {"day": 1, "month": 1}


def test_a_late_sender_does_not_send_into_a_stop() -> None:
    """A slot taken before somebody was told to stop may not be used after that."""
    policy = Policy("service", rate=1.0)
    state, late = take(FRESH, policy, START)
    stopped = replace(state, cooldown_until=START + 60, cooldown_reason=Reason.RATE_LIMITED)
    assert retake(stopped, policy, late, START + 0.8) == (stopped, None)


def test_a_request_written_late_pushes_the_next_one_back() -> None:
    """A request counts from its writing; lateness within the margin needs no correction."""
    policy = Policy("service", rate=1.0)
    state, grant = reserve(FRESH, policy, START)
    assert sent(state, policy, grant, START + 0.9 * guard(state, policy)) == replace(state, unsent=())
    pushed = sent(state, policy, grant, START + 0.3)
    assert refused(pushed, policy, START + 0.3).seconds == pytest.approx(spacing(state, policy))
    assert sent(pushed, policy, grant, START) is pushed


def test_the_next_slot_waits_until_the_one_before_has_left() -> None:
    """Its request is held up beyond the next one's moment: that is a whole spacing after it has left."""
    policy = Policy("service", rate=1.0)
    state, grant = reserve(FRESH, policy, START)
    assert refused(state, policy, START + 1.02).seconds < 0.05
    state = sent(state, policy, grant, START + 1.03)
    wait = refused(state, policy, START + 1.04)
    assert wait.until == pytest.approx(START + 1.03 + spacing(state, policy))


def test_a_slot_that_nobody_uses_holds_the_next_one_up_for_a_moment_only() -> None:
    """Its worker is dead, or it was given back: a quarter of a second is lost, or nothing."""
    policy = Policy("service", rate=1.0)
    state, grant = reserve(FRESH, policy, START)
    due = START + spacing(state, policy)
    refused(state, policy, due + HOLD_S - 0.01)
    take(state, policy, due + HOLD_S + 0.01)
    take(given_back(state, grant), policy, due + 0.01)


def test_a_burst_waits_for_nobody() -> None:
    """Three at once are what the service allows; only the fourth waits for the third."""
    policy = Policy("service", rate=1.0, burst=3)
    state, _ = reserve(FRESH, policy, START)
    for _ in range(2):
        state, last = reserve(state, policy, START)
    due = refused(state, policy, START).until
    refused(state, policy, due + HOLD_S / 2)
    state = sent(state, policy, last, START)
    reserve(state, policy, due + 2 * HOLD_S)


def test_above_25_a_second_nobody_waits_for_the_one_before() -> None:
    """To be told would take as long as the spacing is."""
    policy = Policy("service", rate=50.0)
    state, grant = reserve(FRESH, policy, START)
    assert sent(state, policy, grant, START) is state
    reserve(state, policy, START + 0.022)


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-02-28T23:59:59.500", ["2026-03-01T00:00:00", "2026-03-01T00:00:00", "2026-03-01T00:00:00"]),
        ("2028-02-28T12:00:00", ["2028-02-28T12:01:00", "2028-02-29T00:00:00", "2028-03-01T00:00:00"]),
        ("2026-12-31T23:59:00", ["2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-01-01T00:00:00"]),
    ],
)
def test_windows_end_with_the_utc_calendar(now: str, ends: list[str]) -> None:
    """Minute, day and month end where UTC's do, leap years and the turn of the year included."""
    at = datetime.fromisoformat(now).replace(tzinfo=timezone.utc).timestamp()
    windows = roll_windows(FRESH, Policy("service", rate=1.0), at)
    moments = [datetime.fromtimestamp(w.resets_at, timezone.utc) for w in windows.values()]
    assert [moment.isoformat()[:19] for moment in moments] == ends
    assert list(windows) == ["minute", "day", "month"]


def test_a_used_up_day_waits_for_midnight_utc() -> None:
    """The third request of a day of two waits until the day has surely ended; the next day begins at zero."""
    policy = Policy("service", rate=100.0, windows={"day": 2, "month": 1000})
    noon = datetime(2026, 5, 3, 12, tzinfo=timezone.utc).timestamp()
    state, _ = take(FRESH, policy, noon)
    state, _ = take(state, policy, noon + 1)
    wait = refused(state, policy, noon + 2)
    assert (wait.reason, wait.until) == (Reason.DAY_WINDOW, noon + 12 * 3600 + 2)
    state, _ = take(state, policy, noon + 12 * 3600)
    assert {name: window.used for name, window in state.windows.items()} == {
        "minute": 1,
        "day": 1,
        "month": 3,
    }


def test_the_longest_of_several_waits_decides() -> None:
    """With the month used up, neither the pace nor the new day lets a request through."""
    policy = Policy("service", rate=100.0, windows={"day": 1, "month": 1})
    noon = datetime(2026, 5, 3, 12, tzinfo=timezone.utc).timestamp()
    state, _ = take(FRESH, policy, noon)
    wait = refused(state, policy, noon)
    assert wait.reason is Reason.MONTH_WINDOW
    assert datetime.fromtimestamp(wait.until, timezone.utc).isoformat()[:10] == "2026-06-01"


def test_a_burst_never_overfills_a_declared_minute() -> None:
    """Ten at once are fine with a minute of ten; the eleventh waits a whole minute, not one spacing."""
    policy = Policy("service", rate=1.0, burst=10, windows={"minute": 10}, margin=0.01)
    state = FRESH
    for _ in range(10):
        state, _ = take(state, policy, START)
    wait = refused(state, policy, START)
    assert (wait.reason, wait.seconds) == (Reason.MINUTE_WINDOW, pytest.approx(60.6))


def test_a_clock_set_back_stops_nobody() -> None:
    """A row written by a clock an hour or ten years ahead holds the service for a minute at most."""
    policy = Policy("service", rate=1.0, burst=2, windows={"minute": 2, "day": 2})
    for ahead in (3600.0, 10 * 365 * 86_400.0):
        state, _ = take(FRESH, policy, START + ahead)
        state, _ = take(state, policy, START + ahead)
        state = replace(state, cooldown_until=START + ahead + 40 * 86_400, credential_blocked_until=START * 2)
        windows = {"minute": WindowCount(9, 2, START + ahead), "day": WindowCount(9, 2, START * 2)}
        take(replace(state, windows=windows, learned_rate=None), policy, START)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0}, {"rate": -1.0}, {"rate": float("nan")}, {"rate": float("inf")},
        {"rate": 1.0, "burst": 0}, {"rate": 1.0, "windows": {"hour": 5}},
        {"rate": 1.0, "windows": {"day": 0}}, {"rate": 1.0, "margin": 1.0},
        {"rate": 1.0, "first_cooldown": 0.0},
    ],
)  # fmt: skip
def test_an_impossible_policy_is_refused_by_name(wrong: dict[str, object]) -> None:
    """A rate, burst, window or margin that means nothing is an error that names the service."""
    with pytest.raises(ValueError, match="virustotal"):
        Policy("virustotal", **wrong)  # type: ignore[arg-type]


Work = list[list[tuple[float, float, float]]]
"""Of each worker, of each of its requests: the pause before it, how late its connection stands, and how long
the machine holds it up after its slot was looked at for the last time, as a share of what the next waits."""


def send_all(policy: Policy, workers: Work) -> list[float]:
    """When requests leave. The workers share one state and run interleaved in order of time."""
    state, left = FRESH, []
    late = {
        (worker, turn): lateness
        for worker, work in enumerate(workers)
        for turn, (_, lateness, _) in enumerate(work)
    }
    events: list[tuple[float, int, int, str, Grant | None]]
    events = [(START + work[0][0], worker, 0, "ask", None) for worker, work in enumerate(workers) if work]
    heapq.heapify(events)
    while events:
        now, worker, turn, what, slot = heapq.heappop(events)
        if what == "ask":
            state, outcome = decide(state, policy, now, lead=0.02)
            if isinstance(outcome, Wait):
                heapq.heappush(events, (now + outcome.seconds - 0.01, worker, turn, "ask", None))
            else:
                heapq.heappush(events, (outcome.at + late[worker, turn], worker, turn, "look", outcome))
            continue
        assert slot is not None
        if what == "look":
            if now - slot.at > min(1.0, spacing(state, policy) / 2):
                state, moved = retake(state, policy, slot, now)
                if moved is None:
                    state = given_back(state, slot)
                    late[worker, turn] = 0.0  # its connection stands now
                    heapq.heappush(events, (now, worker, turn, "ask", None))
                    continue
                slot = moved
            held_up = workers[worker][turn][2] * (spacing(state, policy) / 2 + HOLD_S)
            heapq.heappush(events, (now + held_up, worker, turn, "send", slot))
            continue
        state = sent(state, policy, slot, now)
        left.append(now)
        if turn + 1 < len(workers[worker]):
            heapq.heappush(events, (now + workers[worker][turn + 1][0], worker, turn + 1, "ask", None))
    return left


pauses = st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 90))
lateness = st.one_of(st.just(0.0), st.floats(0, 0.03), st.floats(0, 3))
hold_ups = st.one_of(st.just(0.0), st.floats(0, 0.99))
workers_at_work = st.lists(
    st.lists(st.tuples(pauses, lateness, hold_ups), max_size=25), min_size=1, max_size=5
)


@settings(max_examples=200, deadline=None)
@given(
    workers=workers_at_work,
    rate=st.sampled_from([0.2, 0.5, 1.0, 5.0, 20.0]),
    burst=st.integers(1, 6),
    minute=st.one_of(st.none(), st.integers(1, 20)),
)
def test_no_window_of_any_length_exceeds_the_budget(
    workers: Work, rate: float, burst: int, minute: int | None
) -> None:
    """Whatever several workers do and however late they are, every window of w s holds <= rate*w + burst.

    A declared minute is never overfilled either, wherever a server's minute may begin.
    """
    policy = Policy("service", rate=rate, burst=burst, windows={"minute": minute} if minute else {})
    left = send_all(policy, workers)
    assert len(left) == sum(map(len, workers))
    for first, begin in enumerate(left):
        for count, end in enumerate(left[first:], 1):
            assert count <= rate * (end - begin) + burst + 1e-6
            if minute and end - begin < 60:
                assert count <= minute


@settings(max_examples=100, deadline=None)
@given(workers=workers_at_work)
def test_a_strict_server_without_burst_never_has_to_refuse(workers: Work) -> None:
    """At burst 1 every two requests are at least 1/rate apart when they leave."""
    left = send_all(Policy("service", rate=1.0), workers)
    assert all(later - earlier >= 1.0 - 1e-6 for earlier, later in pairwise(left))


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.1, 10.15), (1.0, 1.015), (4.0, 0.255), (20.0, 0.0525), (100.0, 0.0105)]
)
def test_the_margin_covers_delays_that_do_not_shrink_with_the_spacing(rate: float, expected: float) -> None:
    """1.5 %, but at least 5 ms where that is not more than 5 % of the spacing."""
    assert spacing(State("service"), Policy("service", rate=rate)) == pytest.approx(expected)
