"""A disk that is full: a sentence and exit 1, or everything is there."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import warm


@pytest.fixture(params=["900k", "2500k"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of this size."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_a_sentence(small: Path, sample_logs: Path) -> None:
    """Whichever step comes to its end; a run that says that all went well has written every row."""
    environment = {
        "COWRIE_ENRICH_HOME": str(small),
        "COWRIE_LOG_DIR": str(sample_logs),
        "DSHIELD_EMAIL": "tests@example.org",
        "DSHIELD_API_URL": "http://127.0.0.1:1",
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_FEEDS": "none",
        "ENRICH_MAX_RUN_SECONDS": "2",
        "ENRICH_SERVICES": "dshield",
    }
    command = [*warm.CLI, "run", "--days", "2025-11-01..2025-11-03"]
    for _ in range(2):
        done = warm.run(*command, env={**os.environ, **environment}, timeout=150)
        if done.returncode == 0:
            with closing(sqlite3.connect(small / "enrich.db")) as connection:
                query = "SELECT count(*) FROM enriched_sessions"
                assert connection.execute(query).fetchone() == (1400,)
        else:
            last = done.stderr.strip().splitlines()[-1]
            assert (done.returncode, last.startswith("error: "), "full" in last) == (1, True, True), (
                done.stderr
            )
            assert "Traceback" not in done.stderr
