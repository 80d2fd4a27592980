"""Whatever a file holds, the memory it takes and what is kept of its rubbish are bounded."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cowrie import Session, read_pieces
from cowrie_enrich_dagster.cowrie.read_report import QuarantinedLine

from .logs import DAY, connect, event, line, read, read_bytes

MIB = 1024 * 1024
ONE = line(connect("aa01"))
LAST = line(connect("aa02"))
_MEASURE = """
import re, sys
from datetime import date
from pathlib import Path
from cowrie_enrich_dagster.cowrie import Session, read_pieces
day = date.fromisoformat(sys.argv[2])
lines = []
stream = read_pieces(Path(sys.argv[1]), day, day, on_quarantine=lines.append)
ids = [Session.of_row(row).session_id for of_day in stream for rows in of_day.pieces for row in rows]
report = stream.report
assert report.lines_in == report.lines_parsed + report.lines_quarantined
# Not getrusage: its peak is that of the process which started this one, if that was greater.
peak = re.search(r"VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, report.lines_quarantined, *ids)
"""


def measured(folder: Path) -> tuple[int, int, list[str]]:
    """Reads the folder in a process of its own: its peak in MiB, lines quarantined, ids of the sessions."""
    command = [sys.executable, "-c", _MEASURE, str(folder), str(DAY)]
    peak, quarantined, *ids = subprocess.run(command, check=True, capture_output=True).stdout.decode().split()
    return int(peak), int(quarantined), ids


def typed(what: bytes) -> bytes:
    return line(event("command.input", "beef", input="X")).replace(b"X", what)


LARGE: dict[str, tuple[Callable[[], bytes], bool]] = {
    "backslashes, escaped": (lambda: typed(b"\\" * 31 * MIB), True),
    "backslashes alone": (lambda: b"\\" * 31 * MIB + b"\n", False),
    "a text that does not end": (lambda: b'{"a": "' + b'\\"' * 15 * MIB + b"\n", False),
    "a lone surrogate": (lambda: typed(rb"\ud800" + b"x" * 30 * MIB), True),
    "a wide character": (lambda: typed("\U0001f600".encode() + b"x" * 30 * MIB), True),
    "lists": (lambda: b'{"a": [' + b"[]," * 10 * MIB + b"[]]}\n", False),
    "quotation marks": (lambda: b'"' * 31 * MIB + b"\n", False),
}


@pytest.mark.parametrize(("content", "is_event"), LARGE.values(), ids=LARGE)
def test_memory_is_bounded(tmp_path: Path, content: Callable[[], bytes], is_event: bool) -> None:
    """A line of 31 MB takes less than 300 MiB, process and all, is counted, and costs no other line."""
    (tmp_path / "cowrie.json").write_bytes(ONE + content() + LAST)
    peak, quarantined, ids = measured(tmp_path)
    assert peak < 300
    assert ids == (["aa01", "aa02", "beef"] if is_event else ["aa01", "aa02"])
    assert quarantined == (not is_event)


def test_large_record_in_an_array(tmp_path: Path) -> None:
    """In an array of one line a record above 4 MiB is not held; what follows it is read."""
    large = typed(b"\\" * 20 * MIB).strip()
    (tmp_path / "a.json").write_bytes(b"[" + b", ".join([ONE.strip(), large, LAST.strip()]) + b"]")
    peak, quarantined, ids = measured(tmp_path)
    assert peak < 300
    assert (ids, quarantined) == (["aa01", "aa02"], 1)


def test_what_is_cut_from_large_events_still_tells_them_apart(tmp_path: Path) -> None:
    """Two events that differ only far behind are two; the same one twice is one."""
    far = [typed(b"x" * 3 * MIB + end) for end in (b"a", b"b", b"a")]
    session = read_bytes(tmp_path, b"".join(far)).sessions[0]
    assert session.commands == 2


def test_rubbish_is_counted_not_kept(tmp_path: Path) -> None:
    """Of more than a thousand lines of a file, one row for each reason tells how many more there were."""
    content = ONE + b"x\n" * 3000 + b"{}\n" * 500 + LAST
    (tmp_path / "cowrie.json.gz").write_bytes(gzip.compress(content))
    kept: list[QuarantinedLine] = []
    stream = read_pieces(tmp_path, DAY, DAY, on_quarantine=kept.append)
    assert [Session.of_row(row).session_id for day in stream for (row,) in day.pieces] == ["aa01", "aa02"]
    report = stream.report
    assert (report.lines_in, report.lines_parsed, report.lines_quarantined) == (3502, 2, 3500)
    assert len(kept) == 1002
    assert [(row.line, row.reason, row.excerpt) for row in kept[-2:]] == [
        (1002, "not a JSON object (and so 1999 more lines, up to line 3001)", "x"),
        (3002, "eventid: missing, empty or not a string (and so 499 more lines, up to line 3501)", "{}"),
    ]
    assert (kept[999].line, kept[999].reason) == (1001, "not a JSON object")
    assert kept[-1].byte_offset == content.index(b"{}")


def test_unchanged_files_that_are_no_logs_are_not_opened_again(tmp_path: Path) -> None:
    """What was found in them is remembered; when they change they are looked at anew."""
    (tmp_path / "cowrie.json").write_bytes(ONE)
    other = tmp_path / "20160101-120000-tty.log"
    other.write_bytes(b"\0\1\2 keystrokes")
    cache: dict[str, dict[str, object]] = {}
    read(tmp_path, index_cache=cache)
    stat = other.stat()
    other.write_bytes(line(connect("evil"))[: stat.st_size])
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.chmod(0)
    assert [str(passed) for passed in read(tmp_path, index_cache=cache).report.passed_over] == [
        "20160101-120000-tty.log: not JSON, and no lines with JSON behind a known prefix"
    ]
    other.chmod(0o600)
    other.write_bytes(line(connect("late")))
    assert read(tmp_path, index_cache=cache).ids == ["aa01", "late"]
