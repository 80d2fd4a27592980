"""However cheaply logs are read: the rows and counts that were once right, byte for byte."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.enrichment.ingest import ingest_days
from cowrie_enrich_dagster.enrichment.pieces import replace_day
from cowrie_enrich_dagster.storage.engine import Database
from tests import rows
from tests.unit.cowrie.test_processes import readers

INPUTS = rows.inputs()
EXPECTED = json.loads(rows.GOLDEN.read_text())


def test_each_input_is_known() -> None:
    """`python -m tests.rows` writes them, where what is right has changed."""
    assert list(INPUTS) == list(EXPECTED)


def differing(database: Database, folder: Path, names: Iterable[str], workers: int = 1) -> list[str]:
    """Those of the inputs of which not the same is read."""
    differing = []
    for name in names:
        logs = folder / name.replace("/", "-")
        logs.mkdir()
        INPUTS[name](logs)
        rows.emptied(database)
        days = rows.days_of(database, logs)
        found = rows.told(database, ingest_days(database, logs, days, workers=workers))
        expected, bytes_expected = EXPECTED[name]
        if rows.digest(found) != expected:
            differing.append(name)
        elif database.is_sqlite and rows.digest_of_bytes(found) != bytes_expected:
            differing.append(f"{name}, in its bytes")
    return differing


@pytest.mark.parametrize("kind", ["samples", "case", "generated", "ids", "log", "corpus"])
def test_rows_are_the_same(database: Database, tmp_path: Path, kind: str) -> None:
    """Of samples, cases, generated logs in their wrappings, ids used again, and the fuzzing's."""
    assert differing(database, tmp_path, [name for name in INPUTS if name.startswith(kind)]) == []


@pytest.mark.parametrize(
    ("database_url", "workers"), [("sqlite", 2), ("postgresql", 3)], indirect=["database_url"]
)
def test_rows_are_the_same_by_several_processes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """However little there is to read; of inputs with days that can be read apart. Processes that read know
    nothing of the engine: what is generated is shown on one of the two."""
    monkeypatch.setattr("cowrie_enrich_dagster.cowrie.shares.LEAST_BYTES", 1)
    names = [name for name in INPUTS if name.startswith(("generated", "ids"))][workers % 2 :: 2]
    names += ["samples", "cases together", "corpus together", "log_file 1", "log_form 3", "log_lines 2"]
    assert differing(database, tmp_path, names, workers) == []


def test_a_process_that_is_killed_costs_no_row(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All is read again by one, and the log says why."""
    monkeypatch.setattr("cowrie_enrich_dagster.cowrie.shares.LEAST_BYTES", 1)
    written = []

    def kills(*arguments: Any) -> None:
        replace_day(*arguments)
        written.append(arguments[1].day)
        if len(written) == 1:  # of eight: they are at most three days ahead, each
            for pid in readers(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr("cowrie_enrich_dagster.enrichment.ingest.replace_day", kills)
    assert differing(database, tmp_path, ["ids used again 0"], 2) == []
    assert 1 <= len(written) - 8 <= 6
    assert len(set(written[-8:])) == 8
    (told,) = [message for message in caplog.messages if "by one process" in message]
    assert re.fullmatch(r"the process that read 2025-11-\d\d.* was ended by SIGKILL; .*", told)


def test_rows_that_cannot_be_packed_are_read_by_one(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the disk for temporary files is full: nothing is missing, and the log says what failed."""
    monkeypatch.setattr("cowrie_enrich_dagster.cowrie.shares.LEAST_BYTES", 1)
    monkeypatch.setattr(
        "cowrie_enrich_dagster.cowrie.processes.TemporaryDirectory", lambda **_: nullcontext("/nowhere")
    )
    assert differing(database, tmp_path, ["ids used again 1"], 2) == []
    (told,) = [message for message in caplog.messages if "by one process" in message]
    assert re.fullmatch(
        r"the process that read 2025-11-\d\d.* failed: \w*Error: .*; all is read again.*", told
    )
