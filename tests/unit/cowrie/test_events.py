"""Which events are valid, and how odd fields are taken."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from .logs import connect, event, line, read_bytes

AT = datetime(2025, 11, 2, 10, 0, 0, 123456, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("2025-11-02T10:00:00.123456Z", AT),
        ("2025-11-02T10:00:00.123456+0000", AT),
        ("2025-11-02T10:00:00.123456+00:00", AT),
        ("2025-11-02T10:00:00.123456", AT),
        ("2025-11-02 10:00:00.123456", AT),
        ("2025-11-02T12:00:00.123456+0200", AT),
        ("2025-11-01T23:30:00.123456-10:30", AT),
        ("2025-11-02T10:00:00.123456789Z", AT),
        ("2025-11-02T10:00:00.12Z", AT.replace(microsecond=120000)),
        ("2025-11-02T10:00:00Z", AT.replace(microsecond=0)),
        ("2025-11-02T10:00:00", AT.replace(microsecond=0)),
    ],
)
def test_timestamps(tmp_path: Path, stamp: str, moment: datetime) -> None:
    """All forms of timestamps that Cowrie has used are read, offsets turned into UTC."""
    before = line(connect("aa00", at="2025-11-02T01:00:00.000000Z"))
    reading = read_bytes(tmp_path, before + line(connect("aa01", at=stamp)))
    assert [session.started_at for session in reading.sessions][1] == moment


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        12345,
        "",
        "yesterday",
        "2025-11-02",
        "2025-13-02T10:00:00Z",
        "2025-11-02T25:00:00.000000Z",
        "2025-11-02T10:00:00.2+0100Z",
        "2025-11-02T10:00:00.00000\u0661Z",
        "2025-W45-1T10:00:00.000000Z",
        "1999-12-31T23:59:59Z",
        "2101-01-01T00:00:00Z",
        "0001-01-01T00:00:00+2300",
        "9999-12-31T23:59:59-2300",
        "2025-11-02T10:00:00+9900",
    ],
)
def test_bad_timestamps(tmp_path: Path, stamp: Any) -> None:
    """An event whose timestamp is no moment of this century is quarantined with the field's name."""
    reading = read_bytes(tmp_path, line(connect("aa01")) + line(event(at=stamp)))
    assert reading.ids == ["aa01"]
    assert reading.reasons[2].startswith("timestamp: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eventid", None),
        ("eventid", ""),
        ("eventid", 7),
        ("session", None),
        ("session", ""),
        ("session", ["aa"]),
        ("session", "\0"),
        ("session", "a" * 65),
    ],
)
def test_missing_or_ill_typed_key_field(tmp_path: Path, field: str, value: Any) -> None:
    """An event without usable eventid or session is quarantined with the field's name."""
    reading = read_bytes(tmp_path, line({**connect(), field: value}))
    assert reading.sessions == []
    assert reading.reasons[1].startswith(f"{field}: ")


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], ["x"], {}, {"a": 1}, "text", "\0", "x" * 5000])
def test_any_type_in_any_other_field(tmp_path: Path, value: Any) -> None:
    """No type in any optional field stops the reading or costs the event."""
    names = [
        "tags",
        "src_ip",
        "src_port",
        "dst_port",
        "protocol",
        "username",
        "password",
        "version",
        "hassh",
        "arch",
        "width",
        "height",
        "ja4h",
        "shasum",
        "url",
        "duration",
        "duration_ms",
        "sensor",
        "message",
        "input",
    ]
    kinds = [
        "session.connect",
        "session.closed",
        "session.params",
        "login.failed",
        "login.success",
        "client.version",
        "client.kex",
        "client.size",
        "direct-tcpip.ja4h",
        "session.file_download",
        "session.file_upload",
        "command.input",
    ]
    content = b"".join(line({**event(kind), **dict.fromkeys(names, value)}) for kind in kinds)
    reading = read_bytes(tmp_path, content)
    assert reading.counts() == (len(kinds), len(kinds), 0)
    assert reading.sessions[0].event_count == len(kinds)


def test_scalars_as_text(tmp_path: Path) -> None:
    """A user name or password that was logged as a number is its digits; a list is none."""
    number = read_bytes(tmp_path, line(event("login.success", username=1234, password=0))).sessions[0]
    assert (number.username, number.password) == ("1234", "0")
    nothing = read_bytes(
        tmp_path, line(event("login.success", username=["root"], password={"a": 1}))
    ).sessions[0]
    assert (nothing.username, nothing.password, nothing.passwords_sha1) == (None, None, ())


@pytest.mark.parametrize(
    ("logged", "kept"),
    [
        ("8.8.8.8", "8.8.8.8"),
        (" 8.8.8.8 ", "8.8.8.8"),
        ("2001:0DB8:0:0::1", "2001:db8::1"),
        ("::FFFF:8.8.4.4", "8.8.4.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("not an address", "not an address"),
        ("999.1.1.1", "999.1.1.1"),
        ("a\0b" + "c" * 100, "ab" + "c" * 62),
        ("", None),
        (134744072, None),
        (None, None),
    ],
)
def test_source_address(tmp_path: Path, logged: Any, kept: str | None) -> None:
    """Each address has one spelling; what is no address is kept as text, clipped."""
    assert read_bytes(tmp_path, line(connect(src_ip=logged))).sessions[0].src_ip == kept


def test_kept_text_fits_every_database(tmp_path: Path) -> None:
    """Texts that are kept have no NUL and no lone surrogate and are clipped."""
    content = line(event("login.success", username="ro\0ot\0", password="\ud800" + "p" * 300))
    content += line(event("client.version", version="\0" * 300 + "SSH"))
    session = read_bytes(tmp_path, content).sessions[0]
    assert session.username == "root"
    assert session.password == "\ufffd" + "p" * 255
    assert "\0" not in (session.client_version or "")


@pytest.mark.parametrize("port", [-1, 65536, "x", 2.5, True, "99999999999999999999"])
def test_port_that_is_none(tmp_path: Path, port: Any) -> None:
    """A port outside 0-65535, or of another type, is taken as absent."""
    assert read_bytes(tmp_path, line(connect(src_port=port))).sessions[0].src_port is None
