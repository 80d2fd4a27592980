"""Every kind of damage that is found in real logs, or that attackers can bring about."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import tracemalloc
from datetime import date
from pathlib import Path

import pytest

from cowrie_enrich_dagster.cowrie import reader
from cowrie_enrich_dagster.cowrie.salvage import split_records

from .logs import connect, event, line, read, read_bytes

ONE = line(connect("aa01"))
TWO = line(connect("aa02"))
THREE = line(connect("aa03"))
PRETTY = json.dumps(connect("aa02"), indent=4).encode() + b"\n"
BOM = b"\xef\xbb\xbf"
DEEP = (1_100, 5_000, 100_000)
"""Levels: decoders give up at other ones, and in other words, from one version of Python to the next."""


def test_crlf(tmp_path: Path) -> None:
    """Lines that end in CR LF are read like all others."""
    reading = read_bytes(tmp_path, (ONE + TWO).replace(b"\n", b"\r\n") + b"\r\n")
    assert reading.ids == ["aa01", "aa02"]
    assert reading.counts() == (2, 2, 0)


def test_bom(tmp_path: Path) -> None:
    """A byte order mark at the start of a file, or of a part of it, is passed over."""
    reading = read_bytes(tmp_path, BOM + ONE + BOM + TWO + BOM + b"\n")
    assert reading.ids == ["aa01", "aa02"]
    assert reading.counts() == (2, 2, 0)


def test_nul_run_before_a_record(tmp_path: Path) -> None:
    """NULs that a crash left before a record cost nothing; a line of nothing else is quarantined."""
    reading = read_bytes(tmp_path, ONE + b"\0" * 5000 + TWO + b"\0" * 70 + b"\n" + THREE)
    assert reading.ids == ["aa01", "aa02", "aa03"]
    assert reading.reasons == {3: "nothing but NUL bytes"}


def test_record_cut_off_by_nuls(tmp_path: Path) -> None:
    """A record that breaks off in NULs is quarantined, the one that follows on the same line is read."""
    reading = read_bytes(tmp_path, ONE[:40] + b"\0" * 600 + TWO + THREE)
    assert reading.ids == ["aa02", "aa03"]
    assert list(reading.reasons) == [1]


def test_half_a_record_then_a_whole_one(tmp_path: Path) -> None:
    """After a half-written record the next one on the same line is read, the line is quarantined."""
    reading = read_bytes(tmp_path, ONE[:45] + TWO + THREE)
    assert reading.ids == ["aa02", "aa03"]
    assert reading.counts() == (2, 1, 1)
    assert "aa02" in reading.quarantined[0].excerpt


def test_invalid_utf8(tmp_path: Path) -> None:
    """An event with bytes that are not UTF-8 counts, with replacement characters in their place."""
    login = line(event("login.failed", "aa01", username="r@t", password="p")).replace(b"r@t", b"r\xff\xfet")
    reading = read_bytes(tmp_path, login)
    assert reading.sessions[0].username == "r\ufffd\ufffdt"
    assert reading.counts() == (1, 1, 0)


@pytest.mark.parametrize("escape", [r"\udc80", r"\ud83d", r"\ud83dx\udc80"])
def test_lone_surrogate_is_no_way_to_hide(tmp_path: Path, escape: str) -> None:
    """An escaped half of a surrogate pair, which orjson refuses, does not cost the event."""
    login = line(event("login.success", "aa01", username="X", password="p")).replace(
        b'"X"', f'"{escape}"'.encode()
    )
    reading = read_bytes(tmp_path, login)
    assert reading.sessions[0].login_successes == 1
    (reading.sessions[0].username or "").encode()
    assert reading.counts() == (1, 1, 0)


def test_two_objects_on_one_line(tmp_path: Path) -> None:
    """Two events on one line are two events and one line."""
    reading = read_bytes(tmp_path, ONE.strip() + TWO.strip() + b" " + THREE)
    assert reading.ids == ["aa01", "aa02", "aa03"]
    assert reading.counts() == (1, 1, 0)


def test_pretty_printed(tmp_path: Path) -> None:
    """An event over several lines is one event; every one of its lines counts as read."""
    reading = read_bytes(tmp_path, ONE + PRETTY + THREE)
    lines = PRETTY.count(b"\n") + 2
    assert reading.ids == ["aa01", "aa02", "aa03"]
    assert reading.counts() == (lines, lines, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"# a comment\n", b"and more\n"),
        (b"\x01\x02{\n", b"}\n]\n"),
        (b'{"eventid": "cowrie.lo\n', b'{"eventid": "cowrie.lo\n'),
        (b'{"eventid": "cowrie.login.failed",\n', b'"x": 1}\n'),
        (b"half a line: ", b"}\n"),
    ],
)
def test_pretty_printed_amid_garbage(tmp_path: Path, before: bytes, after: bytes) -> None:
    """Garbage around an event over several lines is quarantined by the line; the events are read."""
    garbage = before.count(b"\n") + after.count(b"\n") + (not before.endswith(b"\n"))
    reading = read_bytes(tmp_path, ONE + before + PRETTY + after + THREE)
    assert reading.ids == ["aa01", "aa02", "aa03"]
    assert reading.report.lines_quarantined == garbage
    assert reading.report.lines_in == (ONE + before + PRETTY + after + THREE).count(b"\n")


def test_pretty_printed_with_nested_objects(tmp_path: Path) -> None:
    """Objects and lists inside an event over many lines do not end it."""
    record = connect("aa02", kexAlgs=[{"name": f"alg{number}", "of": [1, 2]} for number in range(40)])
    pretty = json.dumps(record, indent=2).encode() + b"\n"
    reading = read_bytes(tmp_path, ONE + pretty + THREE)
    assert reading.ids == ["aa01", "aa02", "aa03"]
    assert reading.quarantined == []


def test_indented_records_after_an_open_brace(tmp_path: Path) -> None:
    """A stray open brace costs only its own line, however many indented records follow."""
    many = b"".join(b"  " + line(connect(f"{number:05x}")) for number in range(12_000))
    reading = read_bytes(tmp_path, b"stray {\n" + many)
    assert len(reading.sessions) == 12_000
    assert list(reading.reasons) == [1]


def test_several_half_records_on_one_line(tmp_path: Path) -> None:
    """A whole record after several half-written ones on the same line is read."""
    assert read_bytes(tmp_path, ONE[:45] * 5 + TWO).ids == ["aa02"]


def test_event_over_several_lines_without_a_field(tmp_path: Path) -> None:
    """All lines of an event that is not valid are quarantined with the field's name."""
    bad = json.dumps({"eventid": "cowrie.x", "session": "aa09"}, indent=1).encode() + b"\n"
    reading = read_bytes(tmp_path, ONE + bad + THREE)
    assert reading.ids == ["aa01", "aa03"]
    assert reading.reasons == dict.fromkeys(range(2, 6), "timestamp: missing or not a string")


def test_open_record_before_a_line_of_a_much_later_day(tmp_path: Path) -> None:
    """An event on a line that something left open costs nothing, though the next line is of days later."""
    later = line(connect("aa02", at="2025-11-05T10:00:00Z")).rstrip()
    reading = read_bytes(tmp_path, ONE.rstrip() + b'{"a": [\n' + later, last=date(2025, 11, 4))
    assert reading.ids == ["aa01"]
    assert reading.report.events_of_other_days == 0


def test_ten_megabyte_line(tmp_path: Path) -> None:
    """A line of 10 MB is read; what is kept of it is clipped."""
    login = line(event("login.failed", "aa01", username="u" * 10_000_000, password="p"))
    reading = read_bytes(tmp_path, ONE + login + THREE)
    assert reading.ids == ["aa01", "aa03"]
    assert reading.sessions[0].username == "u" * 256
    assert reading.counts() == (3, 3, 0)


@pytest.mark.parametrize("name", ["cowrie.json", "cowrie.json.gz", "cowrie.json.bz2"])
def test_line_above_the_limit_is_not_held(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer line than 32 MiB (here: 1 MiB) is quarantined without being held; its neighbours are read."""
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1024 * 1024)
    content = ONE + b'{"x": "' + b"A" * 20_000_000 + b'"}\n' + THREE
    pack = {"cowrie.json.gz": gzip.compress, "cowrie.json.bz2": bz2.compress}.get(name, bytes)
    (tmp_path / name).write_bytes(pack(content))
    del content
    tracemalloc.start()
    reading = read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading.ids == ["aa01", "aa03"]
    assert reading.reasons == {2: "longer than 1 MiB"}
    assert reading.quarantined[0].byte_offset == len(ONE)
    assert peak < 6_000_000


def test_too_long_line_inside_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event over several lines of which one is too long is quarantined, not read without that line."""
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1024 * 1024)
    long = b'"x": "' + b"A" * 2_000_000 + b'",\n'
    reading = read_bytes(tmp_path, PRETTY.replace(b"{\n", b"{\n" + long) + b"rubbish\n" + ONE)
    assert reading.ids == ["aa01"]
    assert reading.reasons[2] == "longer than 1 MiB"
    rubbish = reading.quarantined[-1]
    assert (rubbish.excerpt, rubbish.byte_offset) == ("rubbish", len(PRETTY) + len(long))


def test_line_limit_is_32_mib() -> None:
    """Only lines above 32 MiB are refused for their length."""
    assert reader.MAX_LINE_BYTES == 32 * 1024 * 1024


def test_cut_off_gzip(tmp_path: Path) -> None:
    """Of a gzip file that breaks off, all that can be read is read; the fault is told, other files go on."""
    records = [line(connect(f"{number:04x}", uuid=os.urandom(30).hex())) for number in range(2000)]
    whole = gzip.compress(b"".join(records))
    (tmp_path / "cowrie.json.1.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cowrie.json").write_bytes(line(connect("ffff")))
    reading = read(tmp_path)
    assert 900 < len(reading.sessions) < 1100
    assert "ffff" in reading.ids
    fault = reading.quarantined[-1]
    assert (fault.path, fault.line, fault.reason) == (
        "cowrie.json.1.gz",
        0,
        "gzip data is cut off before its end",
    )
    assert fault.byte_offset > 90_000
    assert reading.report.files_broken == 1


def test_damage_inside_gzip(tmp_path: Path) -> None:
    """All events before the damaged byte of a gzip file are read, and none is made up."""
    records = [line(connect(f"{number:04x}", uuid=os.urandom(30).hex())) for number in range(2000)]
    whole = bytearray(gzip.compress(b"".join(records)))
    whole[-6] ^= 0xFF  # in the checksum: the data itself is all there
    reading = read_bytes(tmp_path, bytes(whole), "cowrie.json.gz")
    assert len(reading.sessions) == 2000
    assert reading.reasons[0].startswith("gzip data is damaged")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cowrie.json.bz2", b"BZh9 this is no bzip2 data"),
        ("cowrie.json.bz2", bz2.compress(ONE * 99)[:60]),
        ("cowrie.json.gz", gzip.compress(ONE, mtime=0)[:5]),
    ],
)
def test_file_that_cannot_be_decompressed(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is not what its first bytes say is told as broken (line 0), and the others are read."""
    (tmp_path / name).write_bytes(content)
    (tmp_path / "cowrie.json.1").write_bytes(TWO)
    reading = read(tmp_path)
    assert reading.ids == ["aa02"]
    assert [(line.path, line.line) for line in reading.quarantined] == [(name, 0)]


def test_several_gzip_members_with_padding(tmp_path: Path) -> None:
    """Gzip files that were appended to one another are read to the last, zeros between them passed over."""
    content = gzip.compress(ONE) + gzip.compress(TWO) + b"\0" * 512 + gzip.compress(THREE) + b"\0" * 99
    assert read_bytes(tmp_path, content, "cowrie.json.2025-11-02.gz").ids == ["aa01", "aa02", "aa03"]


def test_several_bzip2_streams(tmp_path: Path) -> None:
    """Bzip2 files that were appended to one another are read to the last."""
    content = bz2.compress(ONE) + bz2.compress(TWO)
    assert read_bytes(tmp_path, content, "cowrie.json.2025-11-02.bz2").ids == ["aa01", "aa02"]


def test_compressed_bomb(tmp_path: Path) -> None:
    """A small file that expands to 200 MB does not expand in memory."""
    bomb = gzip.compress(ONE + (b" " * 999_999 + b"\n") * 200 + TWO, compresslevel=1)
    (tmp_path / "cowrie.json.gz").write_bytes(bomb)
    del bomb
    tracemalloc.start()
    reading = read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading.ids == ["aa01", "aa02"]
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["cowrie.json", "cowrie.json.gz", "cowrie.json.bz2"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    """An empty file is no fault."""
    reading = read_bytes(tmp_path, b"", name)
    assert reading.counts() == (0, 0, 0)
    assert reading.quarantined == []


def test_blank_lines(tmp_path: Path) -> None:
    """Blank lines count neither as read nor as quarantined, inside an event neither."""
    reading = read_bytes(tmp_path, b"\n  \n" + ONE + b"\r\n\t\n" + PRETTY.replace(b",\n", b",\n\n") + b"\n")
    assert reading.ids == ["aa01", "aa02"]
    lines = 1 + PRETTY.count(b"\n")
    assert reading.counts() == (lines, lines, 0)


def test_growing_file_with_a_whole_last_line(tmp_path: Path) -> None:
    """A last line without line feed is read if it is a whole record."""
    reading = read_bytes(tmp_path, ONE + TWO.rstrip())
    assert reading.ids == ["aa01", "aa02"]
    assert reading.counts() == (2, 2, 0)


def test_growing_file_with_half_a_last_line(tmp_path: Path) -> None:
    """Half a last line is quarantined as perhaps still being written, and read once it is whole."""
    reading = read_bytes(tmp_path, ONE + TWO[:-20])
    assert reading.ids == ["aa01"]
    assert "may still be being written" in reading.reasons[2]
    again = read_bytes(tmp_path, ONE + TWO)
    assert again.ids == ["aa01", "aa02"]
    assert again.quarantined == []


@pytest.mark.parametrize("raw", [b"null", b"[]", b"17", b"\x80\x04\x95\xff", b"\x1f\x8b\x08\x00"])
def test_last_line_that_was_never_a_record(tmp_path: Path, raw: bytes) -> None:
    """A last line that is whole, but no object, is not said to be unfinished, with or without line feed."""
    for end in (b"", b"\n"):
        assert read_bytes(tmp_path, ONE + raw + end).reasons == {2: "not a JSON object"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": NaN}', "not JSON: a number out of range"),
        (b'{"a": 1e999}', "not JSON: a number out of range"),
        *[(b'{"a": ' + b"[" * deep + b"]" * deep + b"}", "nested too deep") for deep in DEEP],
        (b'{"a":' * 100_000, "cut off: the next record starts"),
        (b"[" * 300 + b"]" * 300, "not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: a number out of range"),
        (b'"just text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"17", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "eventid"),
        (b"\xff\xfe\x00{", "cut off: the next record starts"),
        (b"\xff\xfe\x00}", "not a JSON object"),
        (b'{"a\x01": 1}', "not JSON"),
    ],
)
def test_json_that_is_no_event(tmp_path: Path, raw: bytes, reason: str) -> None:
    """JSON that cannot be an event, however built, is one quarantined line and stops nothing."""
    reading = read_bytes(tmp_path, ONE + raw + b"\n" + THREE)
    assert reading.ids == ["aa01", "aa03"]
    assert reading.counts() == (3, 2, 1)
    assert reading.reasons[2].startswith(reason)


@pytest.mark.parametrize("deep", DEEP)
def test_a_log_may_begin_with_what_is_nested_too_deep(tmp_path: Path, deep: int) -> None:
    """It is a log by its other lines."""
    raw = b'{"a": ' + b"[" * deep + b"]" * deep + b"}\n"
    reading = read_bytes(tmp_path, raw + ONE + THREE)
    assert reading.ids == ["aa01", "aa03"]
    assert reading.reasons == {1: "nested too deep"}


def test_event_nested_too_deep_to_be_compared(tmp_path: Path) -> None:
    """An otherwise valid event with a field nested too deep is quarantined."""
    deep = ONE.replace(b'"sensor"', b'"x":' + b"[" * 500 + b"]" * 500 + b',"sensor"')
    assert read_bytes(tmp_path, deep).reasons == {1: "nested too deep"}


@pytest.mark.parametrize("depth", range(240, 1100, 60))
def test_any_depth_of_nesting(tmp_path: Path, depth: int) -> None:
    """No depth of nesting stops the reading, also not in a line that is unusual for another reason."""
    deep = b'{"v": "\\ud800", "x": ' + b"[" * depth + b"]" * depth + b"}\n"
    reading = read_bytes(tmp_path, deep + deep.replace(b'"\\ud800"', b"NaN") + ONE)
    assert reading.ids == ["aa01"]
    assert reading.report.lines_quarantined == 2


def test_work_on_hostile_lines_is_bounded(tmp_path: Path) -> None:
    """A line made to be tried again at every place is given up after a few tries."""
    assert len(list(split_records('{"a":[' * 1000))) < 20
    reading = read_bytes(tmp_path, b'{"a":[' * 200_000 + b"\n" + b'{"' * 200_000 + b"\n" + ONE)
    assert reading.ids == ["aa01"]
    assert reading.report.lines_quarantined == 2


def test_excerpt_is_printable(tmp_path: Path) -> None:
    """What is shown of a quarantined line is printable, at most 200 characters; the rest is escaped."""
    reading = read_bytes(tmp_path, b"\x1b[2J\0<script>\xff\xe2\x80\xae" + b"z" * 1000 + b"\n" + ONE)
    assert reading.quarantined[0].excerpt.startswith(r"\x1b[2J\x00<script>\xff\u202e" + "zzz")


def test_quarantine_names_the_place(tmp_path: Path) -> None:
    """A quarantined line is named by file, line and byte offset."""
    (tmp_path / "west").mkdir()
    (tmp_path / "west" / "cowrie.json").write_bytes(ONE + b"\n" + b"rubbish\n" + TWO)
    reading = read(tmp_path)
    found = reading.quarantined[0]
    assert (found.path, found.line, found.byte_offset) == ("west/cowrie.json", 3, len(ONE) + 1)
    assert found.excerpt == "rubbish"


def test_unreadable_things_with_a_log_name(tmp_path: Path) -> None:
    """A link to nothing and a pipe with a log's name are told as broken, and do not block."""
    (tmp_path / "cowrie.json.1").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "cowrie.json.2")
    reading = read_bytes(tmp_path, ONE)
    assert reading.ids == ["aa01"]
    assert {line.path: line.reason for line in reading.quarantined} == {
        "cowrie.json.1": "cannot be read: No such file or directory",
        "cowrie.json.2": "cannot be read: not a regular file",
    }


def test_file_without_any_timestamp(tmp_path: Path) -> None:
    """A file in which no day can be found is read by every run, and every line of it is accounted for."""
    (tmp_path / "cowrie.json.1").write_bytes(b"no\njson\nat all\n")
    for day in (1, 20):
        reading = read_bytes(tmp_path, ONE, first=date(2025, 11, day))
        assert reading.report.lines_quarantined == 3
