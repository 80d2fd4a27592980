"""The simulator without its sockets: decides each request by its arrival, under one lock, and records it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from cowrie_enrich_dagster.simulator import pages
from cowrie_enrich_dagster.simulator.faults import FaultPlan, faulty_reply
from cowrie_enrich_dagster.simulator.limits import Limiter, Verdict, budget_headers, retry_after_headers
from cowrie_enrich_dagster.simulator.model import Control, Fault, HeaderStyle, RequestRecord, SimulatorConfig
from cowrie_enrich_dagster.simulator.pages import Page, Reply, Request

ADMITTED = Verdict(admitted=True)
OVER_LIMIT_BODY = b'{"error":"rate limit exceeded"}'


class _NoSuchService:
    """The page of a service there is no page for: its requests are recorded too."""

    name = ""
    decoy = ""
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        return ()

    def refusal(self, request: Request) -> Reply | None:
        return Reply(404, b'{"error":"no such service"}')

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        raise NotImplementedError


NO_SUCH_SERVICE: Page = _NoSuchService()


@dataclass(frozen=True)
class Outcome:
    """What to do with a request: send `reply` (None: nothing), in the manner of `fault` if there is one."""

    reply: Reply | None
    fault: Fault | None = None


class Engine:
    """Every service's limits, faults and log. Thread-safe.

    Raises ValueError for a configuration that names a service there is no page for.
    """

    def __init__(self, config: SimulatorConfig, log_file: Path | None = None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._wall_offset = time.time() - time.monotonic()
        self._latest: dict[str, float] = {}
        self._limiters: dict[str, Limiter] = {}
        self._faults: dict[str, FaultPlan] = {}
        self._records: list[RequestRecord] = []
        # Unbuffered: a record is in the file before its response is sent, whatever kills the process.
        self._log = log_file.open("ab", buffering=0) if log_file else None
        self.control(Control(limits=config.limits, faults=config.faults))

    def close(self) -> None:
        """Close the log file."""
        if self._log:
            self._log.close()

    def control(self, control: Control) -> None:
        """Change limits and faults. Raises ValueError, and changes nothing, for an unknown service."""
        unknown = (control.limits.keys() | control.faults.keys()) - pages.ALL.keys()
        if unknown:
            raise ValueError(f"unknown service {sorted(unknown)[0]!r}; known: {', '.join(pages.ALL)}")
        with self._lock:
            if control.reset:
                self._records.clear()
                self._limiters.clear()
                self._faults.clear()
                self._apply(self._config)
            self._apply(control)

    def _apply(self, change: SimulatorConfig) -> None:
        for service, limit in change.limits.items():
            self._limiters.pop(service, None)
            if limit is not None:
                self._limiters[service] = Limiter(limit, self._wall_offset)
        for service, faults in change.faults.items():
            self._faults[service] = FaultPlan(faults)

    def records(self) -> list[RequestRecord]:
        """Every request since the start or the last reset, in the order of arrival."""
        with self._lock:
            return sorted(self._records, key=lambda record: record.t)

    def handle(self, service: str, request: Request, arrived: float, client_port: int) -> Outcome:
        """Decide a request by its arrival (monotonic seconds); it is recorded before it is answered."""
        page = pages.ALL.get(service, NO_SUCH_SERVICE)
        keys = page.keys(request)
        refusal = page.refusal(request)
        proper = refusal or page.reply(request, keys)
        with self._lock:
            # Threads may reach the lock in another order than their requests arrived.
            arrived = self._latest[service] = max(arrived, self._latest.get(service, arrived))
            wall = arrived + self._wall_offset
            limiter = None if refusal else self._limiters.get(service)
            verdict = limiter.decide(arrived) if limiter else ADMITTED
            plan = None if refusal else self._faults.get(service)
            fault = plan.next(keys) if plan and verdict.admitted else None
            if limiter and not verdict.admitted:
                headers = retry_after_headers(verdict.wait_s, limiter.limit.retry_after, wall)
                reply: Reply | None = Reply(limiter.limit.status, OVER_LIMIT_BODY, headers=headers)
            else:
                reply = faulty_reply(fault, page, request, proper, wall) if fault else proper
            if reply and limiter and verdict.budget:
                style = limiter.limit.headers or page.limit_headers
                reply = replace(
                    reply, headers={**budget_headers(verdict.budget, style, wall), **reply.headers}
                )
            self._record(
                RequestRecord(
                    t=arrived,
                    wall=wall,
                    service=service,
                    keys=keys,
                    status=reply.status if reply else None,
                    over_limit=not verdict.admitted,
                    fault=fault.kind if fault else None,
                    method=request.method,
                    path=f"{request.path}?{request.query}" if request.query else request.path,
                    user_agent=request.headers.get("User-Agent", ""),
                    client_port=client_port,
                )
            )
        return Outcome(reply, fault)

    def _record(self, record: RequestRecord) -> None:
        self._records.append(record)
        if self._log:
            self._log.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
