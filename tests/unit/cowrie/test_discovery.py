"""Which files are logs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cowrie import find_log_files

from .logs import connect, line, read

TAKEN = [
    "cowrie.json",
    "cowrie.json.1",
    "cowrie.json.2025-11-01",
    "cowrie.json.2025-11-01.gz",
    "cowrie.json.2025-11-02.bz2",
    "cowrie.json.2018_3_14",
    "cowrie.json-20251101.gz",
    "cowrie.json.gz",
]
LEFT = [
    "cowrie.log",
    "cowrie.json.swp",
    "cowrie.json~",
    "xcowrie.json",
    "cowrie.json.2025-11-01.tmp",
    "cowrie.jsonl",
]


def names(root: Path) -> list[str]:
    return [file.name for file in find_log_files(root)]


def test_rotation_names(tmp_path: Path) -> None:
    """The log, its rotations and their compressed forms are taken at any depth, sorted; nothing else is."""
    for name in TAKEN + LEFT:
        for folder in (tmp_path, tmp_path / "a" / "b" / "c"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    assert names(tmp_path) == sorted(TAKEN + [f"a/b/c/{name}" for name in TAKEN])


def test_symlink_loops_and_second_paths(tmp_path: Path) -> None:
    """Links that lead in circles are harmless, and a file reached by two paths is read once."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "cowrie.json").write_bytes(line(connect()))
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to("self")
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "cowrie.json.1").hardlink_to(tmp_path / "real" / "cowrie.json")
    assert names(tmp_path) == ["real/cowrie.json"]


def test_folder_named_like_a_log(tmp_path: Path) -> None:
    """A folder with a log's name is a folder."""
    (tmp_path / "cowrie.json").mkdir()
    (tmp_path / "cowrie.json" / "cowrie.json.1").write_bytes(line(connect()))
    assert names(tmp_path) == ["cowrie.json/cowrie.json.1"]


def test_name_that_is_not_unicode(tmp_path: Path) -> None:
    """A folder name that is not UTF-8 is shown escaped, and the logs in it are read."""
    folder = os.fsencode(tmp_path) + b"/hp\xff"
    os.mkdir(folder)  # noqa: PTH102 (a Path cannot hold these bytes plainly)
    record = connect()
    del record["sensor"]
    (Path(os.fsdecode(folder)) / "cowrie.json").write_bytes(line(record))
    assert names(tmp_path) == [r"hp\xff/cowrie.json"]
    assert read(tmp_path).sessions[0].sensor == r"hp\xff"


def test_no_log_folder(tmp_path: Path) -> None:
    """A log folder that does not exist is an error that names it."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_log_files(tmp_path / "nowhere")


def test_folder_that_cannot_be_listed() -> None:
    """A folder without permission is told as broken; the logs beside it are read."""
    root = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    try:
        (root / "closed").mkdir()
        (root / "cowrie.json").write_bytes(line(connect()))
        (root / "cowrie.json.1").write_bytes(line(connect("aa12")))
        root.chmod(0o755)
        (root / "closed").chmod(0)
        (root / "cowrie.json.1").chmod(0)
        if was_root:
            os.seteuid(65534)
        reading = read(root)
        assert reading.ids == ["aa11"]
        assert {entry.path: entry.reason for entry in reading.quarantined} == {
            "closed": "cannot be read: Permission denied",
            "cowrie.json.1": "cannot be read: Permission denied",
        }
    finally:
        if was_root:
            os.seteuid(0)
        (root / "closed").chmod(0o700)
        shutil.rmtree(root)
