"""The log parser: in memory, from a file, and from damaged compressed files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import orjson
from backports import zstd

from cowrie_enrich_dagster.cowrie import ReadReport, Session, index_file
from cowrie_enrich_dagster.cowrie.blocks import is_compressed
from cowrie_enrich_dagster.cowrie.events import Event, InvalidEvent, parse_event
from cowrie_enrich_dagster.cowrie.forms import Form
from cowrie_enrich_dagster.cowrie.sessioniser import Sessioniser
from cowrie_enrich_dagster.cowrie.stretches import reader_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.fuzz.log_lines import log_of_lines
from tests.fuzz.mutate import bytes_mutated
from tests.fuzz.target import SCRATCH, Seeds, Target
from tests.unit.cowrie.logs import joined, read
from tests.unit.cowrie.test_line_counts import non_blank_lines

FIRST_DAY, LAST_DAY = date(2025, 11, 1), date(2025, 11, 3)
DAYS = ((FIRST_DAY, LAST_DAY), *((date(2025, 11, day), date(2025, 11, day)) for day in (1, 2, 3)))
LINES_PER_LOG = 400
LINES_PER_FILE = 40
LINES_PER_PACKED_FILE = 4
_LONGEST_TEXT = {"session_id": 64, "sensor": 128, "src_ip": 64, "protocol": 16, "urls": 2048}
_LONGEST_CODE = dict.fromkeys(("hassh", "arch", "ja4h", "ja4", "file_hashes", "passwords_sha1"), 64)
_DEEDS = {"logins": 200, "command_lines": 500, "files": 200, "tunnels": 200}
_MOST_VALUES = {"file_hashes": 200, "urls": 200, "passwords_sha1": 1000}


_LINES = Form()


class InMemory:
    """One reading of a log's bytes without files, in blocks cut at every multiple of `block`.

    In the plain way: every record is made an event, and every event marked. With `as_files` it is read as
    logs are, which takes fewer steps.
    """

    def __init__(
        self,
        content: bytes,
        block: int,
        days: tuple[date, date] = (FIRST_DAY, LAST_DAY),
        form: Form = _LINES,
        *,
        as_files: bool = False,
    ) -> None:
        self._as_files = as_files
        self._records: list[tuple[Any, int]] = []
        self.report = ReadReport()
        self.quarantined: list[tuple[int, int, str, bytes]] = []
        self.identities: set[int] = set()
        self._events: list[Event] = []
        reader = reader_of(form, self._take, lambda *entry: self.quarantined.append(entry), self.report)
        for start in range(0, len(content), block):
            reader.feed(content[start : start + block])
        reader.end("the end")
        sessioniser = Sessioniser(*days, self.report)
        self.report.events = 0
        self._give(sessioniser)
        pieces: list[Session] = []
        for day in Days(*days):
            if tangled := sessioniser.tangled(day):
                assert as_files or all(again.is_counted for again in tangled.values())
                again = Sessioniser(day, day, ReadReport(), tangled)
                self._give(again)
                sessioniser.replace(day, again)
            pieces += [Session.of_row(row) for of_id in sessioniser.finish(day) for row in of_id]
        self.sessions = joined(pieces)

    def _take(self, record: object, size: int) -> None:
        event = parse_event(record, "unknown")
        self._records.append((record, size))
        self.identities.add(event.identity)
        self._events.append(event)

    def _give(self, sessioniser: Sessioniser) -> None:
        if self._as_files:
            take = sessioniser.taker("unknown")
            for record, size in self._records:
                take(record, size)
            return
        sessioniser._marks = True
        for event in self._events:
            sessioniser.add(event)


def check_lines(content: bytes) -> Counter[str]:
    """No line is lost or counted twice, none hides another, and how the bytes come in does not matter."""
    reading = InMemory(content, 1 + len(content))
    report, lines = reading.report, content.split(b"\n")
    assert report.lines_in == report.lines_parsed + report.lines_quarantined == non_blank_lines(content)
    assert report.lines_quarantined == len(reading.quarantined) == len({n for n, *_ in reading.quarantined})
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for number, offset, reason, raw in reading.quarantined:
        assert reason
        assert reason.isprintable()
        assert (raw, offset) == (lines[number - 1], starts[number - 1])
    for number, line in enumerate(lines, 1):
        event = _event_alone(line)
        assert event is None or event.identity in reading.identities, f"the event of line {number} is hidden"
    for session in reading.sessions:
        check_session(session)
    again = InMemory(content, 1 + zlib.crc32(content) % 4096, as_files=True)
    assert (again.sessions, again.quarantined) == (reading.sessions, reading.quarantined)
    assert again.report == report
    return _tally(report)


def check_file(content: bytes) -> Counter[str]:
    """A file gives what its bytes give: no event is lost on the way by days and offsets."""
    return _check_as("cowrie.json", content, lambda data: data)


def check_gzip(packed: bytes) -> Counter[str]:
    """However a gzip file is damaged, it is read to the damage, and what is whole is read wholly."""
    return _check_as("cowrie.json.1.gz", packed, gzip.decompress)


def check_bzip2(packed: bytes) -> Counter[str]:
    """However a bzip2 file is damaged, it is read to the damage, and what is whole is read wholly."""
    return _check_as("cowrie.json.1.bz2", packed, bz2.decompress)


def check_xz(packed: bytes) -> Counter[str]:
    """However an xz file is damaged, it is read to the damage, and what is whole is read wholly."""
    return _check_as("cowrie.json.1.xz", packed, lzma.decompress)


def check_zstd(packed: bytes) -> Counter[str]:
    """However a zstd file is damaged, it is read to the damage, and what is whole is read wholly."""
    return _check_as("cowrie.json.1.zst", packed, zstd.decompress)


def check_form(content: bytes) -> Counter[str]:
    """A file of any form, under a name that says nothing, gives what its bytes give in that form."""
    return _check_as("pot.log", content, lambda data: data)


def check_session(session: Session) -> None:
    """Every text is one that any database holds, and no longer than promised."""
    for name, value in session._asdict().items():
        if name in _DEEDS:
            check_deeds(name, value)
            continue
        texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
        longest = _LONGEST_TEXT.get(name) or _LONGEST_CODE.get(name, 256)
        for text in texts:
            assert 0 < len(text) <= longest, name
            assert "\0" not in text, name
            text.encode()
        if isinstance(value, tuple):
            assert list(value) == sorted(set(value)), name
            assert len(value) <= _MOST_VALUES[name], name
        elif isinstance(value, int):
            assert 0 <= value < 2**63, name
    assert session.day == session.started_at.date()
    assert session.started_at <= session.ended_at < session.started_at + timedelta(days=3)
    assert session.event_count > 0


def check_deeds(name: str, items: tuple[Any, ...]) -> None:
    """Bounded lists of bounded values, as JSON and every database hold them."""
    assert len(items) <= _DEEDS[name]
    for item in items:
        for value in item.values() if isinstance(item, dict) else [item]:
            assert value is None or isinstance(value, (int, str))
            assert not isinstance(value, str) or (len(value) <= 4096 and "\0" not in value)
    orjson.dumps(items).decode()


def _check_as(name: str, data: bytes, unpack: Callable[[bytes], bytes]) -> Counter[str]:
    days = DAYS[zlib.crc32(data) % len(DAYS)]
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        (Path(folder) / name).write_bytes(data)
        index, was_unpacked = index_file(Path(folder) / name), is_compressed(Path(folder) / name)
        reading = read(Path(folder), *days)  # checks the counts
    for session in reading.sessions:
        check_session(session)
    faults = [line for line in reading.quarantined if line.line == 0]
    assert all(line.path == name and line.reason for line in reading.quarantined)
    if index.passed_over is not None:
        assert not reading.sessions
        assert not reading.quarantined
        assert not reading.report.bytes
        return Counter({"passed over": 1})
    try:
        content = unpack(data) if was_unpacked else data
    except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error, zstd.ZstdError):
        assert faults or not reading.report.files, "a damaged file that was read is told"
    else:
        expected = InMemory(content, 1 + len(content), days, index.form)
        assert faults or reading.sessions == expected.sessions
        numbers = {number for number, *_ in expected.quarantined}
        assert faults or numbers.issuperset(line.line for line in reading.quarantined)
    tally = _tally(reading.report)
    tally["broken files"] = len(faults)
    return tally


def _event_alone(line: bytes) -> Event | None:
    """The event a line holds if it is one by itself, as Cowrie writes it."""
    if not line.startswith(b"{"):
        return None
    try:
        return parse_event(orjson.loads(line), "unknown")
    except (orjson.JSONDecodeError, InvalidEvent):
        return None


def _tally(report: ReadReport) -> Counter[str]:
    return Counter(
        {
            "lines in": report.lines_in,
            "parsed": report.lines_parsed,
            "quarantined": report.lines_quarantined,
            "events": report.events,
            "sessions": sum(day.pieces for day in report.days.values()),
        }
    )


def _packed(
    pack: Callable[[bytes], bytes], paddings: tuple[int, ...] = (0, 0, 1, 512)
) -> Callable[[Random, Seeds], bytes]:
    def generate(rng: Random, seeds: Seeds) -> bytes:
        parts = [pack(log_of_lines(rng, seeds, 1 + rng.randrange(2 * LINES_PER_PACKED_FILE)))]
        while rng.random() < 0.2:
            parts += [b"\0" * rng.choice(paddings), pack(log_of_lines(rng, seeds, 3))]
        data = b"".join(parts)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            data = bytes_mutated(rng, data, parts)
        return data[:20_000]

    return generate


def _formed(rng: Random, seeds: Seeds) -> bytes:
    """Whole events and damaged lines in a form of their own, at times with the form damaged as well."""
    lines = log_of_lines(rng, seeds, LINES_PER_FILE).split(b"\n")
    events = [line for line in seeds if _event_alone(line)]
    for _ in range(LINES_PER_FILE):
        lines.insert(rng.randrange(len(lines)), rng.choice(events))
    lines = [rng.choice(events), *lines] if rng.random() < 0.8 else lines
    form = rng.randrange(6)
    if form < 2:
        content = b"[" + rng.choice((b",", b",\n", b"\n, ", b",\r\n  ")).join(lines) + b"]"
    elif form == 2:
        content = b"".join(lines)
    elif form == 3:
        prefix = rng.choice((b"pot-1 | ", b"2025-11-02T10:00:00Z stdout F ", b"Nov  2 10:00:00 h c[1]: "))
        content = b"\n".join(prefix + line for line in lines)
    elif form == 4:
        wrapped = ({"log": line.decode("utf-8", "replace"), "stream": "stdout"} for line in lines)
        content = "\n".join(map(json.dumps, wrapped)).encode()
    else:
        content = b"\n".join(b'{"_index": "x", "_source": ' + line + b"}" for line in lines)
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        content = bytes_mutated(rng, content, seeds)
    return content


TARGETS = (
    Target("log_lines", "log", 300, check_lines, partial(log_of_lines, number=LINES_PER_LOG), LINES_PER_LOG),
    Target("log_file", "log", 200, check_file, partial(log_of_lines, number=LINES_PER_FILE), LINES_PER_FILE),
    Target("log_gzip", "log", 20, check_gzip, _packed(lambda data: gzip.compress(data, 1, mtime=0))),
    Target("log_form", "log", 100, check_form, _formed, LINES_PER_FILE),
    Target("log_xz", "log", 10, check_xz, _packed(lambda data: lzma.compress(data, preset=0), (0,))),
    Target("log_zstd", "log", 10, check_zstd, _packed(zstd.compress)),
    Target("log_bzip2", "log", 10, check_bzip2, _packed(lambda data: bz2.compress(data, 1))),
)
