"""No line is ever lost: lines in = lines parsed + lines quarantined, whatever the bytes."""

from __future__ import annotations

import gzip
import tempfile
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.cowrie.read_report import ReadReport
from cowrie_enrich_dagster.cowrie.reader import RecordReader

from .logs import connect, joined, line, read

FILLING = b"\0 \t\r\v\f"
PIECES = [
    line(connect("aa01")).strip(),
    line(connect("aa02", at="2025-11-05T10:00:00Z")).strip(),
    b'{\n  "eventid": "cowrie.x",\n  "session": "aa03",\n  "timestamp": "2025-11-02T10:00:00Z"\n}',
    b'{"eventid": "cowrie.lo',
    b'{"eventid": 1}',
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b"\n",
    b"\r\n",
    b" ",
    b"\0\0\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"garbage",
]
LOGS = st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from([b"\n"]), st.binary(max_size=12))).map(
    b"".join
)


def non_blank_lines(content: bytes) -> int:
    """Lines that hold more than blanks (NULs are more, a byte order mark is not)."""
    count = 0
    for raw in content.split(b"\n"):
        body = raw.strip(FILLING)
        body = body[3:].lstrip(FILLING) if body.startswith(b"\xef\xbb\xbf") else body
        count += bool(body or b"\0" in raw)
    return count


def read_in_blocks(
    content: bytes, cuts: list[int]
) -> tuple[list[Any], list[tuple[int, int, str, bytes]], ReadReport]:
    """What the reader makes of `content` if it comes in blocks cut at these places."""
    records: list[Any] = []
    quarantined: list[tuple[int, int, str, bytes]] = []
    report = ReadReport()
    reader = RecordReader(
        lambda record, size: records.append(record), lambda *entry: quarantined.append(entry), report
    )
    places = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    for start, end in pairwise(places):
        reader.feed(content[start:end])
    reader.end("the end")
    return records, quarantined, report


@settings(max_examples=400, deadline=None)
@given(content=LOGS, cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_every_line_is_parsed_or_quarantined_once(content: bytes, cuts: list[int]) -> None:
    """Each line that is not blank is counted, and quarantined at most once, with its own number and place."""
    _, quarantined, report = read_in_blocks(content, cuts)
    numbers = [number for number, *_ in quarantined]
    lines = content.split(b"\n")
    assert report.lines_in == report.lines_parsed + report.lines_quarantined == non_blank_lines(content)
    assert len(numbers) == len(set(numbers)) == report.lines_quarantined
    for number, offset, reason, raw in quarantined:
        assert raw == lines[number - 1]
        assert offset == len(b"\n".join(lines[: number - 1])) + (number > 1)
        assert reason


@settings(max_examples=200, deadline=None)
@given(content=LOGS, cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_blocks_do_not_matter(content: bytes, cuts: list[int]) -> None:
    """What is read does not depend on how the bytes come in."""
    assert read_in_blocks(content, cuts) == read_in_blocks(content, [])


def test_the_place_of_a_line_after_a_large_one() -> None:
    """Also where texts of the large one are cut before it is decoded."""
    large = b'{"a": "' + b"x" * 2 * 1024**2 + b'"}\n'
    for content in (large + b"rubbish\n", large + large + b"rubbish"):
        _, quarantined, report = read_in_blocks(content, [*range(0, len(content), 300_000)])
        assert [(number, offset) for number, offset, *_ in quarantined] == [
            (content.count(b"\n", 0, content.index(b"r")) + 1, content.index(b"r"))
        ]
        assert report.lines_in == content.count(large) + 1


@settings(max_examples=60, deadline=None)
@given(files=st.lists(st.tuples(LOGS, st.booleans(), st.integers(0, 40)), min_size=1, max_size=3))
def test_no_input_stops_a_reading(files: list[tuple[bytes, bool, int]]) -> None:
    """Arbitrary files, plain or (cut-off) gzip, are read to the end with all lines accounted for."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (content, packed, cut) in enumerate(files):
            data = gzip.compress(content) if packed else content
            name = f"cowrie.json.{number}.gz" if packed else f"cowrie.json.{number}"
            (Path(folder) / name).write_bytes(data[: max(0, len(data) - cut)])
        first = date(2025, 11, 1)
        together = read(Path(folder), first, first + timedelta(days=5))  # checks the counts
        alone = [read(Path(folder), first + timedelta(days=number)).pieces for number in range(6)]
        assert together.sessions == joined(piece for day in alone for piece in day)
