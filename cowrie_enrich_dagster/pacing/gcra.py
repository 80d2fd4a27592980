"""When the next request may be sent: GCRA, cooldowns and windows. Pure: state and moment in, decision out.

GCRA (the virtual scheduling algorithm of ITU-T I.371) keeps one number, the theoretical arrival time (TAT). A
slot is taken by sending, not reserved ahead: whoever comes while the service is held learns how long to wait
and changes nothing, so a worker that dies or dawdles leaves no stale reservation behind.

The loop is closed: a slot that falls due is given only when the request of the one before is known to have
left, and when. A sender that the machine holds up for 40 ms thus delays the next one, instead of crowding it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from cowrie_enrich_dagster.pacing.learning import after_quiet, burst_in_effect, rate_in_effect
from cowrie_enrich_dagster.pacing.model import (
    MAX_HOLD_S,
    WINDOW_SECONDS,
    Grant,
    Policy,
    Reason,
    State,
    Unsent,
    Wait,
    WindowCount,
)

MAX_CLOCK_STEP_S = 60.0
MAX_GUARD_S = 0.5
MIN_MARGIN_S = 0.005
MAX_MARGIN = 0.05
LOOP_SPACING_S = 0.04
"""Where slots lie closer than this, nobody waits for the one before: to be told of it takes as long."""

HOLD_S = 0.25
"""How long beyond its own moment a slot is kept back for one before it, whose worker may be dead."""

AHEAD_S = 1.0
"""No slot is given further ahead of its moment: one that seems so is of another clock."""

TOLD_POLL_S = 0.02
"""How soon to look again for a slot that is kept back."""

RESET_GUARD_S = {"minute": 0.0, "day": 2.0, "month": 2.0}
"""How long after its reset a used up window is trusted to be open: the server's clock is not ours."""

SET_BACK_S = 1.0
"""A clock that is so far behind the moment at which a row was written was set back: nothing else is."""

FLOAT_SLACK_S = 1e-6
"""Moments since the epoch are exact to a quarter of a microsecond in floating point."""


def spacing(state: State, policy: Policy) -> float:
    """Seconds from one request to the next at the rate in effect, margin included.

    What delays a request on its way (switches, queues) does not shrink with the spacing: where the margin
    would be less than `MIN_MARGIN_S`, that is added instead, but never more than `MAX_MARGIN` of the spacing.
    """
    exact = 1 / rate_in_effect(state, policy)
    floor = min(MIN_MARGIN_S, MAX_MARGIN * exact) if policy.margin else 0.0
    return exact + max(policy.margin * exact, floor)


def waits_for_the_one_before(state: State, policy: Policy) -> bool:
    """Whether a slot is kept back until the request of the one before has left."""
    return spacing(state, policy) >= LOOP_SPACING_S


def guard(state: State, policy: Policy) -> float:
    """How much later than its slot a request may be written without crowding the next one."""
    return min(MAX_GUARD_S, policy.margin / rate_in_effect(state, policy))


def decide(
    state: State, policy: Policy, now: float, *, lead: float = FLOAT_SLACK_S
) -> tuple[State, Grant | Wait]:
    """Take a slot, or learn how long to wait.

    A slot that falls due within `lead` seconds is given now, for its exact moment: the time the database
    needs to commit then passes before the slot, not after it.
    """
    candidate = after_quiet(state, policy, now)
    due, reason = _due(candidate, policy, now)
    if due - now > lead:
        return state, Wait(due, due - now, reason)
    if _is_kept_back(candidate, policy, now, lead):
        return state, Wait(now + TOLD_POLL_S, TOLD_POLL_S, Reason.SPACING)
    at = max(now, due)
    number = state.requests_total + 1
    windows = roll_windows(candidate, policy, at)
    before = _sane_tat(candidate, policy, now)
    granted = replace(
        candidate,
        tat=max(before, at) + spacing(candidate, policy),
        windows={name: replace(window, used=window.used + 1) for name, window in windows.items()},
        recent=_logged(candidate.recent, policy, at),
        unsent=(*_still_unsent(candidate, policy, now), Unsent(number, at, before))
        if waits_for_the_one_before(candidate, policy)
        else (),
        configured_rate=policy.rate,
        configured_burst=policy.burst,
        requests_total=number,
    )
    return granted, Grant(at, before, number, _ends(windows))


def retake(state: State, policy: Policy, slot: Grant, now: float) -> tuple[State, Grant | None]:
    """Move an unused slot to `now`, its sender being late; None if it is lost.

    It is lost when another slot was given since or the service is held: the sender must ask for a new one
    (and give the lost one back, see `given_back`).
    """
    _, why = held_until(state, policy, now)
    if state.requests_total != slot.number or why is not None:
        return state, None
    moved = tuple(replace(one, at=now) if one.number == slot.number else one for one in state.unsent)
    counted = replace(_counted_from(state, policy, slot, now), unsent=moved)
    return counted, replace(slot, at=now, counted_in=_ends(counted.windows))


def given_back(state: State, slot: Grant) -> State:
    """Count the slot, which was never used, out of the quotas; the spacing behind it stays.

    Only out of the windows that count it, and not where the server tells its count: that is right without us.
    """
    windows = {
        name: replace(window, used=window.used - 1)
        for name, window in state.windows.items()
        if window.used and not window.told and window.resets_at == slot.counted_in.get(name)
    }
    told = _told(state, slot)
    return replace(told, windows={**told.windows, **windows}, recent=_without(told.recent, slot.at))


def after_jump(state: State, policy: Policy, now: float) -> State:
    """The state when the clock was set: how long ago the last slot was nobody knows, so it was just now."""
    return replace(state, tat=now + burst_in_effect(state, policy) * spacing(state, policy))


def after_set_back(state: State, now: float) -> State:
    """The state on a clock that was set back since it was written; the same `state` on any other.

    What stopped the service does so for as long as it had left when it was written: that is when it was told,
    mostly. Once this is written in turn, whoever comes next has nothing to change.
    """
    by = state.updated_at - now
    if by < SET_BACK_S:
        return state
    return replace(
        state,
        cooldown_until=max(0.0, state.cooldown_until - by),
        penalty_until=max(0.0, state.penalty_until - by),
        credential_blocked_until=max(0.0, state.credential_blocked_until - by),
        updated_at=now,
    )


def sent(state: State, policy: Policy, slot: Grant, sent_at: float) -> State:
    """The request has left: it counts from the moment of that, when it is later than `guard` allows.

    The same `state` where that changes nothing.
    """
    state = _told(state, slot)
    if sent_at - slot.at <= guard(state, policy):
        return state
    return _counted_from(state, policy, slot, sent_at)


def held_until(state: State, policy: Policy, now: float) -> tuple[float, Reason | None]:
    """Until when the service is held for other causes than our own pace (0: it is not), and why."""
    holds: list[tuple[float, Reason]] = []
    if now < state.cooldown_until <= now + MAX_HOLD_S:
        holds.append((state.cooldown_until, state.cooldown_reason or Reason.RATE_LIMITED))
    if now < state.credential_blocked_until <= now + MAX_HOLD_S and state.credential == policy.credential:
        holds.append((state.credential_blocked_until, Reason.AUTH_FAILED))
    return max(holds, default=(0.0, None))


def roll_windows(state: State, policy: Policy, at: float) -> dict[str, WindowCount]:
    """The windows as they stand at the moment `at`: those that ended begin anew, with the policy's limit."""
    rolled = {}
    for name, length in WINDOW_SECONDS.items():
        window = state.windows.get(name)
        if window is None or not at < window.resets_at <= at + length + MAX_CLOCK_STEP_S:
            window = WindowCount(0, None, _window_end(name, at))
        own = policy.windows.get(name)
        if not window.told:
            window = window if window.limit == own else replace(window, limit=own)
        elif own is not None and name in policy.capped:  # set by the operator, perhaps after it was told
            window = replace(window, limit=own if window.limit is None else min(own, window.limit))
        rolled[name] = window
    return rolled


def _due(state: State, policy: Policy, now: float) -> tuple[float, Reason]:
    due = [(_sane_tat(state, policy, now) - _tolerance(state, policy), Reason.SPACING), (now, Reason.SPACING)]
    hold, why = held_until(state, policy, now)
    if why is not None:
        due.append((hold, why))
    windows = roll_windows(state, policy, now)
    due += [
        (window.resets_at + RESET_GUARD_S[name], Reason(f"{name}_window"))
        for name, window in windows.items()
        if window.is_exhausted
    ]
    limit = policy.windows.get("minute")
    if limit and len(recent := _within_minute(state.recent, policy, now)) >= limit:
        due.append((recent[-limit] + _minute(policy), Reason.MINUTE_WINDOW))
    return max(due, key=lambda item: item[0])


def _is_kept_back(state: State, policy: Policy, now: float, lead: float) -> bool:
    """Whether a slot that is due would come too early if what is not told to have left leaves only now.

    What was due in a burst may: the bucket has room for it.
    """
    held_up = sum(max(0.0, now - max(slot.tat_before, slot.at)) for slot in _still_unsent(state, policy, now))
    due = _sane_tat(state, policy, now) + held_up - _tolerance(state, policy)
    return held_up > 0 and due - now > lead


def _tolerance(state: State, policy: Policy) -> float:
    return (burst_in_effect(state, policy) - 1) * spacing(state, policy)


def _still_unsent(state: State, policy: Policy, now: float) -> tuple[Unsent, ...]:
    patience = spacing(state, policy) + HOLD_S
    return tuple(slot for slot in state.unsent if -AHEAD_S <= now - slot.at <= patience)


def _told(state: State, slot: Grant) -> State:
    left = tuple(one for one in state.unsent if one.number != slot.number)
    return state if left == state.unsent else replace(state, unsent=left)


def _sane_tat(state: State, policy: Policy, now: float) -> float:
    """The TAT, unless only a clock that was set back can explain how far ahead it lies."""
    furthest = policy.burst * spacing(state, policy)
    return state.tat if state.tat - now <= max(MAX_CLOCK_STEP_S, 2 * furthest) else now


def _needs_log(policy: Policy) -> bool:
    """Whether spacing alone could put more requests into a minute than its window allows."""
    limit = policy.windows.get("minute")
    if not limit:
        return False
    return policy.burst > 1 or math.floor(60.0 * policy.rate / (1 + policy.margin)) + 1 > limit


def _minute(policy: Policy) -> float:
    return 60.0 * (1 + policy.margin)


def _within_minute(recent: tuple[float, ...], policy: Policy, now: float) -> list[float]:
    return sorted(moment for moment in recent if now - _minute(policy) < moment < now + MAX_CLOCK_STEP_S)


def _logged(recent: tuple[float, ...], policy: Policy, at: float) -> tuple[float, ...]:
    if not _needs_log(policy):
        return ()
    return tuple(sorted([*_within_minute(recent, policy, at), at])[-policy.windows["minute"] :])


def _without(recent: tuple[float, ...], moment: float) -> tuple[float, ...]:
    left = list(recent)
    if moment in left:
        left.remove(moment)  # one only: the slots of a burst may share a moment
    return tuple(left)


def _counted_from(state: State, policy: Policy, slot: Grant, sent_at: float) -> State:
    # Added to the TAT, not computed anew: other slots may have been given or moved since this one.
    delay = max(slot.tat_before, sent_at) - max(slot.tat_before, slot.at)
    recent = _without(state.recent, slot.at)
    windows = {
        name: window
        if window.resets_at == slot.counted_in.get(name) or window.told
        # It was taken before midnight and is sent after it: the new day counts it.
        else replace(window, used=window.used + 1)
        for name, window in roll_windows(state, policy, sent_at).items()
    }
    return replace(state, tat=state.tat + delay, windows=windows, recent=_logged(recent, policy, sent_at))


def _ends(windows: Mapping[str, WindowCount]) -> dict[str, float]:
    return {name: window.resets_at for name, window in windows.items()}


def _window_end(name: str, at: float) -> float:
    if name == "month":
        first = datetime.fromtimestamp(at, timezone.utc).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return (first + timedelta(days=32)).replace(day=1).timestamp()
    length = WINDOW_SECONDS[name]
    return (math.floor(at / length) + 1) * float(length)
