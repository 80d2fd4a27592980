"""A look at the logs in steps: what was read is kept, what did not change is not read."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie import index_file, index_files, scan
from cowrie_enrich_dagster.cowrie.blocks import BLOCK_BYTES
from tests.unit.cowrie.test_days import START, records_of

A_MOMENT = 1e-9
"""Time for one block, or one compressed file."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A plain file of many blocks, a compressed one, and a small one."""
    body = b"".join(records_of(4, 2000))
    assert len(body) > 4 * BLOCK_BYTES
    (tmp_path / "cowrie.json.1").write_bytes(body)
    (tmp_path / "cowrie.json.2.gz").write_bytes(gzip.compress(body, compresslevel=1))
    (tmp_path / "cowrie.json").write_bytes(records_of(1, 1)[0])
    return tmp_path


class Cache(dict[str, Any]):
    """Counts what is written into it."""

    writes = 0

    def __setitem__(self, name: str, entry: Any) -> None:
        self.writes += 1
        super().__setitem__(name, entry)


def test_many_short_looks_find_what_a_long_one_finds(archive: Path) -> None:
    """Each gets further by a block or a file, from nothing but the cache."""
    cache: dict[str, Any] = {}
    done = []
    while not (found := scan(archive, cache, A_MOMENT)).complete:
        done.append(found.bytes_done)
    assert done == sorted(set(done))
    assert len(done) > 4
    assert found.bytes_done == found.bytes_total == sum(path.stat().st_size for path in archive.iterdir())
    assert found.indexes == index_files(archive)
    assert list(found.indexes) == list(index_files(archive))


def test_no_time_at_all_is_a_look_at_what_is_known(archive: Path) -> None:
    """Nothing is read, and the files that would have to be are missing."""
    cache: dict[str, Any] = {}
    found = scan(archive, cache, 0)
    assert (found.indexes, found.bytes_done, found.complete, cache) == ({}, 0, False, {})
    scan(archive, cache)
    assert scan(archive, cache, 0).complete


def test_a_plain_file_left_in_the_middle_is_not_read_again(archive: Path) -> None:
    """The next look goes on at the last record of the one before."""
    cache: dict[str, Any] = {}
    scan(archive, cache, A_MOMENT)  # the small file
    scan(archive, cache, A_MOMENT)
    path = archive / "cowrie.json.1"
    assert not cache[path.name]["complete"]
    with path.open("r+b") as log:
        log.seek(100_000)
        log.write(b'"timestamp":"2001-01-01T00:00:00Z"')  # would be found if it was looked at again
    while not (found := scan(archive, cache, A_MOMENT)).complete:
        pass
    days = {file.name: index.days_touched for file, index in found.indexes.items()}
    assert days[path.name] == {START + timedelta(days=number) for number in range(4)}
    assert date(2001, 1, 1) in index_file(path).days_touched


def test_a_file_that_grows_while_it_is_read_in_steps(archive: Path) -> None:
    """Is read to its new end."""
    path = archive / "cowrie.json.1"
    cache: dict[str, Any] = {}
    for body in records_of(9, 300)[-600:]:
        with path.open("ab") as log:
            log.write(body)
        if not cache.get(path.name, {}).get("complete"):
            scan(archive, cache, A_MOMENT)
    while not (found := scan(archive, cache, A_MOMENT)).complete:
        pass
    assert found.indexes == index_files(archive)


def test_within_a_large_file_the_cache_is_written_as_it_goes(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a look without a limit: a run that is killed in the middle loses a step."""
    monkeypatch.setattr(sys.modules[scan.__module__], "STEP_SECONDS", A_MOMENT)
    cache = Cache()
    told: list[tuple[int, int]] = []
    found = scan(archive, cache, progress=lambda done, total: told.append((done, total)))
    assert cache.writes == len(told) > 5
    assert told == sorted(told)
    assert told[-1] == (found.bytes_total, found.bytes_total)


def test_what_did_not_change_is_not_written(archive: Path) -> None:
    """A second look writes nothing, a third only what grew."""
    cache = Cache()
    scan(archive, cache)
    cache.writes = 0
    assert scan(archive, cache).complete
    assert cache.writes == 0
    with (archive / "cowrie.json").open("ab") as log:
        log.write(records_of(1, 1)[0])
    scan(archive, cache)
    assert cache.writes == 1


def test_a_vanished_and_an_unreadable_file(archive: Path) -> None:
    """One is forgotten, the other is done with: its index says why."""
    cache: dict[str, Any] = {}
    scan(archive, cache)
    (archive / "cowrie.json").unlink()
    packed = archive / "cowrie.json.2.gz"
    packed.write_bytes(packed.read_bytes()[:1000])
    (archive / "cowrie.json.3").symlink_to(archive / "nowhere")
    found = scan(archive, cache, 60)
    assert found.complete
    assert sorted(cache) == ["cowrie.json.1", "cowrie.json.2.gz", "cowrie.json.3"]
    assert [bool(index.fault) for index in found.indexes.values()] == [False, True, True]


def docker(record: bytes) -> bytes:
    """The record as docker's json-file wraps it."""
    return json.dumps({"log": record.decode(), "stream": "stdout"}).encode() + b"\n"


def containerd(record: bytes) -> bytes:
    """The record behind the prefix of CRI."""
    return b"2025-11-01T00:00:00.123456789Z stdout F " + record


@pytest.mark.parametrize("wrap", [docker, containerd])
def test_a_wrapped_log_in_steps(tmp_path: Path, wrap: Callable[[bytes], bytes]) -> None:
    """The form that the first step told holds for the others."""
    records = [record for day in records_of(4, 2000) for record in day.splitlines(keepends=True)]
    (tmp_path / "pot.log").write_bytes(b"".join(map(wrap, records)))
    cache: dict[str, Any] = {}
    looks = 1
    while not (found := scan(tmp_path, cache, A_MOMENT)).complete:
        looks += 1
    (index,) = found.indexes.values()
    assert looks > 4
    assert index == index_file(tmp_path / "pot.log")
    assert index.days_touched >= {START + timedelta(days=number) for number in range(4)}


def test_an_array_on_one_line_is_not_left_in_the_middle(tmp_path: Path) -> None:
    """No record begins a line, so each step would begin at the beginning again."""
    body = b",".join(b"".join(records_of(4, 2000)).splitlines())
    (tmp_path / "export.json").write_bytes(b"[" + body + b"]")
    found = scan(tmp_path, {}, A_MOMENT)
    assert (found.complete, found.bytes_done) == (True, len(body) + 2)


def test_a_long_stretch_without_any_day_is_got_over(tmp_path: Path) -> None:
    """A look that found no day yet in a named log is gone on from."""
    undated = b'{"eventid": "cowrie.session.connect"}\n' * 30_000
    (tmp_path / "cowrie.json").write_bytes(undated + records_of(1, 1)[0])
    cache: dict[str, Any] = {}
    looks = 1
    while not (found := scan(tmp_path, cache, A_MOMENT)).complete:
        looks += 1
        assert looks < 9
    (index,) = found.indexes.values()
    assert looks > 3
    assert index.passed_over is None
    assert START in index.days_touched


def test_what_is_no_log_is_done_with_after_one_look(archive: Path) -> None:
    """Its bytes count as done, the verdict stands while it does not change, and it is told."""
    (archive / "notes.txt").write_bytes(b"no log\n" * 100_000)
    (archive / "tty").mkdir()
    cache = Cache()
    found = scan(archive, cache)
    assert found.bytes_done == found.bytes_total > 700_000
    assert cache.keys() == {"cowrie.json", "cowrie.json.1", "cowrie.json.2.gz", "notes.txt"}
    cache.writes = 0
    again = scan(archive, cache, 0)
    assert (again.complete, again.indexes, cache.writes) == (True, found.indexes, 0)
    assert {file.name for file, index in again.indexes.items() if index.passed_over} == {"notes.txt", "tty"}
    (archive / "notes.txt").write_bytes(records_of(1, 1)[0])
    assert {file.name for file, index in scan(archive, cache).indexes.items() if index.passed_over} == {"tty"}
