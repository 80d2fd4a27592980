"""When a request arrived is the kernel's to tell: a simulator that is busy makes no client early or late."""

from __future__ import annotations

import os
import signal
import sys
import time
from http.client import HTTPConnection

import pytest

from cowrie_enrich_dagster.simulator import SimulatorProcess

ASK = "/dshield/ip/11.0.0.1?json"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")
@pytest.mark.parametrize("is_new", [False, True], ids=["kept alive", "new"])
def test_a_request_arrives_when_it_comes_and_not_when_it_is_read(is_new: bool) -> None:
    """The simulator slept for half a second meanwhile."""
    with SimulatorProcess() as simulator:
        connection = HTTPConnection(simulator.base_url.removeprefix("http://"), timeout=10)
        connection.connect()
        if not is_new:
            connection.request("GET", ASK)
            connection.getresponse().read()
        os.kill(simulator.process.pid, signal.SIGSTOP)
        sent_at = time.monotonic()
        connection.request("GET", ASK)
        time.sleep(0.5)
        os.kill(simulator.process.pid, signal.SIGCONT)
        connection.getresponse().read()
        connection.close()
        assert simulator.requests("dshield")[-1].t == pytest.approx(sent_at, abs=0.1)
