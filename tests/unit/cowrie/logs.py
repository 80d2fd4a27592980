"""Small Cowrie logs for the tests, and one call that reads a folder of them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.cowrie import (
    QuarantinedLine,
    ReadReport,
    Session,
    index_files,
    read_pieces,
    sessions_of,
)

SAMPLES = Path(__file__).parents[2] / "data" / "cowrie"
SAMPLE_DAYS = (date(2025, 11, 1), date(2025, 11, 3))
DAY = date(2025, 11, 2)


def event(
    kind: str = "session.connect",
    session: str = "aa11",
    at: str = "2025-11-02T10:00:00.000000Z",
    **fields: Any,
) -> dict[str, Any]:
    """An event like Cowrie's; `kind` without the leading `cowrie.`."""
    return {"eventid": f"cowrie.{kind}", "session": session, "timestamp": at, "sensor": "hp", **fields}


def connect(session: str = "aa11", at: str = "2025-11-02T10:00:00.000000Z", **fields: Any) -> dict[str, Any]:
    """A connect event with both ends of the connection."""
    ends = {"src_ip": "8.8.8.8", "src_port": 40000, "dst_port": 22, "protocol": "ssh"}
    return event("session.connect", session, at, **{**ends, **fields})


def line(record: dict[str, Any]) -> bytes:
    """One event as Cowrie writes it, with its line feed."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def days_touched(root: Path, cache: dict[str, dict[str, Any]] | None = None) -> dict[str, set[date]]:
    """The days that each log may hold events of."""
    indexes = index_files(root, cache).items()
    return {file.name: index.days_touched for file, index in indexes if index.passed_over is None}


def joined(pieces: Iterable[Session]) -> list[Session]:
    """The sessions that pieces of any ids and days make, by day, sensor and id."""
    of_ids = defaultdict(list)
    for piece in pieces:
        of_ids[piece.sensor, piece.session_id].append(piece)
    sessions = [session for of_id in of_ids.values() for session, _ in sessions_of(of_id)]
    return sorted(sessions, key=lambda s: (s.day, s.sensor, s.session_id, s.started_at))


@dataclass
class Reading:
    """All that one reading gave."""

    pieces: list[Session]
    quarantined: list[QuarantinedLine]
    report: ReadReport

    @property
    def sessions(self) -> list[Session]:
        return joined(self.pieces)

    @property
    def ids(self) -> list[str]:
        return [session.session_id for session in self.sessions]

    @property
    def reasons(self) -> dict[int, str]:
        return {line.line: line.reason for line in self.quarantined}

    def counts(self) -> tuple[int, int, int]:
        report = self.report
        return report.lines_in, report.lines_parsed, report.lines_quarantined


def read(root: Path, first: date = DAY, last: date | None = None, **options: Any) -> Reading:
    """Read days of a folder; checks what must hold for every reading."""
    quarantined: list[QuarantinedLine] = []
    stream = read_pieces(root, first, last or first, on_quarantine=quarantined.append, **options)
    pieces = [Session.of_row(row) for day in stream for of_key in day.pieces for row in of_key]
    report = stream.report
    assert report.lines_in == report.lines_parsed + report.lines_quarantined
    assert report.lines_quarantined == sum(map(_lines_told, quarantined))
    in_pieces = sum(counts.events for counts in report.days.values())
    assert report.events == in_pieces + report.duplicate_events + report.events_of_other_days
    assert report.files_broken == sum(line.line == 0 for line in quarantined)
    assert all(
        len(line.excerpt) <= 200 and (line.excerpt + line.reason).isprintable() for line in quarantined
    )
    return Reading(pieces, quarantined, report)


def _lines_told(entry: QuarantinedLine) -> int:
    more = re.search(r"\(and so (\d+) more lines, up to line \d+\)$", entry.reason)
    return (entry.line > 0) + (int(more[1]) if more else 0)


def read_bytes(folder: Path, content: bytes, name: str = "cowrie.json", **options: Any) -> Reading:
    """Read a folder that holds one file of this content."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return read(folder, **options)
