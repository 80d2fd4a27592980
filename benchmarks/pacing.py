"""How close several worker processes come to a server's limit without ever crossing it.

Each scenario starts real `cowrie-enrich run` processes on one PostgreSQL against the simulator over real HTTP
and judges by the simulator's own log. The ideal is the time the limit itself needs: (N - 1) / rate.

    python -m benchmarks.pacing [--scenario NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.simulator import FixedWindow, Limit, SimulatorProcess, TokenBucket
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer

PROCESSES = 4


@dataclass(frozen=True)
class Scenario:
    """`rate` is ours (requests/s); `limits` are the server's, each from a second of the run on."""

    name: str
    keys: int
    rate: float
    limits: tuple[tuple[float, Limit], ...]


def _bucket(per_minute: float) -> Limit:
    return Limit(rules=(TokenBucket(per_minute=per_minute, burst=1),))


def _window(limit: int, seconds: float) -> Limit:
    return Limit(rules=(FixedWindow(limit=limit, seconds=seconds, align="clock"),))


SCENARIOS = [
    Scenario("strict bucket 60/min", 120, 1.0, ((0, _bucket(60)),)),
    Scenario("fixed window 60/min", 120, 1.0, ((0, _window(60, 60)),)),
    Scenario("strict bucket 300/min", 300, 5.0, ((0, _bucket(300)),)),
    Scenario("limit is half of the configured", 120, 4.0, ((0, _bucket(120)),)),
    Scenario("limit halves midway", 160, 4.0, ((0, _bucket(240)), (20, _bucket(120)))),
]


def run(scenario: Scenario, server: PostgresServer) -> dict[str, Any]:
    """Run one scenario; the figures come from the server's log."""
    ips = routable_ips(scenario.keys)
    with tempfile.TemporaryDirectory() as folder, SimulatorProcess() as simulator:
        url = server.new_database()
        database = Database(url)
        upgrade(database)
        database.close()
        environment = {
            **os.environ,
            "COWRIE_ENRICH_HOME": folder,
            "COWRIE_LOG_DIR": str(write_logs(Path(folder) / "logs", ips, sessions_each=5)),
            "DATABASE_URL": url,
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "bench@example.org",
            "DSHIELD_RATE_LIMIT": str(scenario.rate),
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_SERVICES": "dshield",
        }
        simulator.set_limit("dshield", scenario.limits[0][1])
        command = [sys.executable, "-m", "cowrie_enrich_dagster", "run", "--days", "2025-11-01", "--json"]
        workers = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(PROCESSES)
        ]
        started = time.monotonic()
        for moment, limit in scenario.limits[1:]:
            time.sleep(max(0.0, started + moment - time.monotonic()))
            simulator.set_limit("dshield", limit)
        reports = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
        log = simulator.requests("dshield")
        calls = simulator.calls_per_key("dshield")
        gaps = [later.t - earlier.t for earlier, later in pairwise(log)]
        ideal = _ideal_seconds(scenario, log[0].t - started)
        took = log[-1].t - log[0].t
        return {
            "scenario": scenario.name,
            "keys": scenario.keys,
            "requests": len(log),
            "over_limit": simulator.over_limit("dshield"),
            "asked_more_than_once": sum(number > 1 for number in calls.values()),
            "never_asked": scenario.keys - len(calls),
            "sessions_enriched_by_each": [report["coverage"]["dshield"] for report in reports],
            "seconds": round(took, 2),
            "share_of_ideal": round(ideal / took, 4),
            "shortest_gap_s": round(min(gaps), 4),
        }


def _ideal_seconds(scenario: Scenario, first_request: float) -> float:
    rates = [(start, _rate(limit)) for start, limit in scenario.limits]
    left, now = scenario.keys - 1, first_request
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


def main() -> None:
    """Run the chosen scenarios and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", help="only those whose name contains this")
    arguments = parser.parse_args()
    chosen = [s for s in SCENARIOS if arguments.scenario is None or arguments.scenario in s.name]
    server = PostgresServer()
    try:
        results = []
        for scenario in chosen:
            results.append(run(scenario, server))
            print("  ".join(f"{name}={value}" for name, value in results[-1].items()), file=sys.stderr)
    finally:
        server.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
