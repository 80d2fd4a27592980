"""A worker process of the pacing tests: sends requests through a `PacedSession` until it is told to stop.

Run as `python -m tests.integration.pacing.worker '<JSON of Job>'`. Prints `ready`, waits for a line on
stdin, works, and prints one JSON object: `sent`, `statuses`, `refused`, `errors`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import requests

from cowrie_enrich_dagster.pacing import AdaptiveRateLimiter, PacedSession, Policy, SlotRefused
from cowrie_enrich_dagster.storage.engine import Database
from tests import warm


@dataclass(frozen=True)
class Job:
    """What one worker does: at most `requests` requests to `url` at `policy`'s pace, for `seconds`."""

    database_url: str
    url: str
    policy: dict[str, Any] = field(default_factory=dict)
    seconds: float = 5.0
    max_wait: float = 10.0
    requests: int = 1_000_000


class Workers:
    """`count` processes with the same job, started together; a context manager."""

    def __init__(self, job: Job, count: int = 4) -> None:
        command = ("-m", "tests.integration.pacing.worker", json.dumps(asdict(job)))
        pipes = {"stdin": warm.PIPE, "stdout": warm.PIPE}
        self.processes = [warm.Process(*command, **pipes) for _ in range(count)]

    def __enter__(self) -> Workers:
        for process in self.processes:
            assert process.stdout.readline().strip() == "ready"
        return self

    def __exit__(self, *problem: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def start(self) -> None:
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def kill(self, number: int) -> None:
        """kill -9 of one worker, of which no result is expected."""
        process = self.processes.pop(number)
        process.kill()
        process.communicate()

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(process.stdout.readline()) for process in self.processes]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def work(job: Job) -> dict[str, Any]:
    database = Database(job.database_url)
    limiter = AdaptiveRateLimiter(database, Policy("service", **job.policy))
    statuses: Counter[str] = Counter()
    refused, errors = [], []
    say("ready")
    sys.stdin.readline()
    deadline = time.monotonic() + job.seconds
    with PacedSession(limiter, job.max_wait) as http:
        http.headers["User-Agent"] = "cowrie-enrich tests (tester@example.org)"
        while (left := deadline - time.monotonic()) > 0 and statuses.total() < job.requests:
            http.max_wait = min(job.max_wait, left)
            try:
                statuses[str(http.get(job.url).status_code)] += 1
            except SlotRefused as refusal:
                refused.append([str(refusal.reason), refusal.wait_s])
                break
            except requests.RequestException as problem:
                errors.append(repr(problem))
    return {"sent": http.requests_sent, "statuses": statuses, "refused": refused, "errors": errors}


if __name__ == "__main__":
    say(json.dumps(work(Job(**json.loads(sys.argv[1])))))
