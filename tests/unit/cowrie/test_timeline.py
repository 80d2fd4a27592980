"""Where one session ends and another begins: ids used again, days in any order, lines in any order."""

from __future__ import annotations

import random
import tempfile
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.cowrie import Session

from .logs import connect, event, joined, line, read, read_bytes
from .test_forms import CASES

FIRST = date(2025, 11, 1)
DAYS = 8
HOURS = st.integers(0, 24 * (DAYS - 1) - 1)
KINDS = st.sampled_from(
    ["session.connect"] * 3 + ["session.closed"] * 2 + ["login.failed", "command.input", "client.version"]
)
SOURCES = st.sampled_from(["8.8.8.8", "9.9.9.9"])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of one id, each of its own moment, in time order."""
    hours = sorted(draw(st.sets(HOURS, min_size=1, max_size=9)))
    events = []
    source = draw(SOURCES)
    for number, hour in enumerate(hours):
        at = datetime(2025, 11, 1, tzinfo=timezone.utc) + timedelta(hours=hour)
        kind = draw(KINDS)
        if kind == "session.connect":
            source = draw(SOURCES)
        named = kind == "session.connect" or draw(st.booleans())  # older events do not all name their source
        fields: dict[str, Any] = {"src_ip": source} if named else {}
        if kind == "command.input":
            fields["input"] = f"line {number}"
        events.append(event(kind, at=f"{at:%Y-%m-%dT%H:%M:%S}.{number:06}Z", **fields))
    return events


def moment(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00"))


def cut(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The definition, event by event: where another session begins."""
    sessions: list[list[dict[str, Any]]] = []
    for record in events:
        so_far = sessions[-1] if sessions else []
        kinds = [e["eventid"].removeprefix("cowrie.") for e in so_far]
        sources = [e for e in so_far if e.get("src_ip")]
        named = next((e["src_ip"] for e in sources if "connect" in e["eventid"]), None)
        named = named or (sources[0]["src_ip"] if sources else None)
        other = None not in (named, record.get("src_ip")) and named != record["src_ip"]
        connects = record["eventid"].endswith(".connect")
        silent = bool(so_far) and moment(record) - moment(so_far[-1]) > timedelta(days=1)
        closes = record["eventid"].endswith(".closed") and "session.closed" not in kinds and not other
        if not so_far or (connects and ("session.closed" in kinds or other)) or (silent and not closes):
            sessions.append([record])
        else:
            so_far.append(record)
    return sessions


def facts(session: Session) -> tuple[Any, ...]:
    return (
        session.started_at,
        session.ended_at,
        session.event_count,
        session.login_failures,
        session.command_lines,
        session.has_connect,
        session.has_closed,
    )


def expected(events: list[dict[str, Any]]) -> tuple[Any, ...]:
    kinds = [record["eventid"].removeprefix("cowrie.") for record in events]
    return (
        moment(events[0]),
        moment(events[-1]),
        len(events),
        kinds.count("login.failed"),
        tuple(record["input"] for record in events if "input" in record),
        "session.connect" in kinds,
        "session.closed" in kinds,
    )


@settings(max_examples=150, deadline=None)
@given(events=histories(), order=st.permutations(range(DAYS)), seed=st.integers(0, 9))
def test_sessions_are_cut_where_the_definition_says(
    events: list[dict[str, Any]], order: list[int], seed: int
) -> None:
    """Whatever the order of the days and of the lines in the log."""
    shuffled = random.Random(seed).sample(events, len(events)) if seed else events
    with tempfile.TemporaryDirectory() as folder:
        content = b"".join(map(line, [*shuffled, *shuffled[:2]]))
        together = read_bytes(Path(folder), content, first=FIRST, last=FIRST + timedelta(days=DAYS - 1))
        alone = [piece for day in order for piece in read(Path(folder), FIRST + timedelta(days=day)).pieces]
    assert [facts(session) for session in together.sessions] == [expected(part) for part in cut(events)]
    assert joined(alone) == together.sessions


def test_case_reused_months_apart(tmp_path: Path) -> None:
    """Two sessions with an address each; the login is the first one's."""
    content = (CASES / "session-id-reused-months-apart.jsonl").read_bytes()
    first, second = read_bytes(tmp_path, content, first=date(2024, 5, 1), last=date(2024, 5, 20)).sessions
    assert (first.src_ip, first.login_successes, second.src_ip, second.login_successes) == (
        "45.155.205.10", 1, "91.240.118.20", 0,
    )  # fmt: skip


def test_case_three_days(tmp_path: Path) -> None:
    """A close that comes 38 hours later ends its own session, with the duration that was logged."""
    content = (CASES / "session-three-days.jsonl").read_bytes()
    (session,) = read_bytes(tmp_path, content, first=date(2024, 5, 1), last=date(2024, 5, 3)).sessions
    assert (session.day, session.event_count, session.duration_ms) == (date(2024, 5, 1), 3, 136_800_000)
    assert session.login_successes == 1


@pytest.mark.parametrize("late", [False, True])
def test_same_id_twice_on_one_day(tmp_path: Path, late: bool) -> None:
    """Also where the first one's events come later in the log, in another order."""
    records = [
        connect(at="2025-11-02T10:00:00Z"),
        event("command.input", at="2025-11-02T10:00:01Z", input="of the first"),
        event("session.closed", at="2025-11-02T10:00:02Z"),
        connect(at="2025-11-02T12:00:00Z"),
        event("command.input", at="2025-11-02T12:00:01Z", input="of the second"),
    ]
    order = (4, 1, 3, 2, 0) if late else range(5)
    sessions = read_bytes(tmp_path, b"".join(line(records[n]) for n in order)).sessions
    assert [s.command_lines for s in sessions] == [("of the first",), ("of the second",)]
    assert [s.event_count for s in sessions] == [3, 2]


def test_lines_of_one_instant_stay_in_the_order_of_the_log(tmp_path: Path) -> None:
    """Logs of 2015 have moments to the second."""
    typed = ["w", "uname -a", "cat /proc/cpuinfo", "exit"]
    content = b"".join(line(event("command.input", at="2025-11-02T10:00:00Z", input=t)) for t in typed)
    assert read_bytes(tmp_path, content).sessions[0].command_lines == tuple(typed)
