"""A look at the logs in steps: what was read is kept, what did not change is not read."""

from __future__ import annotations

import gzip
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie import catalogue, index_file, scan
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
    assert found.indexes == catalogue(archive)
    assert list(found.indexes) == list(catalogue(archive))


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
    assert found.indexes == catalogue(archive)


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
    (archive / "cowrie.json.2.gz").write_bytes(b"no gzip")
    (archive / "cowrie.json.3").symlink_to(archive / "nowhere")
    found = scan(archive, cache, 60)
    assert found.complete
    assert sorted(cache) == ["cowrie.json.1", "cowrie.json.2.gz", "cowrie.json.3"]
    assert [bool(index.fault) for index in found.indexes.values()] == [False, True, True]
