"""Neither the order of lines nor their repetition nor their spread over files changes any session."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .logs import DAY, SAMPLE_DAYS, SAMPLES, connect, event, line, read, read_bytes

KINDS = [
    "session.connect",
    "session.closed",
    "session.params",
    "login.failed",
    "login.success",
    "client.version",
    "client.kex",
    "client.size",
    "command.input",
    "direct-tcpip.request",
    "direct-tcpip.ja4h",
    "session.file_download",
]
VALUES = st.one_of(st.none(), st.integers(-5, 70000), st.sampled_from(["", "a", "b", "8.8.8.8", "ab" * 32]))
EVENTS = st.builds(
    event,
    st.sampled_from(KINDS),
    st.sampled_from(["aa01", "aa02"]),
    st.sampled_from(
        [f"2025-11-0{day}T{hour}:00:00.000000Z" for day in (1, 2, 3, 4) for hour in ("00", "12")]
    ),
    src_ip=VALUES,
    src_port=VALUES,
    dst_port=VALUES,
    protocol=VALUES,
    username=VALUES,
    password=VALUES,
    version=VALUES,
    width=VALUES,
    height=VALUES,
    duration=VALUES,
    shasum=VALUES,
    url=VALUES,
    hassh=VALUES,
)


@settings(max_examples=120, deadline=None)
@given(events=st.lists(EVENTS, max_size=14), seed=st.integers(0, 99))
@example(
    events=[
        connect(),
        *(event("login.failed", "aa02", "2025-11-02T00:00:00.000000Z", password=p) for p in (None, "0")),
    ],
    seed=1,
)
def test_shuffled_and_repeated_lines_give_the_same_sessions(events: list[dict[str, Any]], seed: int) -> None:
    """Lines in another order, some of them twice, give identical sessions."""
    rng = random.Random(seed)
    shuffled = events + rng.choices(events, k=3) if events else []
    rng.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as folder:
        plain, mixed = (
            read_bytes(Path(folder) / name, b"".join(map(line, records)), first=DAY, last=DAY)
            for name, records in (("plain", events), ("mixed", shuffled))
        )
    assert mixed.sessions == plain.sessions


def test_shuffled_samples(tmp_path: Path) -> None:
    """The sample logs with their lines shuffled and cut into three files give the same 1,400 sessions."""
    lines = [
        raw
        for path in sorted(SAMPLES.rglob("*.gz"))
        for raw in gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    ]
    random.Random(7).shuffle(lines)
    for number in range(3):
        (tmp_path / f"cowrie.json.{number}").write_bytes(b"".join(lines[number::3]))
    assert read(tmp_path, *SAMPLE_DAYS).sessions == read(SAMPLES, *SAMPLE_DAYS).sessions


def test_file_read_twice_counts_once(tmp_path: Path) -> None:
    """A log and its compressed copy count once; the report says how many events were repeated."""
    content = b"".join(line(connect(f"{number:04x}")) for number in range(300))
    (tmp_path / "cowrie.json.1").write_bytes(content)
    (tmp_path / "cowrie.json.1.gz").write_bytes(gzip.compress(content))
    reading = read(tmp_path)
    assert len(reading.sessions) == 300
    assert {session.event_count for session in reading.sessions} == {1}
    assert (reading.report.events, reading.report.duplicate_events) == (600, 300)


def test_same_event_written_in_another_way_counts_once(tmp_path: Path) -> None:
    """Spaces, the order of fields and escapes do not make an event another one; any other value does."""
    login = event("login.failed", username="rööt", password="p")
    reordered = dict(reversed(login.items()))
    content = line(login) + json.dumps(reordered, indent=2, ensure_ascii=False).encode() + b"\n"
    content += line({**login, "password": "q"})
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.login_failures, session.event_count) == (2, 2)


@pytest.mark.parametrize("count", [255, 256, 257, 5000])
def test_repetition_is_seen_in_long_sessions(tmp_path: Path, count: int) -> None:
    """Each of many events of one session counts once, however many there are."""
    lines = [line(event("command.input", input=str(number))) for number in range(count)]
    reading = read_bytes(tmp_path, b"".join(lines + lines[::2]))
    assert reading.sessions[0].commands == count
    assert reading.report.duplicate_events == len(lines[::2])


def test_repetitions_are_counted_once_however_they_come(tmp_path: Path) -> None:
    """Of a key read again for having any, and of one that is marked and read again for its late connect."""
    early = [event("command.input", "aa01", f"2025-11-02T01:00:0{n}.000000Z", input="x") for n in range(3)]
    late = [event("command.input", "aa02", f"2025-11-02T02:00:0{n}.000000Z", input="x") for n in range(3)]
    tangled = connect("aa02", "2025-11-02T02:00:01.500000Z")
    records = [*early, early[1], early[2], *late, late[0], tangled, late[1]]
    reading = read_bytes(tmp_path, b"".join(map(line, records)))
    assert [(session.session_id, session.event_count) for session in reading.sessions] == [
        ("aa01", 3), ("aa02", 4),
    ]  # fmt: skip
    assert (reading.report.events, reading.report.duplicate_events) == (len(records), 4)


def test_events_of_one_moment_are_told_apart(tmp_path: Path) -> None:
    """By what they say: in order of time nothing else is looked at."""
    at = "2025-11-02T01:00:00.000000Z"
    records = [connect("aa01", at), *(event("command.input", "aa01", at, input=typed) for typed in "aba")]
    reading = read_bytes(tmp_path, b"".join(map(line, records)))
    assert [session.command_lines for session in reading.sessions] == [("a", "b")]
    assert reading.report.duplicate_events == 1


def test_events_nested_too_deep_are_none_wherever_they_come(tmp_path: Path) -> None:
    """The first of a session as well as the next: 254 levels are the most."""

    def nested(levels: int, second: int) -> bytes:
        raw = line(event("command.input", "aa01", f"2025-11-02T01:00:0{second}.000000Z", input="x", more=0))
        return raw.replace(b'"more":0', b'"more":' + b"[" * levels + b"]" * levels)

    content = b"".join(nested(levels, n) for n, levels in enumerate([253, 254, 253, 254]))
    for beginning in (b"", line(connect("aa01", "2025-11-02T00:00:00.000000Z"))):
        reading = read_bytes(tmp_path, beginning + content)
        assert reading.sessions[0].commands == 2
        assert list(reading.reasons.values()) == ["nested too deep"] * 2
