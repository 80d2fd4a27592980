"""Every file of `data/cases/logs` gives what is right, and so do others of its kind that are made here."""

from __future__ import annotations

import bz2
import json
import lzma
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from cowrie_enrich_dagster.cowrie import Session

from .logs import connect, event, joined, line, read, read_bytes
from .test_forms import CASE_DAY, CASES

Check = Callable[[Path, bytes], None]
AT = "2024-05-01T10:00:{:02}.000000Z"
SIX = [
    connect(at=AT.format(0)),
    event("client.version", at=AT.format(1), version="SSH-2.0-Go"),
    event("login.failed", at=AT.format(2), username="root", password='a"b\\c{'),
    event("login.success", at=AT.format(3), username="root", password="x"),
    event("command.input", at=AT.format(4), input='echo "}]" > /tmp/\u00e4; [ -f x ]'),
    event("session.closed", at=AT.format(5), duration=5.0),
]
HASH = "cd" * 32


def sessions_of(folder: Path, content: bytes, last: date = CASE_DAY) -> list[Session]:
    reading = read_bytes(folder, content, first=CASE_DAY, last=last)
    assert reading.quarantined == []
    return reading.sessions


def has_six_events(folder: Path, content: bytes) -> None:
    """One session with all of them, under Cowrie's own name and another."""
    for name in ("cowrie.json", "exported"):
        reading = read_bytes(folder / name, content, name, first=CASE_DAY)
        assert [session.event_count for session in reading.sessions] == [6]
        assert reading.quarantined == []


def has_records(number: int, name: str = "cowrie.json") -> Check:
    """None is lost, and none is quarantined."""

    def check(folder: Path, content: bytes) -> None:
        reading = read_bytes(folder, content, name, first=CASE_DAY)
        assert (reading.report.events, reading.report.lines_quarantined) == (number, 0)

    return check


def has_versions(folder: Path, content: bytes) -> None:
    assert {session.client_version for session in sessions_of(folder, content)} == {"SSH-2.0-Go"}


def has_no_source_port(folder: Path, content: bytes) -> None:
    (session,) = sessions_of(folder, content)
    assert session.src_port is None
    assert [(tunnel["host"], tunnel["port"]) for tunnel in session.tunnels] != []


def has_the_hash(folder: Path, content: bytes) -> None:
    (session,) = sessions_of(folder, content)
    assert session.file_hashes in ((HASH,), ("ab" * 32,))


def has_one_url(folder: Path, content: bytes) -> None:
    (session,) = sessions_of(folder, content)
    assert session.urls == ("http://198.51.100.9/x",)


def has_the_key(folder: Path, content: bytes) -> None:
    (session,) = sessions_of(folder, content)
    assert [(login["key"], login["success"]) for login in session.logins] in (
        [("de:ad:be:ef", True)],
        [("de:ad:be:ef", False)],
    )


def in_any_order(folder: Path, content: bytes, days: Iterable[int]) -> list[Session]:
    """The sessions that pieces of days make which are each read alone; whatever the order, the same."""
    read_bytes(folder, content, first=CASE_DAY)
    found = []
    for order in permutations(days):
        alone = [read(folder, CASE_DAY + timedelta(days=day)).pieces for day in order]
        found.append(joined(piece for of_day in alone for piece in of_day))
    assert all(sessions == found[0] for sessions in found)
    return found[0]


def is_one_session_of_its_first_day(folder: Path, content: bytes) -> None:
    (session,) = in_any_order(folder, content, range(4))
    assert (session.day, session.login_successes, session.has_closed) == (CASE_DAY, 1, True)
    assert session.duration_ms == round((session.ended_at - session.started_at).total_seconds() * 1000)


def is_two_sessions(folder: Path, content: bytes) -> None:
    first, second = in_any_order(folder, content, (0, 1, 19))
    assert (first.day, first.login_successes, second.login_successes) == (CASE_DAY, 1, 0)
    assert first.src_ip != second.src_ip


RIGHT: dict[str, Check] = {
    "array-one-line.json": has_six_events,
    "array-record-per-line.json": has_six_events,
    "array-pretty-20.json": has_records(20),
    "cri-prefix.jsonl": has_six_events,
    "docker-json-file.jsonl": has_six_events,
    "filebeat-message.jsonl": has_six_events,
    "logstash-honeypot-target.jsonl": has_six_events,
    "client-version-repr.jsonl": has_versions,
    "tunnel-src-port.jsonl": has_no_source_port,
    "outfile-hash.jsonl": has_the_hash,
    "urls-not-urls.jsonl": has_one_url,
    "pubkey-login.jsonl": has_the_key,
    "session-three-days.jsonl": is_one_session_of_its_first_day,
    "session-id-reused-months-apart.jsonl": is_two_sessions,
    **{f"names/{path.name}": has_six_events for path in (CASES / "names").iterdir()},
}


def test_no_case_is_left_out() -> None:
    """Each file there has its test."""
    assert {str(path.relative_to(CASES)) for path in CASES.rglob("*") if path.is_file()} == set(RIGHT)


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_case(tmp_path: Path, name: str) -> None:
    """What the table beside the cases says is right."""
    RIGHT[name](tmp_path, (CASES / name).read_bytes())


def lines(records: Iterable[Any], prefix: str = "") -> bytes:
    return b"".join(prefix.encode() + line(record) for record in records)


def many(number: int) -> list[dict[str, Any]]:
    return [
        event("command.input", f"{n % 300:04x}", AT.format(n % 60), input=f"echo {n} }},{{")
        for n in range(number)
    ]


def later(days: int, clock: str) -> str:
    return f"{CASE_DAY + timedelta(days=days)}T{clock}Z"


# The large ones are made where they are read: every worker imports this.
VARIANTS: dict[str, tuple[Check, bytes | Callable[[], bytes]]] = {
    "names: packed by zstd twice": (has_six_events, zstd.compress(zstd.compress(lines(SIX)))),
    "names: bzip2 of an array": (has_six_events, bz2.compress(json.dumps(SIX, indent=3).encode())),
    "names: xz in two parts": (has_six_events, lzma.compress(lines(SIX[:2])) + lzma.compress(lines(SIX[2:]))),
    "array on one line: 30,000": (
        has_records(30_000, "export.json"), lambda: json.dumps(many(30_000)).encode(),
    ),
    "array on one line: marked as UTF-8": (has_six_events, b"\xef\xbb\xbf \n" + json.dumps(SIX).encode()),
    "array, a record a line: CR LF, comma behind the last": (
        has_six_events,
        b"[\r\n" + b",\r\n".join(line(record).strip() for record in SIX) + b",\r\n]\r\n",
    ),
    "array, a record a line: 30,000": (
        has_records(30_000),  # as people export a month of one sensor
        lambda: b"[" + b",\n".join(line(record).strip() for record in many(30_000)) + b"]",
    ),
    "pretty array: 30,000": (
        has_records(30_000, "export.json"), lambda: json.dumps(many(30_000), indent=4).encode(),
    ),
    "pretty array: keys sorted, tabs": (
        has_six_events,
        json.dumps(SIX, indent="\t", sort_keys=True, ensure_ascii=False).encode(),
    ),
    "prefix: podman's, another zone": (
        has_six_events, lines(SIX, "2024-05-01T12:00:00.123456789+02:00 stderr F "),
    ),
    "prefix: logger's on another host": (has_six_events, lines(SIX, "<14>May  1 10:00:00 p docker/cowrie: ")),
    "docker: Fluent Bit": (
        has_six_events, lines({"date": 1714557600.5, "log": json.dumps(record)} for record in SIX),
    ),
    "docker: with labels, packed": (
        has_six_events,
        bz2.compress(
            lines(
                {"log": json.dumps(record) + "\n", "stream": "stdout", "attrs": {"env": "prod"}, "time": AT}
                for record in SIX
            )
        ),
    ),
    "filebeat: CloudWatch": (
        has_six_events, lines({"@ptr": "x", "@message": json.dumps(record)} for record in SIX),
    ),
    "filebeat: an array of Splunk's collector": (
        has_six_events,
        json.dumps([{"sourcetype": "x", "event": json.dumps(record)} for record in SIX], indent=1).encode(),
    ),
    "a target: of another name, deeper": (
        has_six_events,
        lines({"_index": "x", "_source": {"data": record, "tags": ["a"]}} for record in SIX),
    ),
    "a target: Google's": (
        has_six_events, lines({"insertId": "a", "jsonPayload": record, "severity": "INFO"} for record in SIX),
    ),
    "client version: bytes in double quotes": (
        has_versions, line(event("client.version", at=AT.format(0), version='b"SSH-2.0-Go"')),
    ),
    "client version: with its line end": (
        has_versions, line(event("client.version", at=AT.format(0), version="b'SSH-2.0-Go\\r\\n'")),
    ),
    "tunnel: before the connect is known": (
        has_no_source_port,
        lines(
            [
                event("direct-tcpip.request", at=AT.format(0), src_ip="127.0.0.1", src_port=1,
                      dst_ip="a.example", dst_port=25),
                event("login.failed", at=AT.format(1), src_ip="8.8.8.8", username="a", password="b"),
            ]
        ),
    ),
    "tunnel: data of one": (
        has_no_source_port,
        lines(
            [
                event("direct-tcpip.request", at=AT.format(0), src_port=9, dst_ip="2001:db8::1", dst_port=1),
                event("direct-tcpip.data", at=AT.format(1), src_port=9, dst_ip="2001:db8::1", dst_port=1),
            ]
        ),
    ),
    "outfile: the whole path": (
        has_the_hash,
        line(
            event("session.file_download", at=AT.format(0), url="http://198.51.100.9/x",
                  outfile=f"/cowrie/var/lib/cowrie/downloads/{HASH}")
        ),
    ),
    "outfile: of an upload": (
        has_the_hash,
        line(event("session.file_upload", at=AT.format(0), filename="x", outfile=f"var/downloads/{HASH}")),
    ),
    "urls: a drive, a bare host": (
        has_one_url,
        lines(
            event("session.file_download", at=AT.format(n), url=url, shasum=HASH)
            for n, url in enumerate(["C:\\x", "evil.example/x", "http://198.51.100.9/x", "-O", "http://"])
        ),
    ),
    "urls: that failed": (
        has_one_url,
        lines(
            event("session.file_download.failed", at=AT.format(n), url=url)
            for n, url in enumerate(["http://198.51.100.9/x", "/dev/null", "http://198.51.100.9/x"])
        ),
    ),
    "key: a login that failed": (
        has_the_key,
        line(event("login.failed", at=AT.format(0), username="root", fingerprint="de:ad:be:ef", key="A")),
    ),
    "key: told by the login alone": (
        has_the_key,
        line(event("login.success", at=AT.format(0), fingerprint="de:ad:be:ef", password=None)),
    ),
    "three days: over the end of a month": (
        is_one_session_of_its_first_day,
        lines(
            [
                connect(at=later(0, "23:59:59.999999")),
                event("login.success", at=later(1, "00:00:00"), username="root", password="x"),
                event("session.closed", at=later(3, "00:00:00.999999"), duration=172801.0),
            ]
        ),
    ),
    "three days: in reverse": (
        is_one_session_of_its_first_day,
        lines(
            [
                event("session.closed", at=later(2, "12:00:00"), duration=172800.0),
                event("login.success", at=later(1, "11:00:01"), username="root", password="x"),
                connect(at=later(0, "12:00:00")),
            ]
        ),
    ),
    "an id again: the next day, never closed": (
        is_two_sessions,
        lines(
            [
                connect(at=later(0, "10:00:00")),
                event("login.success", at=later(0, "10:00:02"), username="root", password="x"),
                connect(at=later(1, "10:00:00"), src_ip="9.9.9.9"),
            ]
        ),
    ),
    "an id again: a minute later": (
        is_two_sessions,
        lines(
            [
                connect(at=later(0, "10:00:00")),
                event("login.success", at=later(0, "10:00:02"), username="root", password="x"),
                event("session.closed", at=later(0, "10:00:03"), duration=3.0),
                connect(at=later(0, "10:01:00"), src_ip="9.9.9.9"),
                event("session.closed", at=later(0, "10:01:03"), duration=3.0),
            ]
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_another_of_the_kind(tmp_path: Path, name: str) -> None:
    """What is right for the case is right for it."""
    check, content = VARIANTS[name]
    check(tmp_path, content() if callable(content) else content)
