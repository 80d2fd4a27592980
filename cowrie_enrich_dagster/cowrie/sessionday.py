"""What is known of a session while its events still come in, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha1
from typing import Any

from .fields import (
    TEXT_CHARS,
    address_field,
    duration_field,
    file_hash_field,
    int_field,
    raw_text_field,
    text_field,
    url_field,
    version_field,
)
from .packed import MarkSet, ValueSet, smallest, with_mark, with_value
from .sessions import Session

MAX_FILE_HASHES = 200
MAX_URLS = 200
MAX_PASSWORDS = 1000
_URL_CHARS = 2048
_CODE_CHARS = 64
_PROTOCOL_CHARS = 16
_TUNNEL_KINDS = ("cowrie.direct-tcpip.", "cowrie.tunnelproxy-tcpip.", "cowrie.tcpip-forward")
_MAX_PORT = _MAX_TERMINAL = 65535

_First = tuple[Any, ...]
"""A moment, then what was logged at it; of several the earliest is kept, of equal ones the smallest."""

_COUNTERS = (
    "event_count",
    "login_failures",
    "login_successes",
    "commands",
    "commands_failed",
    "downloads",
    "uploads",
    "tunnel_requests",
    "tunnel_data",
)
_FIRSTS = ("connect", "closed", "attempt", "success", "client_version", "hassh", "arch", "terminal", "ja4h")


@dataclass(slots=True, eq=False)
class SessionDay:
    """The events of one session on one UTC day, summed up; the order in which they are added does not matter.

    Moments are UTC without tzinfo. Memory: some hundred bytes, and 8 to 16 per event, whatever is sent.
    """

    began: datetime
    ended: datetime
    marks: MarkSet = b""
    event_count: int = 0
    has_connect: bool = False
    has_closed: bool = False
    login_failures: int = 0
    login_successes: int = 0
    commands: int = 0
    commands_failed: int = 0
    downloads: int = 0
    uploads: int = 0
    tunnel_requests: int = 0
    tunnel_data: int = 0
    connect: _First | None = None  # address, ports and protocol from an event that had them all
    ends: dict[str, _First] | None = None  # else each of them from the best event that had it
    closed: _First | None = None
    attempt: _First | None = None
    success: _First | None = None
    client_version: _First | None = None
    hassh: _First | None = None
    arch: _First | None = None
    terminal: _First | None = None
    ja4h: _First | None = None
    file_hashes: ValueSet[str] = ()
    urls: ValueSet[str] = ()
    passwords: ValueSet[bytes] = ()

    def add(self, kind: str, at: datetime, identity: int, fields: dict[str, Any]) -> bool:
        """Take one event of this day; False, and nothing changes, if the same event was taken before."""
        marks = with_mark(self.marks, identity)
        if marks is None:
            return False
        self.marks = marks
        self.event_count += 1
        if at < self.began:
            self.began = at
        elif at > self.ended:
            self.ended = at
        handle = _HANDLERS.get(kind)
        if handle is not None:
            handle(self, at, fields)
        if self.connect is None:
            self._note_ends(kind, at, fields)
        return True

    def absorb(self, later: SessionDay) -> None:
        """Add what a later day of the same session holds."""
        self.began = min(self.began, later.began)
        self.ended = max(self.ended, later.ended)
        self.has_connect |= later.has_connect
        self.has_closed |= later.has_closed
        for name in _COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for name in _FIRSTS:
            first = getattr(later, name)
            if first is not None:
                setattr(self, name, _earlier(first, getattr(self, name)))
        for name, first in (later.ends or {}).items():
            self._note_end(name, first)
        for value in later.file_hashes:
            self.file_hashes = with_value(self.file_hashes, value, MAX_FILE_HASHES)
        for value in later.urls:
            self.urls = with_value(self.urls, value, MAX_URLS)
        for digest in later.passwords:
            self.passwords = with_value(self.passwords, digest, MAX_PASSWORDS)

    def session(self, session_id: str, sensor: str, day: date) -> Session:
        """The session, given the rest of what is known about it."""
        login = self.success or self.attempt or (None, None, None)
        if self.connect is not None:
            _, src_ip, src_port, dst_port, protocol = self.connect
        else:
            ends = self.ends or {}
            src_ip, src_port, dst_port, protocol = (_value(ends.get(name)) for name in _END_FIELDS)
        length = round((self.ended - self.began) / timedelta(milliseconds=1))
        return Session(
            session_id=session_id,
            sensor=sensor,
            day=day,
            src_ip=src_ip,
            src_port=src_port,
            dst_port=dst_port,
            protocol=protocol,
            started_at=self.began.replace(tzinfo=timezone.utc),
            ended_at=self.ended.replace(tzinfo=timezone.utc),
            duration_ms=length if self.closed is None else self.closed[1],
            has_connect=self.has_connect,
            has_closed=self.has_closed,
            event_count=self.event_count,
            login_failures=self.login_failures,
            login_successes=self.login_successes,
            commands=self.commands,
            commands_failed=self.commands_failed,
            downloads=self.downloads,
            uploads=self.uploads,
            tunnel_requests=self.tunnel_requests,
            tunnel_data=self.tunnel_data,
            username=login[1],
            password=login[2],
            client_version=_value(self.client_version),
            hassh=_value(self.hassh),
            arch=_value(self.arch),
            terminal_width=None if self.terminal is None else self.terminal[1],
            terminal_height=_value(self.terminal),
            ja4h=_value(self.ja4h),
            file_hashes=smallest(self.file_hashes, MAX_FILE_HASHES),
            urls=smallest(self.urls, MAX_URLS),
            passwords_sha1=tuple(digest.hex().upper() for digest in smallest(self.passwords, MAX_PASSWORDS)),
        )

    def _note_ends(self, kind: str, at: datetime, fields: dict[str, Any]) -> None:
        # Connect events come first whenever they were logged. A tunnel's events have its ports, which the
        # client claims; their address is the session's, but only Cowrie's output puts it there.
        is_tunnel = kind.startswith(_TUNNEL_KINDS)
        rank = 0 if kind == "cowrie.session.connect" else 2 if is_tunnel else 1
        for name, read in _END_FIELDS.items():
            if is_tunnel and name in ("src_port", "dst_port"):
                continue
            value = read(fields)
            if value is not None:
                self._note_end(name, (rank, at, value))

    def _note_end(self, name: str, first: _First) -> None:
        if self.ends is None:
            self.ends = {}
        known = self.ends.get(name)
        if known is None or first < known:
            self.ends[name] = first


_END_FIELDS: dict[str, Callable[[dict[str, Any]], str | int | None]] = {
    "src_ip": lambda fields: address_field(fields, "src_ip"),
    "src_port": lambda fields: int_field(fields, "src_port", _MAX_PORT),
    "dst_port": lambda fields: int_field(fields, "dst_port", _MAX_PORT),
    "protocol": lambda fields: text_field(fields, "protocol", _PROTOCOL_CHARS),
}


def _earlier(new: _First, known: _First | None) -> _First:
    if known is None or new[0] < known[0] or (new[0] == known[0] and repr(new) < repr(known)):
        return new
    return known


def _value(first: _First | None) -> Any:
    """The value of a moment and one value, or of a rank, a moment and one value."""
    return None if first is None else first[-1]


@lru_cache(maxsize=4096)
def _digest(password: str) -> bytes:
    return sha1(password.encode(), usedforsecurity=False).digest()


def _connect(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.has_connect = True
    ends = [read(fields) for read in _END_FIELDS.values()]
    if None not in ends:
        day.connect = _earlier((at, *ends), day.connect)
        day.ends = None


def _closed(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.has_closed = True
    duration = duration_field(fields)
    if duration is not None:
        day.closed = _earlier((at, duration), day.closed)


def _login(day: SessionDay, at: datetime, fields: dict[str, Any]) -> _First:
    password = raw_text_field(fields, "password")
    if password is not None:
        digest = _digest(password) if len(password) <= TEXT_CHARS else _digest.__wrapped__(password)
        day.passwords = with_value(day.passwords, digest, MAX_PASSWORDS)
    return at, text_field(fields, "username"), text_field(fields, "password")


def _login_failed(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.login_failures += 1
    day.attempt = _earlier(_login(day, at, fields), day.attempt)


def _login_success(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.login_successes += 1
    day.success = _earlier(_login(day, at, fields), day.success)


def _command_input(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.commands += 1


def _command_failed(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.commands_failed += 1


def _command_input_failed(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.commands += 1
    day.commands_failed += 1


def _file(day: SessionDay, fields: dict[str, Any]) -> None:
    sha256 = file_hash_field(fields)
    if sha256 is not None:
        day.file_hashes = with_value(day.file_hashes, sha256, MAX_FILE_HASHES)
    url = url_field(fields, _URL_CHARS)
    if url is not None:
        day.urls = with_value(day.urls, url, MAX_URLS)


def _download(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.downloads += 1
    _file(day, fields)


def _download_failed(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    _file(day, fields)


def _upload(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.uploads += 1
    _file(day, fields)


def _tunnel_request(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.tunnel_requests += 1


def _tunnel_data(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    day.tunnel_data += 1


def _client_version(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    version = version_field(fields)
    if version is not None:
        day.client_version = _earlier((at, version), day.client_version)


def _client_kex(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    hassh = text_field(fields, "hassh", _CODE_CHARS)
    if hassh is not None:
        day.hassh = _earlier((at, hassh), day.hassh)


def _session_params(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    arch = text_field(fields, "arch", _CODE_CHARS)
    if arch is not None:
        day.arch = _earlier((at, arch), day.arch)


def _client_size(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    width = int_field(fields, "width", _MAX_TERMINAL)
    height = int_field(fields, "height", _MAX_TERMINAL)
    if width is not None and height is not None:
        day.terminal = _earlier((at, width, height), day.terminal)


def _ja4h(day: SessionDay, at: datetime, fields: dict[str, Any]) -> None:
    fingerprint = text_field(fields, "ja4h", _CODE_CHARS)
    if fingerprint is not None:
        day.ja4h = _earlier((at, fingerprint), day.ja4h)


_HANDLERS: dict[str, Callable[[SessionDay, datetime, dict[str, Any]], None]] = {
    "cowrie.session.connect": _connect,
    "cowrie.session.closed": _closed,
    "cowrie.session.params": _session_params,
    "cowrie.session.file_download": _download,
    "cowrie.session.file_download.failed": _download_failed,
    "cowrie.session.file_upload": _upload,
    "cowrie.login.failed": _login_failed,
    "cowrie.login.success": _login_success,
    "cowrie.command.input": _command_input,
    "cowrie.command.failed": _command_failed,
    "cowrie.command.input.failed": _command_input_failed,
    "cowrie.client.version": _client_version,
    "cowrie.client.kex": _client_kex,
    "cowrie.client.size": _client_size,
    "cowrie.direct-tcpip.request": _tunnel_request,
    "cowrie.direct-tcpip.data": _tunnel_data,
    "cowrie.direct-tcpip.ja4h": _ja4h,
}
