"""Which files are looked at."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cowrie import find_log_files

from .logs import connect, line, read


def names(root: Path) -> list[str]:
    return [file.name for file in find_log_files(root)]


def test_every_name_is_looked_at(tmp_path: Path) -> None:
    """Whatever a file is called and however deep it lies, it is looked at."""
    files = ["a.log", "b/c/d/e", "cowrie.json", "cowrie.json.1", "f.json.gz"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == files


@pytest.mark.parametrize("folder", ["downloads", "dl", "tty", "honeyfs"])
def test_what_attackers_place_is_not_looked_into(tmp_path: Path, folder: str) -> None:
    """An uploaded "cowrie.json" is no log, at whatever depth and by whatever link; that is said once."""
    (tmp_path / "var" / folder / "deep").mkdir(parents=True)
    (tmp_path / "var" / folder / "cowrie.json").write_bytes(line(connect("evil")))
    (tmp_path / "var" / folder / "deep" / "cowrie.json").write_bytes(line(connect("evil")))
    (tmp_path / "linked").symlink_to(tmp_path / "var" / folder)
    (tmp_path / "cowrie.json").write_bytes(line(connect()))
    reading = read(tmp_path)
    assert reading.ids == ["aa11"]
    assert [str(passed) for passed in reading.report.passed_over] == [
        f"linked, var/{folder}: a folder in which attackers place files"
    ]


@pytest.mark.parametrize("length", [32, 40, 64])
def test_files_named_by_a_hash_are_not_looked_into(tmp_path: Path, length: int) -> None:
    """They are what attackers brought, whatever they hold, and counted. A container's log is none of them."""
    for number in range(3):
        (tmp_path / f"{number:0{length}x}").write_bytes(line(connect("evil")))
    (tmp_path / f"{9:0{length}x}.json").write_bytes(line(connect("evil")))
    (tmp_path / f"{9:0{length}x}-json.log").write_bytes(line(connect()))
    reading = read(tmp_path)
    assert reading.ids == ["aa11"]
    assert [str(passed) for passed in reading.report.passed_over] == [
        "*: 4 files named by a hash, as Cowrie keeps what attackers place"
    ]


def test_symlink_loops_and_second_paths(tmp_path: Path) -> None:
    """Links that lead in circles are harmless, and a file reached by two paths is read once."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "cowrie.json").write_bytes(line(connect()))
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to("self")
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "cowrie.json.1").hardlink_to(tmp_path / "real" / "cowrie.json")
    assert names(tmp_path) == ["real/cowrie.json", "real/self"]
    assert [str(passed) for passed in read(tmp_path).report.passed_over] == [
        "real/self: cannot be read: Too many levels of symbolic links"
    ]


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
