"""Parquet, CSV and JSON hold exactly what the table holds, and nothing that can do harm."""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import sys
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.export import ExportFormat, Wanted, export_days
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.export.conftest import DAY, HOSTILE, START, session, store

TEXTS = ("user.name", "source.as.organization.name", "cowrie.file.label", "cowrie.source.classification")
csv.field_size_limit(sys.maxsize)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    return sorted(rows, key=lambda row: row["cowrie.session_id"])


def original(cell: str) -> str:
    """The recipe of the documentation."""
    return re.sub(r"(^|[;\t\r\n])'", r"\1", cell)


def test_csv_gives_hostile_texts_back_exactly(hostile: Database, tmp_path: Path) -> None:
    """Python's own CSV reader and the documented recipe restore every text, the JSON without any recipe."""
    report = export_days(hostile, DAY, ExportFormat.CSV, tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert report.rows == len(rows) == len(HOSTILE)
    assert report.size == (tmp_path / "out.csv").stat().st_size
    for name in TEXTS:
        assert [original(row[name]) for row in rows] == HOSTILE
    answers = [json.loads(row["cowrie.intel"])["dshield"] for row in rows]
    assert [answer["feed"] for answer in answers] == HOSTILE
    assert [json.loads(row["process.command_line"]) for row in rows] == [[text] for text in HOSTILE]
    assert [json.loads(row["cowrie.files"])[0]["name"] for row in rows] == HOSTILE
    assert [json.loads(row["cowrie.provenance"])["file_label"] for row in rows] == HOSTILE


def test_no_csv_cell_can_be_a_formula(hostile: Database, tmp_path: Path) -> None:
    """Whatever separator a spreadsheet takes, and if it knows no quotes: no cell of text begins a formula."""
    export_days(hostile, DAY, ExportFormat.CSV, tmp_path / "out.csv")
    content = (tmp_path / "out.csv").read_bytes().decode()
    by_reader = {
        separator: [
            cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator) for cell in row
        ]
        for separator in ",;\t"
    }
    cells = [*chain.from_iterable(by_reader.values()), *re.split(r"[;\t\r\n]", content)]
    assert len(by_reader[","]) == (content.split("\r\n")[0].count(",") + 1) * (len(HOSTILE) + 1)
    assert {cell.strip()[:1] for cell in cells}.isdisjoint(set("=+-@＝＋－＠"))
    assert not any(cell.startswith(("\t", "\r", "\n")) for cell in by_reader[","])


def test_csv_keeps_numbers_moments_and_nulls_apart_from_texts(database: Database, tmp_path: Path) -> None:
    """Numbers are bare and add up in pandas, moments parse as UTC, null is empty, the empty text is not."""
    store(database, [session(1, user_name=None), session(2, user_name="", source_is_scanner=True)])
    path = tmp_path / "out.csv"
    export_days(database, DAY, ExportFormat.CSV, path)
    frame = pd.read_csv(path, parse_dates=["event.start", "event.end"])
    assert frame["event.duration"].sum() == 2 * 2_500_000_000
    assert frame["source.as.number"].tolist() == [4200000001] * 2
    assert set(frame["event.start"]) == {pd.Timestamp(START)}
    lines = sorted(path.read_bytes().decode().split("\r\n")[1:3])
    assert ',"NO",2222,,3,1,2,1,0,"global",,,,false,90,,12,' in lines[0]
    assert ',"NO",2222,"",3,1,2,1,0,"global",true,,,false,90,,12,' in lines[1]


def documents(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    return sorted(found, key=lambda document: document["cowrie"]["session_id"])


def test_json_lines_are_ecs_documents(hostile: Database, tmp_path: Path) -> None:
    """One document a line, ECS objects within, every text as it was."""
    export_days(hostile, DAY, ExportFormat.JSON, tmp_path / "out.json")
    found = documents(tmp_path / "out.json")
    assert [document["user"]["name"] for document in found] == HOSTILE
    first = found[0]
    assert first["source"]["as"] == {"number": 4200000001, "organization": {"name": HOSTILE[0]}}
    assert first["source"]["geo"] == {"country_iso_code": "NO"}
    assert (first["source"]["ip"], first["source"]["port"]) == ("8.8.4.4", 40000)
    assert first["observer"]["name"] == "pot-1"
    assert first["network"]["protocol"] == "ssh"
    assert first["@timestamp"] == first["event"]["start"] == "2025-11-01T23:59:58.123456Z"
    assert first["event"]["end"] == "2025-11-02T00:00:00.623456Z"
    assert first["event"]["duration"] == 2_500_000_000
    assert first["cowrie"]["login"] == {"failures": 3, "successes": 1}
    assert first["cowrie"]["provenance"]["file_label"] == HOSTILE[0]
    assert first["cowrie"]["intel"]["dshield"]["feed"] == HOSTILE[0]
    assert [document["process"]["command_line"] for document in found] == [[text] for text in HOSTILE]
    assert [document["cowrie"]["tunnels"][0]["host"] for document in found] == HOSTILE
    assert first["file"] == {"hash": {"sha256": ["ab" * 32]}}
    assert first["url"] == {"full": ["http://198.51.100.9/x"]}


def test_json_leaves_out_what_is_not_known(database: Database, tmp_path: Path) -> None:
    """No nulls; what is no address is `source.address` but never `source.ip`, which an index would refuse."""
    store(database, [session(1, source_ip="not an address", source_scope="invalid", source_as_number=None)])
    export_days(database, DAY, ExportFormat.JSON, tmp_path / "out.json")
    (document,) = documents(tmp_path / "out.json")
    assert document["source"]["address"] == "not an address"
    assert "ip" not in document["source"]
    assert "user" not in document
    assert "provenance" not in document["cowrie"]
    assert "null" not in (tmp_path / "out.json").read_text()


def test_parquet_has_types_and_the_same_texts(hostile: Database, tmp_path: Path) -> None:
    """pyarrow reads UTC moments, integers and every text; pandas agrees."""
    export_days(hostile, DAY, ExportFormat.PARQUET, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").sort_by("cowrie.session_id")
    assert table.schema.field("event.start").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("cowrie.day").type == pa.date32()
    assert table.schema.field("event.duration").type == pa.int64()
    assert table.schema.field("cowrie.source.is_scanner").type == pa.bool_()
    assert table["event.start"][0].as_py() == START
    for name in TEXTS:
        assert table[name].to_pylist() == HOSTILE
    assert table["cowrie.source.is_scanner"].null_count == len(HOSTILE)
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["source.as.number"].unique().tolist() == [4200000001]
    answers = [json.loads(text)["dshield"]["feed"] for text in table["cowrie.intel"].to_pylist()]
    assert answers == HOSTILE
    assert table["process.command_line"].to_pylist() == [[text] for text in HOSTILE]
    assert table.schema.field("cowrie.logins").type.value_type.field("attempts").type == pa.int64()
    assert [login[0]["username"] for login in table["cowrie.logins"].to_pylist()] == HOSTILE
    assert frame["cowrie.tunnels"].iloc[0][0]["port"] == 443


def test_only_the_chosen_days_are_exported(database: Database, tmp_path: Path) -> None:
    """A session belongs to the day it began; a day without sessions makes a valid, empty file."""
    other = datetime(2025, 11, 2, 1, tzinfo=timezone.utc)
    store(
        database,
        [session(1), session(2, day=other.date(), event_start=other, event_end=other, source_ip="9.9.9.9")],
    )
    path = tmp_path / "out"
    for file_format in ExportFormat:
        assert export_days(database, DAY, file_format, path).rows == 1
        assert b"9.9.9.9" not in path.read_bytes()
        assert export_days(database, Days.parse("2025-11-01..2025-11-02"), file_format, path).rows == 2
        assert export_days(database, Days.parse("2024-01-01"), file_format, path).rows == 0
        if file_format is ExportFormat.PARQUET:
            assert pq.read_table(path).num_rows == 0


def test_many_batches_lose_and_repeat_nothing(database: Database, tmp_path: Path) -> None:
    """More sessions than one batch holds: each is in the file once."""
    store(database, [session(number) for number in range(12_001)])
    for file_format in (ExportFormat.CSV, ExportFormat.PARQUET):
        path = tmp_path / f"out.{file_format}"
        assert export_days(database, DAY, file_format, path).rows == 12_001
        frame = pd.read_csv(path) if file_format is ExportFormat.CSV else pd.read_parquet(path)
        assert frame["cowrie.session_id"].nunique() == len(frame) == 12_001


def test_a_failed_export_leaves_the_old_file(database: Database, tmp_path: Path) -> None:
    """The disk is full in the middle: what stood there stays whole, and no part of the new file is left."""
    store(database, [session(number) for number in range(6_000)])
    folder = tmp_path / "exports"
    folder.mkdir()
    path = folder / "out.json"
    path.write_text("of yesterday")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            export_days(database, DAY, ExportFormat.JSON, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "of yesterday"
    assert list(folder.iterdir()) == [path]


def test_text_goes_to_stdout_and_parquet_does_not(
    database: Database, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Without a destination the text formats are printed; Parquet asks for a file."""
    store(database, [session(1)])
    assert export_days(database, DAY, ExportFormat.CSV, None).rows == 1
    assert capsysbinary.readouterr().out.startswith(b"observer.name,cowrie.session_id,")
    with pytest.raises(ValueError, match="name a file"):
        export_days(database, DAY, ExportFormat.PARQUET, None)


@pytest.mark.parametrize("file_format", [ExportFormat.CSV, ExportFormat.JSON, ExportFormat.PARQUET])
def test_passwords_and_answers_only_where_they_are_wanted(
    database: Database, tmp_path: Path, file_format: ExportFormat
) -> None:
    """Neither is in a file that may be passed on, unless somebody said so."""
    login = {"username": "root", "password": "s3cret-pw", "key": None, "success": True, "attempts": 2}
    told = {"status": "found", "fetched_at": f"{START:%Y-%m-%dT%H:%M:%SZ}"}
    before_v17 = {"status": "found", "fetched_at": START.isoformat(), "stale": False}
    store(
        database,
        [
            session(number, password="s3cret-pw", logins=[login], intel={"dshield": intel})
            for number, intel in enumerate((told, before_v17))
        ],
    )
    payload = {"ip": {"number": "8.8.4.4", "asname": "whole-answer"}}
    entry = CacheEntry.of_answer("dshield", "8.8.4.4", payload, fetched_at=START, ttl=timedelta(days=7))
    DatabaseCache(database).set(entry)

    def written(wanted: Wanted) -> str:
        path = tmp_path / "out"
        export_days(database, DAY, file_format, path, wanted)
        if file_format is ExportFormat.PARQUET:
            return str(pq.read_table(path).to_pylist())
        return path.read_text()

    for wanted in (Wanted(), Wanted(passwords=True), Wanted(answers=True), Wanted(True, True)):
        content = written(wanted)
        assert ("s3cret-pw" in content) == wanted.passwords
        assert content.count("whole-answer") == (2 if wanted.answers else 0)


def test_duckdb_reads_lists_of_parquet(hostile: Database, tmp_path: Path) -> None:
    """As lists and structs, by name."""
    duckdb = pytest.importorskip("duckdb")
    export_days(hostile, DAY, ExportFormat.PARQUET, tmp_path / "out.parquet")
    query = (
        'SELECT "cowrie.logins"[1].username, "process.command_line"[1] '
        f"FROM '{tmp_path}/out.parquet' ORDER BY \"cowrie.session_id\""
    )
    assert duckdb.sql(query).fetchall() == [(text, text) for text in HOSTILE]


def test_the_blocklist(database: Database, tmp_path: Path) -> None:
    """Whoever tried something; never scanners, own, private or invalid ones, and nobody twice."""
    quiet = dict.fromkeys(("login_failures", "login_successes", "commands", "downloads", "uploads"), 0)
    store(
        database,
        [
            session(1, source_ip="9.9.9.9"),
            session(2, source_ip="9.9.9.9"),
            session(3, source_ip="10.9.9.9", source_scope="private"),
            session(4, source_ip="8.8.8.8", source_is_scanner=True),
            session(5, source_ip="8.8.8.8", source_is_scanner=None),
            session(6, source_ip="2001:4860:4860::8888"),
            session(7, source_ip="8.8.4.4", source_scope="own"),
            session(8, source_ip="1.1.1.1", **quiet),
            session(9, source_ip="1.0.0.1", **{**quiet, "commands": 1}),
            session(10, source_ip="x\n8.8.4.9", source_scope="invalid"),
        ],
    )
    assert export_days(database, DAY, ExportFormat.BLOCKLIST, tmp_path / "list").rows == 3
    lines = (tmp_path / "list").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "1.0.0.1",
        "9.9.9.9",
        "2001:4860:4860::8888",
    ]
    assert lines[0].startswith("# ")
