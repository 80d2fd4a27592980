"""Which files, and which parts of them, a reading of some days touches."""

from __future__ import annotations

import bz2
import gc
import gzip
import json
import os
import random
import resource
import tracemalloc
from collections import Counter
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie import (
    FileIndex,
    PieceStream,
    fields,
    index_file,
    index_files,
    read_pieces,
)
from cowrie_enrich_dagster.cowrie.blocks import BLOCK_BYTES
from cowrie_enrich_dagster.cowrie.dayscan import DayScanner

from .logs import DAY, SAMPLES, connect, days_touched, event, joined, line, read

START = date(2025, 11, 1)


def records_of(days: int, per_day: int) -> list[bytes]:
    """Lines of `days` days in a row, each `per_day` sessions of one event."""
    return [
        line(
            connect(
                f"{day:02x}{number:06x}", at=f"{START + timedelta(days=day)}T{number % 24:02}:00:00.000000Z"
            )
        )
        for day in range(days)
        for number in range(per_day)
    ]


@pytest.fixture
def long_log(tmp_path: Path) -> Path:
    """A folder with one log that was not rotated for 20 days."""
    (tmp_path / "cowrie.json").write_bytes(b"".join(records_of(20, 1500)))
    return tmp_path


def test_only_the_days_near_are_read(long_log: Path) -> None:
    """Of a long log only the lines of the day asked for are read."""
    reading = read(long_log, START + timedelta(days=9))
    assert len(reading.sessions) == 1500
    assert reading.counts() == (1500, 1500, 0)
    assert [tuple(part) for part in reading.report.ranges] == [
        ("cowrie.json", 0, 0),
        ("cowrie.json", 9 * 1500 + 1, 10 * 1500),
    ]
    assert reading.report.events_of_other_days == 0


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_each_byte_is_read_once(tmp_path: Path, suffix: str) -> None:
    """A range of days reads each line of a log once, whether it is compressed or not."""
    content = b"".join(records_of(6, 3000))
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(suffix, bytes)
    (tmp_path / f"cowrie.json{suffix}").write_bytes(pack(content))
    reading = read(tmp_path, START, START + timedelta(days=5))
    assert reading.report.bytes == len(content)
    assert reading.counts() == (18000, 18000, 0)
    assert [session.day for session in reading.sessions] == sorted(
        session.day for session in reading.sessions
    )
    assert len(reading.sessions) == 18000


def test_files_of_other_days_are_not_opened(tmp_path: Path) -> None:
    """With a filled index, files of days far away are neither scanned nor read."""
    for day in range(10):
        stamp = START + timedelta(days=day)
        (tmp_path / f"cowrie.json.{stamp}").write_bytes(line(connect(at=f"{stamp}T12:00:00Z")))
    cache: dict[str, Any] = {}
    read(tmp_path, START, index_cache=cache)
    reading = read(tmp_path, START + timedelta(days=5), index_cache=cache)
    assert (reading.report.files_found, reading.report.files) == (10, 1)


@pytest.mark.parametrize("stamp_form", ["{}T{:02}:30:00.000000Z", "{}T{:02}:30:00+0200"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_any_single_day_is_the_same_as_in_the_range(tmp_path: Path, stamp_form: str, suffix: str) -> None:
    """Days read one by one give what the whole range gives, in local time or UTC, with lines out of order."""
    rng = random.Random(3)
    content = [
        line(
            connect(
                f"{number % 997:04x}",
                at=stamp_form.format(START + timedelta(days=number // 900), number % 24),
            )
        )
        for number in range(9000)
    ]
    for _ in range(40):  # stragglers from other days
        content.insert(rng.randrange(len(content)), content.pop(rng.randrange(len(content))))
    content.insert(
        4000, json.dumps(event("command.input", "beef", f"{START}T12:00:00Z"), indent=2).encode() + b"\n"
    )
    content.insert(5000, b"garbage\n\0\0\n{\n")
    raw = b"".join(content)
    (tmp_path / f"cowrie.json{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)
    cache: dict[str, Any] = {}
    together = read(tmp_path, START - timedelta(days=1), START + timedelta(days=11), index_cache=cache)
    assert together.report.events == 9001
    pieces = []
    for number in range(-1, 12):
        day = START + timedelta(days=number)
        alone = read(tmp_path, day, index_cache=cache)
        pieces += alone.pieces
        read_lines = {
            place
            for part in alone.report.ranges
            for place in range(part.first_line, 99_999 if part.last_line is None else part.last_line + 1)
        }
        expected = [entry for entry in together.quarantined if entry.line in read_lines]
        assert alone.quarantined == expected
    assert joined(pieces) == together.sessions


def test_days_that_alternate_all_the_time(tmp_path: Path) -> None:
    """A log whose lines jump between days all the time is still read right, and its index stays small."""
    lines = records_of(8, 1000)
    random.Random(5).shuffle(lines)
    (tmp_path / "cowrie.json").write_bytes(b"".join(lines))
    index = index_file(tmp_path / "cowrie.json")
    assert len(index.segments) <= 512
    assert len(json.dumps(index.to_dict())) < 50_000
    for number in (0, 4, 7):
        assert len(read(tmp_path, START + timedelta(days=number)).sessions) == 1000


def test_record_longer_than_a_block_at_the_change_of_day(tmp_path: Path) -> None:
    """A long record over several lines, its timestamp far behind its start, goes whole to its day."""
    at = f"{START + timedelta(days=3)}T00:00:01Z"
    long = json.dumps(
        {"input": "x" * (2 * BLOCK_BYTES), "more": 1} | event("command.input", "cafe", at), indent=1
    )
    content = [*records_of(1, 50), long.encode() + b"\n", line(connect("beef", at=at))]
    (tmp_path / "cowrie.json").write_bytes(b"".join(content))
    reading = read(tmp_path, START + timedelta(days=3))
    assert reading.ids == ["beef", "cafe"]
    assert reading.quarantined == []
    assert read(tmp_path, START).quarantined == []


def test_two_days_on_one_line(tmp_path: Path) -> None:
    """Two events of days far apart on one line are both found by the readings of their days."""
    first, second = records_of(1, 1)[0], line(connect("beef", at="2025-11-20T10:00:00Z"))
    (tmp_path / "cowrie.json").write_bytes(first * 3 + first.strip() + second + second)
    assert read(tmp_path, date(2025, 11, 20)).ids == ["beef"]
    assert read(tmp_path, START).sessions[0].event_count == 1
    assert read(tmp_path, START).report.duplicate_events == 3


@pytest.mark.parametrize("length", [100, 5000, 2 * BLOCK_BYTES])
def test_days_far_apart_on_one_line(tmp_path: Path, length: int) -> None:
    """However long a line is on which events of several days stand, each of these days finds its own."""
    days = [START, START, START + timedelta(days=9)]
    lines = [line(connect(f"aa0{number}", at=f"{day}T10:00:00Z")) for number, day in enumerate(days)]
    filling = line({"input": "x" * length}).rstrip()
    (tmp_path / "cowrie.json").write_bytes(lines[0] + lines[1].rstrip() + filling + lines[2])
    assert read(tmp_path, days[0]).ids == ["aa00", "aa01"]
    assert read(tmp_path, days[2]).ids == ["aa02"]


@pytest.mark.parametrize("between", [b"", b"\n"])
@pytest.mark.parametrize("half", [b'{"timestamp', b'{"timestamp": ', b'{"timestamp":"', b'{"timestamp":"20'])
def test_record_cut_off_inside_its_timestamp(tmp_path: Path, half: bytes, between: bytes) -> None:
    """The day of the record that follows is found, also where its timestamp comes first."""
    days = [START + timedelta(days=number) for number in (0, 9, 1)]
    first, later, other = (line(connect(f"aa{day:%d}", at=f"{day}T10:00:00Z")) for day in days)
    stamp_first = json.dumps({"timestamp": f"{days[2]}T10:00:00Z", **json.loads(other)}).encode()
    (tmp_path / "cowrie.json").write_bytes(later + half + between + stamp_first + b"\n" + later + first)
    assert read(tmp_path, days[2]).ids == ["aa02"]


def test_escaped_timestamp(tmp_path: Path) -> None:
    """A day is found although its timestamp is written with JSON escapes or blanks."""
    escaped = (
        line(connect("beef", at="2025-11-20T10:00:00+00:00"))
        .replace(b"+", rb"\u002B")
        .replace(b'":"2', b'"  : "2')
    )
    (tmp_path / "cowrie.json").write_bytes(records_of(1, 1)[0] + escaped)
    assert days_touched(tmp_path)["cowrie.json"] == {START, date(2025, 11, 20)}
    assert read(tmp_path, date(2025, 11, 20)).ids == ["beef"]


def test_index_does_not_depend_on_blocks() -> None:
    """Where the blocks are cut does not matter to the index, also in the middle of a line or its end."""
    content = b"".join(records_of(3, 40))
    expected = None
    for cut in range(5000, 5300):
        scanner = DayScanner()
        scanner.feed(content[:cut])
        scanner.feed(content[cut:])
        scanner.finish()
        found = (scanner.segments, scanner.record, scanner.length)
        assert found == (expected := expected or found)
    assert expected is not None
    assert [segment.line for segment in expected[0]] == [1, 41, 81]
    assert content[expected[1][0] :] == records_of(3, 40)[-1]


def test_many_sensors_with_logs_in_local_time(tmp_path: Path) -> None:
    """Logs that all reach into the next UTC day do not need to be open all at once."""
    for sensor in range(80):
        (tmp_path / f"hp{sensor}").mkdir()
        for day in (1, 2):
            content = line(connect(at=f"2025-11-0{day}T20:00:00Z", sensor=f"hp{sensor}"))
            content += line(connect("bb22", at=f"2025-11-0{day + 1}T04:00:00Z", sensor=f"hp{sensor}"))
            (tmp_path / f"hp{sensor}" / f"cowrie.json.2025-11-0{day}").write_bytes(content)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 40, hard))
    try:
        reading = read(tmp_path, START, START + timedelta(days=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reading.quarantined == []
    assert len(reading.sessions) == 80 * 2


def test_index_survives_json(long_log: Path) -> None:
    """An index comes back from JSON as it was, and a foreign one is not used."""
    index = index_file(long_log / "cowrie.json")
    assert FileIndex.from_dict(json.loads(json.dumps(index.to_dict()))) == index
    cache: dict[str, Any] = {"cowrie.json": {"size": "what"}, "gone.json": {}}
    assert index_files(long_log, cache)[next(iter(index_files(long_log)))] == index
    assert list(cache) == ["cowrie.json"]


def test_unchanged_file_is_not_scanned_again(long_log: Path) -> None:
    """A file that did not change is taken from the cache."""
    cache: dict[str, Any] = {}
    index_files(long_log, cache)
    path = long_log / "cowrie.json"
    stat = path.stat()
    path.write_bytes(b"#" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(days_touched(long_log, cache)["cowrie.json"]) == 20


@pytest.mark.parametrize("cut", [0, 1, 30, 60, 5000])
def test_grown_file_is_scanned_on(tmp_path: Path, cut: int) -> None:
    """A grown log, its last line perhaps half written before, gets the index that a fresh scan gives."""
    path = tmp_path / "cowrie.json"
    content = b"".join(records_of(4, 800))
    middle = content.index(line(connect("02000000", at="2025-11-03T00:00:00.000000Z"))) + 10_000
    path.write_bytes(content[: middle - cut])
    before = index_file(path)
    with path.open("ab") as log:
        log.write(content[middle - cut :])
    after = index_file(path, before)
    assert after == index_file(path)
    assert after.days_after(before.length) == {date(2025, 11, 3), date(2025, 11, 4)}
    assert after.days_touched == {START + timedelta(days=number) for number in range(4)}


def test_grown_file_is_not_read_from_its_start(tmp_path: Path) -> None:
    """Scanning a grown log leaves out what was scanned before."""
    path = tmp_path / "cowrie.json"
    path.write_bytes(b"".join(records_of(3, 2000)))
    before = index_file(path)
    with path.open("r+b") as log:
        log.seek(BLOCK_BYTES)
        log.write(b'"timestamp":"2001-01-01T00:00:00Z"')  # would be found if it was looked at again
        log.seek(0, os.SEEK_END)
        log.write(line(connect(at="2025-11-09T00:00:00Z")))
    after = index_file(path, before)
    assert after.days_touched - before.days_touched == {date(2025, 11, 9)}


def test_file_put_in_the_place_of_another_is_scanned_anew(tmp_path: Path) -> None:
    """After copy-and-truncate the same file with other, more content is scanned from its start."""
    path = tmp_path / "cowrie.json"
    path.write_bytes(b"".join(records_of(2, 10)))
    before = index_file(path)
    later = b"".join(line(connect(f"{n:04x}", at=f"2025-12-0{1 + n // 50}T00:00:00Z")) for n in range(100))
    path.write_bytes(later)
    assert index_file(path, before).days_touched == {date(2025, 12, 1), date(2025, 12, 2)}


def test_rotation_during_a_reading(tmp_path: Path) -> None:
    """A file that is replaced while a reading runs is told as such, not read at the wrong places."""
    path = tmp_path / "cowrie.json"
    path.write_bytes(b"".join(records_of(1, 10)))
    broken = []
    stream = read_pieces(tmp_path, START, START, on_quarantine=broken.append)
    path.rename(tmp_path / "moved")
    path.write_bytes(line(connect("beef", at=f"{START}T10:00:00Z")))
    assert [session for day in stream for session in day.pieces] == []
    assert "replaced" in broken[0].reason
    assert stream.report.files_broken == 1


def test_what_grows_during_a_reading_is_left_for_the_next(tmp_path: Path) -> None:
    """Lines appended after a reading began are not in it, so its days are read to one and the same point."""
    path = tmp_path / "cowrie.json"
    path.write_bytes(b"".join(records_of(1, 10)))
    stream = read_pieces(tmp_path, START, START)
    with path.open("ab") as log:
        log.write(line(connect("beef", at=f"{START}T10:00:00Z")))
    assert sum(1 for day in stream for _ in day.pieces) == 10


def test_every_day_is_given_in_order(tmp_path: Path) -> None:
    """Each day asked for is given once, in order, and counted also if its sessions were not taken."""
    (tmp_path / "cowrie.json").write_bytes(b"".join(records_of(2, 5)))
    stream = read_pieces(tmp_path, START - timedelta(days=1), START + timedelta(days=2))
    assert [day.day for day in stream] == [START + timedelta(days=number) for number in (-1, 0, 1, 2)]
    assert [counts.pieces for counts in stream.report.days.values()] == [0, 5, 5, 0]


def open_files(folder: Path) -> list[str]:
    """The names of the files in it that this process has open."""
    opened = [descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()]
    return [path.name for path in opened if path.parent == folder]


def test_a_reading_that_is_broken_off_leaves_no_file_open(long_log: Path) -> None:
    """Neither one that is closed nor one that is merely given up, and without waiting for the collector."""
    gc.disable()
    try:
        for end in (PieceStream.close, lambda _: None):
            stream = read_pieces(long_log, START, START + timedelta(days=19))
            next(stream)
            assert open_files(long_log) == ["cowrie.json"]
            end(stream)
            del stream
            assert open_files(long_log) == []
    finally:
        gc.enable()


def test_days_the_wrong_way_round(tmp_path: Path) -> None:
    """A range that ends before it begins is an error."""
    with pytest.raises(ValueError, match="2025-11-02, is after the last, 2025-11-01"):
        read_pieces(tmp_path, DAY, DAY - timedelta(days=1))


def test_sample_days_touched() -> None:
    """The days of each sample file are found, the session that crossed midnight included."""
    touched = days_touched(SAMPLES)
    assert touched["hp-sensor-a/cowrie.json.2025-11-04.gz"] == {date(2025, 11, 4)}
    assert Counter(day for days in touched.values() for day in days).keys() == {
        date(2025, 11, number) for number in (1, 2, 3, 4)
    }


def test_memory_does_not_grow_with_the_number_of_days(tmp_path: Path) -> None:
    """Reading a log of 16 days takes no more memory than reading one of 4."""
    peaks = []
    for days in (4, 16):
        (tmp_path / "cowrie.json").write_bytes(b"".join(records_of(days, 1000)))
        tracemalloc.start()
        stream = read_pieces(tmp_path, START, START + timedelta(days=days))
        assert sum(1 for day in stream for _ in day.pieces) == days * 1000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


def test_memory_does_not_grow_with_the_events_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of very many events costs a few bytes for each."""
    # With as many entries as it may have, when its table is made anew would be what is measured.
    monkeypatch.setattr(fields, "_clean_shared", lru_cache(maxsize=256)(fields._clean))

    peaks = []
    for count in (10_000, 30_000):  # from where a block of the file is full
        lines = (
            line(event("command.input", input=f"{number}", at=f"2025-11-02T10:00:00.{number:06}Z"))
            for number in range(count)
        )
        (tmp_path / "cowrie.json").write_bytes(b"".join(lines))
        tracemalloc.start()
        assert read(tmp_path).sessions[0].commands == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 20_000 < 8


def test_timestamps_with_an_offset_land_on_their_utc_day(tmp_path: Path) -> None:
    """Local times shortly after midnight belong to the UTC day before."""
    at = datetime(2025, 11, 3, 0, 30).isoformat() + "+0200"
    (tmp_path / "cowrie.json.2025-11-03").write_bytes(line(connect(at=at)))
    assert days_touched(tmp_path)["cowrie.json.2025-11-03"] == {DAY}
    assert [session.day for session in read(tmp_path, DAY).sessions] == [DAY]
