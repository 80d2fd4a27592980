"""`cowrie-enrich` as a user starts it: the installed script, in fresh interpreters.

Elsewhere the tests call it within their own process, or fork it (tests/warm.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from tests import warm
from tests.all_services import hashes, write_attacks
from tests.logs import routable_ips

Command = Callable[..., "subprocess.CompletedProcess[str]"]
DAY = "2025-11-01"
SCRIPT = str(Path(sys.executable).with_name("cowrie-enrich"))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Calls it in a folder of its own."""

    def call(
        *arguments: str, program: tuple[str, ...] = (SCRIPT,), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "ENABLE_REDIS_CACHE": "false", **environment}
        return subprocess.run(
            [*program, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    return call


def test_it_says_its_version(command: Command) -> None:
    done = command("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cowrie-enrich ")


def test_bad_usage_is_a_line_and_exit_2(command: Command, tmp_path: Path) -> None:
    """Not the traceback of an interpreter that ends."""
    done = command("quota", COWRIE_ENRICH_HOME=str(tmp_path / "home"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: COWRIE_ENRICH_HOME: ")
    assert len(done.stderr.splitlines()) == 1


def test_rows_do_not_depend_on_the_order_of_hashes(command: Command, tmp_path: Path) -> None:
    """Two homes, each filled and read with a hash seed of its own: a run asks each address once and exits
    with 0, and the rows are the same in the same order. The second home does with one interpreter."""
    ips = routable_ips(40)
    logs = write_attacks(tmp_path / "logs", ips, hashes(30), [f"password {number}" for number in range(90)])
    calls = ("run", "--days", DAY, "--json"), ("export", "--days", DAY, "--format", "csv")
    exported = []
    for seed in ("1", "2"):
        with Simulator(SimulatorConfig()) as simulator:
            environment = {
                "COWRIE_ENRICH_HOME": str(tmp_path / seed),
                "COWRIE_LOG_DIR": str(logs),
                "DSHIELD_API_URL": simulator.url("dshield"),
                "DSHIELD_EMAIL": "tests@example.org",
                "DSHIELD_RATE_LIMIT": "1000",
                "ENRICH_FEEDS": "none",
                "ENRICH_SERVICES": "dshield",
                "PYTHONHASHSEED": seed,
            }
            if seed == "1":
                said = [command(*call, **environment) for call in calls]
            else:
                program = (sys.executable, "-c", warm.IN_TURN)
                said = [command(json.dumps(calls), program=program, **environment)]
            assert [done.returncode for done in said] == [0] * len(said), said
            report, rows, *_ = "\f".join(done.stdout for done in said).split("\f")
            assert json.loads(report)["status"] == "complete"
            assert simulator.calls_per_key("dshield") == dict.fromkeys(ips, 1)
            exported.append(re.sub(r'fetched_at"":""[^"]+', "", rows))
    assert len(exported[0].splitlines()) == 1 + len(ips)
    assert exported[0] == exported[1]
