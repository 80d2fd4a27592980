"""The intelligence services' APIs on localhost, with limits and faults, for demo and tests.

    with Simulator(SimulatorConfig(limits={"dshield": Limit(rules=(TokenBucket(per_minute=60),))})) as sim:
        ...  # DSHIELD_API_URL=sim.url("dshield")
        assert sim.over_limit("dshield") == 0

Over HTTP, below the base URL: `/<service>/...` imitates the service; `POST /_control` (JSON, see `Control`)
changes limits and faults; `GET /_log` is the JSON list of all requests (see `RequestRecord`); `GET /_health`
names the services and, as `whois_url`, where Team Cymru's whois is served, over TCP on a port of its own.
"""

from __future__ import annotations

from cowrie_enrich_dagster.simulator.client import (
    Simulator,
    SimulatorClient,
    SimulatorProcess,
    max_in_sliding_window,
)
from cowrie_enrich_dagster.simulator.model import (
    Control,
    Fault,
    FixedWindow,
    Limit,
    RequestRecord,
    SimulatorConfig,
    TokenBucket,
)
from cowrie_enrich_dagster.simulator.serve import serve, simulate

__all__ = [
    "Control",
    "Fault",
    "FixedWindow",
    "Limit",
    "RequestRecord",
    "Simulator",
    "SimulatorClient",
    "SimulatorConfig",
    "SimulatorProcess",
    "TokenBucket",
    "max_in_sliding_window",
    "serve",
    "simulate",
]
