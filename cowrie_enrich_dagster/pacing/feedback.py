"""What a response changes in what we know of a limit. Pure: state and response in, state out."""

from __future__ import annotations

from dataclasses import replace

from cowrie_enrich_dagster.pacing.gcra import roll_windows, spacing
from cowrie_enrich_dagster.pacing.learning import after_refusal
from cowrie_enrich_dagster.pacing.model import (
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

RESET_TOLERANCE_S = 2.0
"""How far a reset named in whole seconds may be off: servers round up, and their clocks are not ours."""

UNAVAILABLE = 503


def observe(state: State, policy: Policy, now: float, seen: Observation) -> State:
    """The state after a response.

    - A limit status stops the service: for Retry-After where given and respected, else for the next step of
      the ladder (60, 120, 240 ... 3600 s). It also lowers the rate, unless it goes on through a long stop:
      then it is a ban. Requests that were on their way when the stop began say nothing new: they neither
      climb the ladder nor lower the rate again, but a longer Retry-After in them still counts.
    - A refused credential stops the service for an hour, for that credential only.
    - 503 with Retry-After stops the service for as long as it says.
    - Any other answer below 500 shows that we are served: the ladder starts anew.
    - Quotas in the headers correct our counters; an exhausted one stops the service until it resets.
    """
    asked = seen.retry_after if policy.respect_retry_after else None
    for quota in seen.quotas:
        state = _apply_quota(state, policy, now, seen, quota)
    if seen.status in policy.limit_statuses or (seen.status in policy.auth_statuses and asked is not None):
        return _limited(state, policy, now, seen, asked)
    if seen.status in policy.auth_statuses:
        return replace(state, credential=policy.credential, credential_blocked_until=now + AUTH_COOLDOWN_S)
    if seen.status == UNAVAILABLE and asked is not None:
        return _hold(state, _asked_until(now, asked), Reason.UNAVAILABLE, now)
    served = seen.status < 500 and seen.status not in (401, 403)
    if served and state.consecutive_failures and seen.sent_at >= _penalty_until(state, now):
        return replace(state, consecutive_failures=0)
    return state


def paused(state: State, now: float, seconds: float) -> State:
    """The state in which nothing is sent for so many seconds, though the service did not ask for it."""
    return _hold(state, now + seconds, Reason.UNAVAILABLE, now)


def _limited(state: State, policy: Policy, now: float, seen: Observation, asked: int | None) -> State:
    penalty_until = _penalty_until(state, now)
    state = replace(state, limited_total=state.limited_total + 1)
    if seen.sent_at < penalty_until:
        if asked is None or (until := _asked_until(now, asked)) <= penalty_until:
            return state
        return replace(_hold(state, until, Reason.RATE_LIMITED, now), penalty_until=until)
    failures = state.consecutive_failures + 1
    step = policy.first_cooldown * 2.0 ** min(failures - 1, 32)
    until = now + min(step, LADDER_CAP_S) if asked is None else _asked_until(now, asked)
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
    name = _window_of(policy, quota)
    resets_at = None if quota.reset_s is None else now + min(quota.reset_s, MAX_HOLD_S)
    if quota.remaining == 0 and quota.reset_s is not None:
        # A bucket without burst is empty after every request: that is spacing, which we keep anyway.
        if quota.reset_s <= spacing(state, policy) + RESET_TOLERANCE_S:
            return state
        if name is None:
            return _hold(state, now + min(quota.reset_s, MAX_HOLD_S), Reason.QUOTA, now)
    if name is None or (name == "minute" and resets_at is None):
        return state
    window = roll_windows(state, policy, now)[name]
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
    corrected = WindowCount(used, limit, resets_at, told=True)
    if corrected == state.windows.get(name):
        return state
    return replace(state, windows={**state.windows, name: corrected})


def _window_of(policy: Policy, quota: HeaderQuota) -> str | None:
    """The window a quota speaks of: named, else recognised by its limit, else the only one there is."""
    matching = [name for name, limit in policy.windows.items() if limit == quota.limit]
    candidates = [quota.window] if quota.window else matching or list(policy.windows)
    if len(candidates) != 1 or candidates[0] not in WINDOW_SECONDS:
        return None
    name = candidates[0]
    fits = quota.reset_s is None or quota.reset_s <= WINDOW_SECONDS[name] + RESET_TOLERANCE_S
    return name if fits else None
