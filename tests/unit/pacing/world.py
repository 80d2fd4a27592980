"""A world without I/O for the pure core: a clock, a server that keeps its own limit, and one worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cowrie_enrich_dagster.pacing.feedback import observe
from cowrie_enrich_dagster.pacing.gcra import decide, sent
from cowrie_enrich_dagster.pacing.model import Grant, Observation, Policy, State, Wait

START = 1_790_000_000.0


@dataclass
class BucketServer:
    """A strict token bucket; `rate_at` gives its rate at a moment; `retry_after`: it sends one."""

    rate_at: Callable[[float], float]
    burst: int = 1
    retry_after: bool = True
    tokens: float = field(init=False)
    at: float = START

    def __post_init__(self) -> None:
        self.tokens = float(self.burst)

    def answer(self, now: float) -> tuple[int, int | None]:
        """The status and the Retry-After of a request that arrives at `now`."""
        rate = self.rate_at(now)
        self.tokens = min(self.burst, self.tokens + (now - self.at) * rate)
        self.at = now
        if self.tokens >= 1 - 1e-9:
            self.tokens -= 1
            return 200, None
        return 429, int((1 - self.tokens) / rate) + 1 if self.retry_after else None


@dataclass
class Run:
    """What came of a simulated worker: moments of requests that were served, and of those refused."""

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    state: State | None = None


def simulate(policy: Policy, server: BucketServer, seconds: float, *, latency: float = 0.05) -> Run:
    """One worker that always has work, from START on, until `seconds` have passed."""
    now, state, run = START, State(policy.service), Run()
    while now < START + seconds:
        state, decision = decide(state, policy, now)
        if isinstance(decision, Wait):
            now += decision.seconds
            continue
        assert isinstance(decision, Grant)
        state = sent(state, policy, decision, now)
        status, retry_after = server.answer(now)
        (run.served if status == 200 else run.refused).append(now)
        seen = Observation(now, decision.number, status, retry_after)
        now += latency
        state = observe(state, policy, now, seen)
    run.state = state
    return run
