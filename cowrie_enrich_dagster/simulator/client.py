"""Driving a simulator from Python: in this process, in a child process, or wherever one runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import orjson
from requests import Response, Session

from cowrie_enrich_dagster.simulator import whois
from cowrie_enrich_dagster.simulator.model import Control, Fault, Limit, RequestRecord, SimulatorConfig
from cowrie_enrich_dagster.simulator.server import SimulatorServer

STOP_TIMEOUT_S = 5.0


def max_in_sliding_window(times: Sequence[float], seconds: float) -> int:
    """The most of `times` (ascending, in seconds) that any half-open window of this length holds."""
    most = first = 0
    for last, t in enumerate(times):
        while t - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class SimulatorClient:
    """A simulator that runs at `base_url`. Its methods raise `requests.RequestException` when it does not."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def url(self, service: str) -> str:
        """What goes into `<SERVICE>_API_URL`."""
        if service == whois.SERVICE:
            return str(orjson.loads(self._call("GET", "/_health").content)["whois_url"])
        return f"{self.base_url}/{service}"

    def set_limit(self, service: str, limit: Limit | None) -> None:
        """Give a service another limit, with nothing of it used yet; None lifts it."""
        self._control(Control(limits={service: limit}))

    def set_fault(self, service: str, *faults: Fault) -> None:
        """Replace all faults of a service; the first that applies to a request wins, none end them."""
        self._control(Control(faults={service: faults}))

    def reset(self) -> None:
        """Forget all requests and what they used up; return to the limits and faults of the start."""
        self._control(Control(reset=True))

    def requests(self, service: str | None = None) -> list[RequestRecord]:
        """Every request received, in the order of arrival; those of one service if it is named."""
        return [record for record in self._records() if service in (None, record.service)]

    def calls_per_key(self, service: str) -> Counter[str]:
        """How often each key was asked about, whatever the answer."""
        return Counter(key for record in self.requests(service) for key in record.keys)

    def over_limit(self, service: str) -> int:
        """How many requests a limit refused."""
        return sum(record.over_limit for record in self.requests(service))

    def max_in_sliding_window(self, service: str, seconds: float) -> int:
        """The most requests, admitted or not, that arrived within any window of this length."""
        return max_in_sliding_window([record.t for record in self.requests(service)], seconds)

    def _control(self, control: Control) -> None:
        self._call("POST", "/_control", control.model_dump_json())

    def _records(self) -> list[RequestRecord]:
        return [
            RequestRecord(**{**entry, "keys": tuple(entry["keys"])})
            for entry in orjson.loads(self._call("GET", "/_log").content)
        ]

    def _call(self, method: str, path: str, body: str | None = None) -> Response:
        with Session() as http:
            http.trust_env = False  # a proxy of the environment has no business on the loopback interface
            response = http.request(method, f"{self.base_url}{path}", data=body, timeout=30)
        response.raise_for_status()
        return response


class Simulator(SimulatorClient):
    """A simulator in a thread of this process; use it as a context manager. `port` 0 takes a free one."""

    def __init__(
        self, config: SimulatorConfig | None = None, port: int = 0, log_file: Path | None = None
    ) -> None:
        self._server = SimulatorServer("127.0.0.1", port, config or SimulatorConfig(), log_file)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="simulator", daemon=True
        )
        super().__init__(self._server.url)

    def __enter__(self) -> Simulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join(STOP_TIMEOUT_S)

    def _control(self, control: Control) -> None:
        self._server.engine.control(control)

    def _records(self) -> list[RequestRecord]:
        return self._server.engine.records()


class SimulatorProcess(SimulatorClient):
    """A simulator in a child process; use it as a context manager.

    Its arrival times are not delayed by what this process does, and it can be killed (`process`).
    """

    def __init__(
        self, config: SimulatorConfig | None = None, port: int = 0, log_file: Path | None = None
    ) -> None:
        command = [sys.executable, "-m", "cowrie_enrich_dagster.simulator", "--port", str(port)]
        command += ["--config", (config or SimulatorConfig()).model_dump_json()]
        command += ["--log", str(log_file)] if log_file else []
        self._command = command
        super().__init__("")

    def __enter__(self) -> SimulatorProcess:
        self.process = subprocess.Popen(  # noqa: S603 (ours)
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.base_url = next(iter(self.process.stdout or ()), "").strip()
        if not self.base_url:
            raise RuntimeError(f"the simulator did not start: exit {self.process.wait()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
