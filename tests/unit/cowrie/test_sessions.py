"""What a session is, and what it says."""

from __future__ import annotations

from datetime import date, datetime, timezone
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from .logs import DAY, connect, event, joined, line, read, read_bytes

SHA = sha256(b"x").hexdigest()


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(map(line, records))


def test_session_over_midnight_lies_on_its_first_day(tmp_path: Path) -> None:
    """A session that crosses midnight, into the next day's file, is one session of the day it began on."""
    (tmp_path / "cowrie.json.2025-11-02").write_bytes(line(connect(at="2025-11-02T23:59:59.900000Z")))
    closed = event("session.closed", at="2025-11-03T00:00:01.400000Z", duration_ms=1501)
    (tmp_path / "cowrie.json.2025-11-03").write_bytes(line(closed))
    (session,) = read(tmp_path, DAY, date(2025, 11, 3)).sessions
    assert (session.day, session.event_count, session.duration_ms) == (DAY, 2, 1501)
    assert session.ended_at == datetime(2025, 11, 3, 0, 0, 1, 400000, tzinfo=timezone.utc)
    assert joined([*read(tmp_path, date(2025, 11, 3)).pieces, *read(tmp_path, DAY).pieces]) == [session]


def test_same_id_on_two_sensors(tmp_path: Path) -> None:
    """The same session id on two sensors is two sessions."""
    reading = read_bytes(tmp_path, lines(connect(sensor="east"), connect(sensor="west")))
    assert [(session.sensor, session.session_id) for session in reading.sessions] == [
        ("east", "aa11"),
        ("west", "aa11"),
    ]


@pytest.mark.parametrize(("folder", "sensor"), [("hp-3", "hp-3"), ("a/deep/er", "er"), ("", "unknown")])
def test_sensor_from_the_folder(tmp_path: Path, folder: str, sensor: str) -> None:
    """An event that does not name its sensor is of the one whose folder the file lies in."""
    for missing in ({}, {"sensor": ""}, {"sensor": None}, {"sensor": 5}):
        record = {key: value for key, value in connect().items() if key != "sensor"} | missing
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cowrie.json").write_bytes(line(record))
        assert read(tmp_path).sessions[0].sensor == sensor


def test_without_connect_or_closed(tmp_path: Path) -> None:
    """A session of which only the middle was logged is kept with what is known of it."""
    content = lines(
        event(
            "login.failed",
            at="2025-11-02T10:00:00Z",
            username="u",
            password="p",
            src_ip="9.9.9.9",
            protocol="ssh",
        ),
        event(
            "direct-tcpip.request", at="2025-11-02T10:00:02.5Z", dst_ip="x.example", dst_port=443, src_port=77
        ),
        event("command.input", at="2025-11-02T10:00:01Z", dst_port=2222),
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.has_connect, session.has_closed, session.duration_ms) == (False, False, 2500)
    assert (session.src_ip, session.src_port, session.protocol) == ("9.9.9.9", None, "ssh")
    assert session.dst_port == 2222


def test_port_behind_a_tunnel_is_not_the_honeypots(tmp_path: Path) -> None:
    """The destination port is the connection's, not that of a tunnel through it."""
    content = lines(
        event("direct-tcpip.request", at="2025-11-02T09:00:00Z", dst_port=443), connect(dst_port=2223)
    )
    assert read_bytes(tmp_path, content).sessions[0].dst_port == 2223


@pytest.mark.parametrize(
    ("fields", "milliseconds"),
    [
        ({"duration_ms": 51}, 51),
        ({"duration_ms": "51"}, 51),
        ({"duration": 1.25}, 1250),
        ({"duration": "12.3"}, 12300),
        ({"duration_ms": None, "duration": 2}, 2000),
        ({"duration_ms": -1}, 7000),
        ({"duration_ms": True}, 7000),
        ({"duration": "nan"}, 7000),
        ({"duration": "1e400"}, 7000),
        ({"duration": 10**300}, 7000),
        ({"duration": ["x"]}, 7000),
        ({"duration": "long"}, 7000),
        ({}, 7000),
    ],
)
def test_duration(tmp_path: Path, fields: dict[str, Any], milliseconds: int) -> None:
    """The duration is the one logged in any of Cowrie's forms, else the time between the events."""
    content = lines(connect(), event("session.closed", at="2025-11-02T10:00:07Z", **fields))
    assert read_bytes(tmp_path, content).sessions[0].duration_ms == milliseconds


def test_login_shown_is_the_first_that_worked(tmp_path: Path) -> None:
    """The login shown is the first successful one; all passwords tried are there as SHA-1."""
    content = lines(
        event("login.failed", at="2025-11-02T10:00:01Z", username="admin", password="admin"),
        event("login.success", at="2025-11-02T10:00:03Z", username="second", password="2"),
        event("login.success", at="2025-11-02T10:00:02Z", username="root", password="pä"),
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.username, session.password) == ("root", "pä")
    assert (session.login_failures, session.login_successes) == (1, 2)
    tried = sorted(sha1(p.encode()).hexdigest().upper() for p in ("admin", "2", "pä"))
    assert session.passwords_sha1 == tuple(tried)


def test_login_shown_without_success_is_the_first_attempt(tmp_path: Path) -> None:
    """Without a successful login the first attempt is shown."""
    content = lines(
        event("login.failed", at="2025-11-02T10:00:02Z", username="b", password="b"),
        event("login.failed", at="2025-11-02T10:00:01Z", username="a", password=""),
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.username, session.password) == ("a", None)


def test_files_and_urls(tmp_path: Path) -> None:
    """Hashes of downloads and uploads and the URLs of downloads, failed ones too, are sorted and distinct."""
    other = sha256(b"y").hexdigest()
    content = lines(
        event("session.file_download", url="http://b.example/x", shasum=SHA.upper()),
        event("session.file_download", url="http://a.example/y", shasum=SHA, at="2025-11-02T10:00:01Z"),
        event("session.file_download.failed", url="http://c.example/"),
        event("session.file_upload", shasum=other),
        event("session.file_upload", shasum="not a hash"),
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.downloads, session.uploads) == (2, 2)
    assert session.file_hashes == tuple(sorted((SHA, other)))
    assert session.urls == ("http://a.example/y", "http://b.example/x", "http://c.example/")


def test_lists_of_a_session_are_limited(tmp_path: Path) -> None:
    """Of very many files and logins the first are kept, of passwords the first in sorted order."""
    hashes = [sha256(str(number).encode()).hexdigest() for number in range(1500)]
    records = [event("session.file_download", shasum=h, url=f"http://x.example/{h}") for h in hashes]
    records += [event("login.failed", password=h) for h in hashes] + [
        event("login.failed", password=f"{h}!") for h in hashes
    ]
    session = read_bytes(tmp_path, lines(*records)).sessions[0]
    passwords = sorted(sha1(p.encode()).hexdigest().upper() for h in hashes for p in (h, f"{h}!"))
    assert session.file_hashes == tuple(sorted(hashes[:200]))
    assert session.urls == tuple(f"http://x.example/{h}" for h in sorted(hashes[:200]))
    assert (len(session.files), session.files_left_out) == (200, 1300)
    assert (len(session.logins), session.logins_left_out) == (200, 2800)
    assert session.passwords_sha1 == tuple(passwords[:1000])
    assert (session.downloads, session.login_failures) == (1500, 3000)


def test_client(tmp_path: Path) -> None:
    """Client version, HASSH, architecture, terminal size and JA4H are the first that were logged."""
    content = lines(
        event("client.version", version="SSH-2.0-later", at="2025-11-02T10:00:09Z"),
        event("client.version", version="SSH-2.0-Go"),
        event("client.kex", hassh="ab" * 16),
        event("session.params", arch="linux-x64-lsb"),
        event("client.size", width=80, height=24),
        event("direct-tcpip.ja4h", ja4h="ge11nn"),
        event("direct-tcpip.data", data="GET /"),
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert (session.client_version, session.hassh, session.arch) == ("SSH-2.0-Go", "ab" * 16, "linux-x64-lsb")
    assert (session.terminal_width, session.terminal_height, session.ja4h) == (80, 24, "ge11nn")
    assert session.tunnel_data == 1


def test_unknown_kinds_of_events_count(tmp_path: Path) -> None:
    """An event of a kind that is not known belongs to its session all the same."""
    content = lines(
        connect(), event("something.new", at="2025-11-02T10:05:00Z"), event("x", eventid="other.thing")
    )
    session = read_bytes(tmp_path, content).sessions[0]
    assert session.event_count == 3
    assert session.ended_at.minute == 5
