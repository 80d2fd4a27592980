"""What each kind of Cowrie's events says about its session.

Kinds: https://docs.cowrie.org/en/latest/OUTPUT.html, and those of older versions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from typing import Any

from .deeds import Deeds, Login
from .fields import (
    TEXT_CHARS,
    address_field,
    clean,
    duration_field,
    int_field,
    raw_text_field,
    text_field,
    version_field,
)
from .packed import with_value
from .summed import Doings, First, Summed

MAX_PASSWORDS = 1000
CONNECT = "cowrie.session.connect"
_CODE_CHARS = 64
_PROTOCOL_CHARS = 16
_MAX_PORT = _MAX_TERMINAL = 65535

END_FIELDS: dict[str, Callable[[dict[str, Any]], str | int | None]] = {
    "src_ip": lambda fields: address_field(fields, "src_ip"),
    "src_port": lambda fields: int_field(fields, "src_port", _MAX_PORT),
    "dst_port": lambda fields: int_field(fields, "dst_port", _MAX_PORT),
    "protocol": lambda fields: text_field(fields, "protocol", _PROTOCOL_CHARS),
}


def _earlier(new: First, known: First | None) -> First:
    """The one of the two that came first."""
    if known is None or new[0] < known[0] or (new[0] == known[0] and repr(new) < repr(known)):
        return new
    return known


@lru_cache(maxsize=4096)
def _digest(password: str) -> bytes:
    return sha1(password.encode(), usedforsecurity=False).digest()


def _doings(piece: Summed) -> Doings:
    doings = piece.doings
    if doings is None:
        doings = piece.doings = Doings()
    return doings


def _deeds(piece: Summed) -> Deeds:
    doings = _doings(piece)
    if doings.deeds is None:
        doings.deeds = Deeds()
    return doings.deeds


def _connect(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    piece.has_connect = True
    src_ip = address_field(fields, "src_ip")
    src_port = int_field(fields, "src_port", _MAX_PORT)
    dst_port = int_field(fields, "dst_port", _MAX_PORT)
    protocol = text_field(fields, "protocol", _PROTOCOL_CHARS)
    if not (src_ip is None or src_port is None or dst_port is None or protocol is None):
        piece.connect = _earlier((at, src_ip, src_port, dst_port, protocol), piece.connect)
        piece.ends = None


def _closed(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    if piece.closed_at is None or at < piece.closed_at:
        piece.closed_at = at
    duration = duration_field(fields)
    if duration is not None:
        piece.closed = _earlier((at, duration), piece.closed)


def _login(piece: Summed, at: str, fields: dict[str, Any], *, success: bool) -> First:
    password = raw_text_field(fields, "password")
    if password is not None:
        digest = _digest(password) if len(password) <= TEXT_CHARS else _digest.__wrapped__(password)
        doings = _doings(piece)
        doings.passwords = with_value(doings.passwords, digest, MAX_PASSWORDS)
        password = clean(password, TEXT_CHARS)
    username = text_field(fields, "username")
    login: Login = (username, password, text_field(fields, "fingerprint"), success)
    _deeds(piece).login(at, login)
    return at, username, password or None


def _login_failed(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    attempt, doings = _login(piece, at, fields, success=False), _doings(piece)
    doings.login_failures += 1
    doings.attempt = _earlier(attempt, doings.attempt)


def _login_success(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    attempt, doings = _login(piece, at, fields, success=True), _doings(piece)
    doings.login_successes += 1
    doings.success = _earlier(attempt, doings.success)


def _fingerprint(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _deeds(piece).offer(at, fields)


def _exploit_attempt(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    # Who logs in is what the environment variable says (`-f root`), and no password is asked for.
    _deeds(piece).login(at, (text_field(fields, "value"), None, None, False))


def _command_input(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).commands += 1
    _deeds(piece).line(at, fields)


def _command_failed(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).commands_failed += 1


def _command_input_failed(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).commands_failed += 1
    _command_input(piece, at, fields)


def _session_input(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _deeds(piece).line(at, fields)


def _download(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).downloads += 1
    _deeds(piece).file(at, fields, "download")


def _download_failed(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _deeds(piece).file(at, fields, "failed")


def _upload(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).uploads += 1
    _deeds(piece).file(at, fields, "upload")


def _tunnel_request(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).tunnel_requests += 1
    _deeds(piece).tunnel(at, fields, 1)


def _tunnel_named(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _deeds(piece).tunnel(at, fields, 0)


def _tunnel_data(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    _doings(piece).tunnel_data += 1
    _deeds(piece).tunnel(at, fields, 0)


def _client_version(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    version = version_field(fields)
    if version is not None:
        doings = _doings(piece)
        doings.client_version = _earlier((at, version), doings.client_version)


def _client_kex(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    hassh = text_field(fields, "hassh", _CODE_CHARS)
    if hassh is not None:
        doings = _doings(piece)
        doings.hassh = _earlier((at, hassh), doings.hassh)


def _session_params(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    arch = text_field(fields, "arch", _CODE_CHARS)
    if arch is not None:
        doings = _doings(piece)
        doings.arch = _earlier((at, arch), doings.arch)


def _client_size(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    width = int_field(fields, "width", _MAX_TERMINAL)
    height = int_field(fields, "height", _MAX_TERMINAL)
    if width is not None and height is not None:
        doings = _doings(piece)
        doings.terminal = _earlier((at, width, height), doings.terminal)


def _ja4h(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    fingerprint = text_field(fields, "ja4h", _CODE_CHARS)
    if fingerprint is not None:
        doings = _doings(piece)
        doings.ja4h = _earlier((at, fingerprint), doings.ja4h)
    _tunnel_named(piece, at, fields)


def _ja4(piece: Summed, at: str, fields: dict[str, Any]) -> None:
    fingerprint = text_field(fields, "ja4", _CODE_CHARS)
    if fingerprint is not None:
        doings = _doings(piece)
        doings.ja4 = _earlier((at, fingerprint), doings.ja4)
    _tunnel_named(piece, at, fields)


HANDLERS: dict[str, Callable[[Summed, str, dict[str, Any]], None]] = {
    CONNECT: _connect,
    "cowrie.session.closed": _closed,
    "cowrie.session.params": _session_params,
    "cowrie.session.input": _session_input,
    "cowrie.session.file_download": _download,
    "cowrie.session.file_download.failed": _download_failed,
    "cowrie.session.file_upload": _upload,
    "cowrie.login.failed": _login_failed,
    "cowrie.login.success": _login_success,
    "cowrie.telnet.exploit_attempt": _exploit_attempt,
    "cowrie.telnet.exploit_success": _login_success,
    "cowrie.command.input": _command_input,
    "cowrie.command.failed": _command_failed,
    "cowrie.command.input.failed": _command_input_failed,
    "cowrie.client.version": _client_version,
    "cowrie.client.kex": _client_kex,
    "cowrie.client.size": _client_size,
    "cowrie.client.fingerprint": _fingerprint,
    "cowrie.direct-tcpip.request": _tunnel_request,
    "cowrie.direct-tcpip.redirect": _tunnel_named,
    "cowrie.direct-tcpip.tunnel": _tunnel_named,
    "cowrie.direct-tcpip.data": _tunnel_data,
    "cowrie.direct-tcpip.ja4": _ja4,
    "cowrie.direct-tcpip.ja4h": _ja4h,
}
