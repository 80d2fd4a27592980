"""What a response changes in what we know of a limit. Pure: state and response in, state out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cowrie_enrich_dagster.pacing.gcra import RESET_GUARD_S, roll_windows, spacing
from cowrie_enrich_dagster.pacing.learning import after_refusal
from cowrie_enrich_dagster.pacing.meaning import Meaning, Signs, meaning_of
from cowrie_enrich_dagster.pacing.model import (
    BALANCE,
    MAX_HOLD_S,
    WINDOW_SECONDS,
    HeaderQuota,
    Observation,
    Policy,
    Reason,
    State,
    WindowCount,
)

LADDER_CAP_S = 3600.0
AUTH_COOLDOWN_S = 3600.0
RETRY_GUARD_S = 1.0
"""Added to what a server asks for: many round the rest of a second down, and the next refusal costs more."""

END_TOLERANCE_S = 60.0
"""How far a day or a month of the server's may end from ours and be the same one."""

RESET_TOLERANCE_S = 2.0
"""How far a reset named in whole seconds may be off: servers round up, and their clocks are not ours."""

BALANCE_HOLD_S = 86_400.0
"""How long an empty balance, which no header dates, stops a service: the next look then costs one request."""


def observe(state: State, policy: Policy, now: float, seen: Observation) -> State:
    """The state after a response, by what it means (`meaning_of`).

    - A limit stops the service: for Retry-After where given and respected, else for the next step of the
      ladder (60, 120, 240 ... 3600 s). It also lowers the rate, unless it goes on through a long stop: then
      it is a ban. Requests that were on their way when the stop began say nothing new: they neither climb the
      ladder nor lower the rate again, but a longer Retry-After in them still counts. A Retry-After of nothing
      is obeyed once; from the second refusal on the ladder runs, from its first step.
    - A quota that others used up stops the service until its day ends; pace and ladder stay as they are.
    - A refused credential stops the service for an hour, for that credential only.
    - A service that is unavailable and says until when is left alone for as long.
    - Any answer shows that we are served: the ladder starts anew.
    - Quotas in the headers correct our counters; an exhausted one stops the service until it resets.
    """
    asked = seen.retry_after if policy.respect_retry_after else None
    for quota in seen.quotas:
        state = _apply_quota(state, policy, now, seen, quota)
    signs = Signs(seen.status, seen.retry_after is not None, seen.is_challenge, seen.says_used_up)
    meaning = meaning_of(policy, signs)
    if meaning is Meaning.LIMITED:
        return _limited(state, policy, now, seen, asked)
    if meaning is Meaning.USED_UP:
        return _used_up(state, policy, now, asked)
    if meaning is Meaning.REFUSED and policy.blocks_refused:
        return refused(state, policy, now)
    if meaning is Meaning.UNAVAILABLE and asked is not None:
        return _hold(state, _asked_until(now, asked), Reason.UNAVAILABLE, now)
    served = meaning is Meaning.ANSWER
    if served and state.consecutive_failures and seen.sent_at >= _penalty_until(state, now):
        return replace(state, consecutive_failures=0)
    return state


def paused(state: State, now: float, seconds: float) -> State:
    """The state in which nothing is sent for so many seconds, though the service did not ask for it."""
    return _hold(state, now + seconds, Reason.UNAVAILABLE, now)


def refused(state: State, policy: Policy, now: float) -> State:
    """The state once a service has refused our credential."""
    return replace(state, credential=policy.credential, credential_blocked_until=now + AUTH_COOLDOWN_S)


def _used_up(state: State, policy: Policy, now: float, asked: int | None) -> State:
    """Somebody else spent the quota: the ledger shows it as spent, and nothing is sent until it is whole."""
    state = replace(state, limited_total=state.limited_total + 1)
    windows = roll_windows(state, policy, now)
    name = next((name for name in ("day", "month") if windows[name].limit), "day")
    window = windows[name]
    spent = replace(window, used=max(window.used, window.limit or 0), told=True)
    until = window.resets_at + RESET_GUARD_S[name] if asked is None else _asked_until(now, asked)
    return _hold(replace(state, windows={**state.windows, name: spent}), until, Reason.QUOTA, now)


def _limited(state: State, policy: Policy, now: float, seen: Observation, asked: int | None) -> State:
    penalty_until = _penalty_until(state, now)
    state = replace(state, limited_total=state.limited_total + 1)
    if seen.sent_at < penalty_until:
        if asked is None or (until := _asked_until(now, asked)) <= penalty_until:
            return state
        return replace(_hold(state, until, Reason.RATE_LIMITED, now), penalty_until=until)
    failures = state.consecutive_failures + 1
    step = failures
    if asked == 0 and failures > 1:  # "at once", again: what it said last time was not so
        asked, step = None, failures - 1
    pause = min(policy.first_cooldown * 2.0 ** min(step - 1, 32), LADDER_CAP_S)
    until = now + pause if asked is None else _asked_until(now, asked)
    state = replace(
        _hold(state, until, Reason.RATE_LIMITED, now), consecutive_failures=failures, penalty_until=until
    )
    windows = roll_windows(state, policy, now)
    if windows["day"].is_exhausted or windows["month"].is_exhausted:
        return state  # the quota was the reason, not the rate
    banned = failures > 1 and (asked is None or asked > policy.first_cooldown)
    return state if banned else after_refusal(state, policy, until)


def _asked_until(now: float, asked: int) -> float:
    return now + min(asked + RETRY_GUARD_S, MAX_HOLD_S)


def _penalty_until(state: State, now: float) -> float:
    return state.penalty_until if state.penalty_until <= now + MAX_HOLD_S else 0.0


def _hold(state: State, until: float, reason: Reason, now: float) -> State:
    if now < state.cooldown_until <= now + MAX_HOLD_S and state.cooldown_until >= until:
        return state
    return replace(state, cooldown_until=until, cooldown_reason=reason)


def _apply_quota(state: State, policy: Policy, now: float, seen: Observation, quota: HeaderQuota) -> State:
    if quota.window == BALANCE:
        return _apply_balance(state, policy, now, seen, quota.remaining)
    windows = roll_windows(state, policy, now)
    name = _window_of(policy, quota, {name: window.resets_at - now for name, window in windows.items()})
    resets_at = None if quota.reset_s is None else now + min(quota.reset_s, MAX_HOLD_S)
    if quota.remaining == 0 and quota.reset_s is not None:
        # A bucket without burst is empty after every request: that is spacing, which we keep anyway.
        if quota.reset_s <= spacing(state, policy) + RESET_TOLERANCE_S:
            return state
        if name is None:
            return _hold(state, now + min(quota.reset_s, MAX_HOLD_S), Reason.QUOTA, now)
    if name is None or (name == "minute" and resets_at is None):
        return state
    window = windows[name]
    if resets_at is None or abs(resets_at - window.resets_at) <= RESET_TOLERANCE_S:
        resets_at = window.resets_at
    limit = window.limit if quota.limit is None else quota.limit
    if quota.remaining == 0:
        limit = window.used if limit is None else limit
        used = max(limit, 0)
    elif limit is not None:
        # The server had counted up to this request; the slots given since are on their way or were answered.
        used = max(0, limit - quota.remaining) + max(0, state.requests_total - seen.number)
    else:
        return state
    if name in policy.capped:  # the operator's number counts our own requests, whatever the server counts
        used, limit = max(used, window.used), min(limit, policy.windows[name])
    corrected = WindowCount(used, limit, resets_at, told=True)
    if corrected == state.windows.get(name):
        return state
    return replace(state, windows={**state.windows, name: corrected})


def _apply_balance(state: State, policy: Policy, now: float, seen: Observation, left: int) -> State:
    """What is left of a contract, as this month's limit; none left stops the service for a day."""
    if left == 0:
        return _hold(state, now + BALANCE_HOLD_S, Reason.QUOTA, now)
    window = roll_windows(state, policy, now)["month"]
    limit = window.used - max(0, state.requests_total - seen.number) + left
    if "month" in policy.capped:
        limit = min(limit, policy.windows["month"])
    told = WindowCount(window.used, limit, window.resets_at, told=True)
    return (
        state
        if told == state.windows.get("month")
        else replace(state, windows={**state.windows, "month": told})
    )


def _window_of(policy: Policy, quota: HeaderQuota, ends_in: Mapping[str, float]) -> str | None:
    """The window a quota speaks of: named; or else one of ours with that very limit; or else one that ends
    when the quota does. One that tells none of that binds no window, and neither does one that fits two."""
    if quota.window:
        return (
            quota.window if quota.window in WINDOW_SECONDS and _fits(quota.window, quota, ends_in) else None
        )
    fitting = [name for name in WINDOW_SECONDS if _fits(name, quota, ends_in)]
    known = [name for name in fitting if policy.windows.get(name) == quota.limit]
    if not known and quota.reset_s is not None:
        reset = quota.reset_s
        known = [
            name for name in fitting if name == "minute" or abs(reset - ends_in[name]) <= END_TOLERANCE_S
        ]
    return known[0] if len(known) == 1 else None


def _fits(name: str, quota: HeaderQuota, ends_in: Mapping[str, float]) -> bool:
    """Whether a quota that resets so soon can be one of this window: of a day that ends with the calendar's
    or is longer than a minute away, of a month the same."""
    if quota.reset_s is None:
        return True
    reset, shorter = (
        quota.reset_s,
        {"minute": 0, "day": WINDOW_SECONDS["minute"], "month": WINDOW_SECONDS["day"]},
    )
    if reset > WINDOW_SECONDS[name] + RESET_TOLERANCE_S:
        return False
    return (
        name == "minute"
        or reset > shorter[name] + RESET_TOLERANCE_S
        or abs(reset - ends_in[name]) <= END_TOLERANCE_S
    )
