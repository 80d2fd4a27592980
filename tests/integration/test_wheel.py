"""The wheel alone, in a virtual environment of its own: nothing that it needs was left in the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import current, head
from tests.conftest import SAMPLE_LOGS

ROOT = Path(__file__).parents[2]
DAY = "2025-11-01"
Call = Callable[..., str]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


_LOADS = """
import sys
import cowrie_enrich_dagster
print(cowrie_enrich_dagster.__file__, *sys.path, sep="\\n")
from cowrie_enrich_dagster.definitions import defs
defs.get_repository_def()
print("loaded")
from cowrie_enrich_dagster.cli import app
app()
"""


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Calls a program of an environment that has the wheel, from a folder elsewhere; gives its stdout.

    What the project depends on comes from the tests' own environment, by a path in which no editable
    installation counts.
    """
    wheels, home = tmp_path / "wheels", tmp_path / "venv"
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels))
    subprocess.run([*PIP, "wheel", *options, str(ROOT)], check=True, timeout=120)
    venv.create(home, with_pip=False, symlinks=True)
    (wheel,) = wheels.iterdir()
    python = home / "bin" / "python"
    options = ("--no-deps", "--no-index", str(wheel))
    subprocess.run([*PIP, "--python", str(python), "install", *options], check=True, timeout=120)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "elsewhere").mkdir()

    def run(program: str, *arguments: str, **environment: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [home / "bin" / program, *arguments],
            env={**kept, "COWRIE_ENRICH_HOME": str(tmp_path / "home"), **environment},
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_wheel_is_all_that_is_needed(call: Call, tmp_path: Path) -> None:
    """A database is made by its migrations, samples are enriched, Dagster loads it, a page is written."""
    with Simulator(SimulatorConfig()) as simulator:
        settings = {
            "COWRIE_LOG_DIR": str(SAMPLE_LOGS),
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "tests@example.org",
            "DSHIELD_RATE_LIMIT": "1000",
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_FEEDS": "none",
            "ENRICH_SERVICES": "dshield",
        }
        said = json.loads(call("cowrie-enrich", "run", "--days", DAY, "--json", **settings))
    assert (said["status"], said["sessions"], said["api_calls"]["dshield"]) == ("complete", 447, 104)
    page = tmp_path / "page.html"
    file, *path = call("python", "-c", _LOADS, "report", "--days", DAY, "--output", str(page)).splitlines()
    assert file.startswith(str(tmp_path / "venv"))
    assert str(ROOT) not in path
    assert "loaded" in path
    assert "<svg" in page.read_text()
    with closing(Database(f"sqlite:///{tmp_path}/home/enrich.db")) as database:
        assert current(database) == head(database)
