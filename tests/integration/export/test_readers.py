"""Exports as others read them: names and types are of ECS or our own; DuckDB and pandas lose nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cowrie_enrich_dagster.export import ExportFormat, Wanted, export_days
from cowrie_enrich_dagster.storage.engine import Database
from tests.integration.export.conftest import DAY, HOSTILE
from tests.integration.export.ecs_fields import ALLOWED, TYPES, VERSION

EVERYTHING = Wanted(passwords=True, answers=True)
FITS = {
    "keyword": lambda value: isinstance(value, str),
    "wildcard": lambda value: isinstance(value, str),
    "long": lambda value: type(value) is int and -(2**63) <= value < 2**63,
    "date": lambda value: bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")),
    "ip": lambda value: bool(ip_address(value)),
}


def fields(document: dict[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that is not ours, with each of its values."""
    for name, value in document.items():
        path = inside + name
        if path == "cowrie":
            continue
        if isinstance(value, dict):
            yield from fields(value, path + ".")
        else:
            yield from ((path, one) for one in (value if isinstance(value, list) else [value]))


def test_json_has_fields_of_ecs_and_our_own_alone(hostile: Database, tmp_path: Path) -> None:
    """Each of ECS has a value that its type takes."""
    export_days(hostile, DAY, ExportFormat.JSON, tmp_path / "out.json", EVERYTHING)
    found = set()
    for text in (tmp_path / "out.json").read_bytes().decode().removesuffix("\n").split("\n"):
        document = json.loads(text)
        assert document["ecs"]["version"] == VERSION
        for name, value in fields(document):
            found.add(name)
            assert FITS[TYPES[name]](value), (name, value)
            assert value in ALLOWED.get(name, {value})
    assert found == set(TYPES)


def test_columns_have_the_same_names(hostile: Database, tmp_path: Path) -> None:
    """Parquet's and CSV's are the fields of the JSON, without what is the same in each document."""
    export_days(hostile, DAY, ExportFormat.PARQUET, tmp_path / "out.parquet", EVERYTHING)
    export_days(hostile, DAY, ExportFormat.CSV, tmp_path / "out.csv", EVERYTHING)
    names = pq.read_schema(tmp_path / "out.parquet").names
    assert {name for name in names if not name.startswith("cowrie.")} == {
        name
        for name in TYPES
        if name not in {*ALLOWED, "@timestamp", "ecs.version", "event.dataset"}
        and not name.startswith(("observer.type", "observer.product"))
    }
    with (tmp_path / "out.csv").open(newline="") as file:
        assert file.readline().rstrip("\r\n").split(",") == names


def test_duckdb_reads_json_and_csv(hostile: Database, tmp_path: Path) -> None:
    """Every hostile text is what it was; in CSV by the documented recipe."""
    duckdb = pytest.importorskip("duckdb")
    export_days(hostile, DAY, ExportFormat.JSON, tmp_path / "out.json")
    told = duckdb.sql(
        'SELECT "user".name, process.command_line[1], cowrie.files[1].name '
        f"FROM read_json('{tmp_path}/out.json', format = 'newline_delimited') ORDER BY cowrie.session_id"
    ).fetchall()
    assert told == [(text,) * 3 for text in HOSTILE]
    export_days(hostile, DAY, ExportFormat.CSV, tmp_path / "out.csv")
    cells = duckdb.sql(
        f"SELECT \"user.name\" FROM read_csv('{tmp_path}/out.csv', all_varchar = true, header = true, "
        "delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n', "
        'max_line_size = 10000000) ORDER BY "cowrie.session_id"'
    ).fetchall()
    assert [re.sub(r"(^|[;\t\r\n])'", r"\1", cell or "") for (cell,) in cells] == HOSTILE


def test_pandas_reads_json(hostile: Database, tmp_path: Path) -> None:
    """As documents with UTC moments."""
    export_days(hostile, DAY, ExportFormat.JSON, tmp_path / "out.json")
    frame = pd.read_json(tmp_path / "out.json", lines=True)
    assert str(pd.to_datetime(frame["@timestamp"]).dt.tz) == "UTC"
    frame = frame.sort_values("cowrie", key=lambda column: column.map(lambda ours: ours["session_id"]))
    assert [user["name"] for user in frame["user"]] == HOSTILE
