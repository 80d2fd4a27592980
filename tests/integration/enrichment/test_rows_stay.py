"""However cheaply logs are read: the rows and counts that were once right, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowrie_enrich_dagster.enrichment.ingest import ingest_days
from cowrie_enrich_dagster.storage.engine import Database
from tests import rows

INPUTS = rows.inputs()
EXPECTED = json.loads(rows.GOLDEN.read_text())


def test_each_input_is_known() -> None:
    """`python -m tests.rows` writes them, where what is right has changed."""
    assert list(INPUTS) == list(EXPECTED)


@pytest.mark.parametrize("kind", ["samples", "case", "generated", "ids", "log", "corpus"])
def test_rows_are_the_same(database: Database, tmp_path: Path, kind: str) -> None:
    """Of samples, cases, generated logs in their wrappings, ids used again, and the fuzzing's."""
    differing = []
    for number, (name, write) in enumerate(INPUTS.items()):
        if not name.startswith(kind):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder)
        rows.emptied(database)
        found = rows.told(database, ingest_days(database, folder, rows.days_of(database, folder)))
        expected, bytes_expected = EXPECTED[name]
        if rows.digest(found) != expected:
            differing.append(name)
        elif database.is_sqlite and rows.digest_of_bytes(found) != bytes_expected:
            differing.append(f"{name}, in its bytes")
    assert differing == []
