"""Finding a server's real rate from its refusals: multiplicative decrease, slow increase.

A refusal lowers the rate to `DECREASE` of itself. Only when the configured rate has served `PROVEN_REQUESTS`
before, the first refusal is taken for an accident of timing (a request that was delayed on its way crowds the
next one) and costs little; a second one soon shows that it was none. Once a rate has held for a quiet period,
the next try goes a quarter of the way back to the rate that failed. A try that fails returns at once to the
last rate that held and doubles the quiet period. When the gap is closed, only a long quiet period lifts the
ceiling again, until the configured rate itself has held: then nothing is left to learn.
"""

from __future__ import annotations

from dataclasses import replace

from cowrie_enrich_dagster.pacing.model import Policy, Search, State

DECREASE = 0.7
ACCIDENT = 0.95
PROVEN_REQUESTS = 60
FIRST_QUIET_S = 600.0
MAX_QUIET_S = 86_400.0
LIFT_AFTER_S = 2 * 3600.0
STEP_TO_CEILING = 0.25
CEILING_LIFT = 1.25
CLOSED_GAP = 0.04
FLOOR = 1 / 64


def rate_in_effect(state: State, policy: Policy) -> float:
    """Requests a second: the lower of what is configured and what was learned."""
    return policy.rate if state.learned_rate is None else min(policy.rate, state.learned_rate)


def burst_in_effect(state: State, policy: Policy) -> int:
    """A server that refused us is given no bursts until its rate is known to be the configured one."""
    return policy.burst if state.learned_rate is None else 1


def after_refusal(state: State, policy: Policy, resume_at: float) -> State:
    """The state after a request sent at the rate in effect was refused; sending resumes at `resume_at`."""
    rate, search = rate_in_effect(state, policy), state.learning
    if search is not None and rate > search.good * (1 + 1e-9):
        quiet = min(2 * search.quiet_s, MAX_QUIET_S)
        return replace(state, learned_rate=search.good, learning=Search(search.good, rate, resume_at, quiet))
    accident = state.learned_rate is None and state.requests_total > PROVEN_REQUESTS
    lower = max(rate * (ACCIDENT if accident else DECREASE), policy.rate * FLOOR)
    quiet = search.quiet_s if search else FIRST_QUIET_S
    return replace(state, learned_rate=lower, learning=Search(lower, rate, resume_at, quiet))


def after_quiet(state: State, policy: Policy, now: float) -> State:
    """The state in which the next request is sent: one step faster when the current rate has held."""
    rate, search = state.learned_rate, state.learning
    if rate is None or search is None or now - search.since < search.quiet_s:
        return state
    if rate >= policy.rate:
        return replace(state, learned_rate=None, learning=None)
    ceiling = min(search.ceiling, policy.rate)
    if ceiling - rate <= CLOSED_GAP * ceiling:
        if now - search.since < max(LIFT_AFTER_S, search.quiet_s):
            return state
        ceiling = min(policy.rate, CEILING_LIFT * ceiling)
    gap = ceiling - rate
    faster = ceiling if gap <= CLOSED_GAP * ceiling else rate + STEP_TO_CEILING * gap
    return replace(state, learned_rate=faster, learning=Search(rate, ceiling, now, search.quiet_s))
