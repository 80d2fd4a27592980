"""How close several worker processes come to a server's limit without ever crossing it.

    python -m benchmarks.pacing [--scenario NAME] [--json]

Each scenario starts real `cowrie-enrich run` processes on one PostgreSQL against the simulator over real HTTP
and judges by the simulator's own log. The ideal is the time the limit itself needs: (N - 1) / rate. Where the
server's limit is lower than ours, there is nothing but its refusals to learn it from: they are counted, and
every address must have its answer all the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.report import Report, at_least, command_line, exactly
from benchmarks.workload import SERVICE, environment, migrated, reports_of, start_runs
from cowrie_enrich_dagster.simulator import FixedWindow, Limit, SimulatorProcess, TokenBucket
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer

PROCESSES = 4


@dataclass(frozen=True)
class Scenario:
    """`rate` is ours (requests/s); `limits` are the server's, each from a second of the run on.

    `share_to_reach` of the ideal is asked for by the design at 60 a minute.
    """

    name: str
    keys: int
    rate: float
    limits: tuple[tuple[float, Limit], ...]
    share_to_reach: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether the rate that is configured is one that the server allows, from beginning to end."""
        return all(self.rate <= _rate(limit) for _, limit in self.limits)


def _bucket(per_minute: float) -> Limit:
    return Limit(rules=(TokenBucket(per_minute=per_minute, burst=1),))


def _window(limit: int, seconds: float) -> Limit:
    return Limit(rules=(FixedWindow(limit=limit, seconds=seconds, align="clock"),))


SCENARIOS = [
    Scenario("strict bucket 6/min", 12, 0.1, ((0, _bucket(6)),)),
    Scenario("strict bucket 30/min", 40, 0.5, ((0, _bucket(30)),)),
    Scenario("strict bucket 60/min", 120, 1.0, ((0, _bucket(60)),), 0.98),
    Scenario("fixed window 60/min", 120, 1.0, ((0, _window(60, 60)),), 0.98),
    Scenario("strict bucket 240/min", 240, 4.0, ((0, _bucket(240)),)),
    Scenario("strict bucket 1200/min", 800, 20.0, ((0, _bucket(1200)),)),
    Scenario("limit is half of the configured", 120, 4.0, ((0, _bucket(120)),)),
    Scenario("limit halves midway", 160, 4.0, ((0, _bucket(240)), (20, _bucket(120)))),
]


def measure(report: Report, scenario: Scenario, server: PostgresServer) -> None:
    """Run one scenario; the figures come from the server's log."""
    ips = routable_ips(scenario.keys)
    with tempfile.TemporaryDirectory() as folder, SimulatorProcess() as simulator:
        logs = write_logs(Path(folder) / "logs", ips, sessions_each=5)
        settings = environment(
            Path(folder),
            logs,
            migrated(server.new_database()),
            DSHIELD_API_URL=simulator.url(SERVICE),
            DSHIELD_RATE_LIMIT=str(scenario.rate),
        )
        simulator.set_limit(SERVICE, scenario.limits[0][1])
        workers = start_runs(settings, "2025-11-01", PROCESSES)
        started = time.monotonic()
        for moment, limit in scenario.limits[1:]:
            time.sleep(max(0.0, started + moment - time.monotonic()))
            simulator.set_limit(SERVICE, limit)
        coverage = min(run["coverage"][SERVICE] for run in reports_of(workers))
        log = simulator.requests(SERVICE)
        calls = simulator.calls_per_key(SERVICE)
        over = simulator.over_limit(SERVICE)
    gaps = [later.t - earlier.t for earlier, later in pairwise(log)]
    took = log[-1].t - log[0].t
    share = round(_ideal_seconds(scenario, log[0].t - started) / took, 4)
    repeated = sum(number > 1 for number in calls.values())
    none = exactly(0) if scenario.is_told else None
    enough = at_least(scenario.share_to_reach) if scenario.share_to_reach else None
    report.add(scenario.name, "requests", len(log))
    report.add(scenario.name, "over_limit", over, none)
    report.add(scenario.name, "asked_more_than_once", repeated, none)
    report.add(scenario.name, "never_asked", scenario.keys - len(calls), exactly(0))
    report.add(scenario.name, "smallest_coverage_of_a_process", coverage, exactly(1))
    report.add(scenario.name, "seconds", round(took, 2))
    report.add(scenario.name, "share_of_ideal", share, enough)
    report.add(scenario.name, "shortest_gap_s", round(min(gaps), 4))


def _ideal_seconds(scenario: Scenario, first_request: float) -> float:
    rates = [(start, _rate(limit)) for start, limit in scenario.limits]
    left, now = float(scenario.keys - 1), first_request
    for number, (_, rate) in enumerate(rates):
        until = rates[number + 1][0] if number + 1 < len(rates) else float("inf")
        if until < now:
            continue
        fits = (until - now) * rate
        if fits >= left:
            return now + left / rate - first_request
        left, now = left - fits, until
    raise AssertionError("unreachable: the last limit holds for ever")


def _rate(limit: Limit) -> float:
    rule = limit.rules[0]
    return rule.per_minute / 60 if isinstance(rule, TokenBucket) else rule.limit / rule.seconds


def run(scenarios: Sequence[Scenario]) -> Report:
    """The scenarios, one after the other."""
    report = Report("pacing", {"processes": PROCESSES})
    with closing(PostgresServer(durable=True)) as server:
        for scenario in scenarios:
            measure(report, scenario, server)
    return report


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="", help="only those whose name contains this")
    arguments = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if arguments.scenario in scenario.name]
    raise SystemExit(run(chosen).finish(as_json=arguments.json))
