"""A session of an attacker, as later stages see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(slots=True)
class Session:
    """One session, or a piece of one; times are aware UTC, `day` is the UTC date of `started_at`.

    `src_ip` is in its one spelling (IPv6 compressed, IPv4-mapped as IPv4), or as logged if it is no address.
    `duration_ms` is what Cowrie logged at the close, else the time from the first to the last event;
    `closed_at` is the moment of the (first) close, after which more may have been logged.
    `username` and `password` are of the first login that succeeded, else of the first attempt. Client
    version, HASSH, architecture, terminal size (in characters), JA4 and JA4H are the first that were logged.

    Deeds are in the order in which they were first done: `logins` with `username`, `password`, `key` (the
    fingerprint of a public key), `success` and `attempts`; `command_lines` as typed; `files` with `sha256`,
    `url`, `name` and `how` (`download`, `upload`, `written` by the shell, `failed`); `tunnels` with `host`,
    `port` and `requests`. Of very many the first are kept; `..._left_out` counts the attempts, lines, files
    and requests that are not told.
    `file_hashes` (lower-case SHA-256) and `urls` are those of `files`, `passwords_sha1` is the upper-case hex
    of each password tried, in UTF-8, of more than 1,000 the first in sorted order; all sorted and distinct.
    Texts are clipped and free of NUL and lone surrogates.
    """

    session_id: str
    sensor: str
    day: date
    src_ip: str | None
    src_port: int | None
    dst_port: int | None
    protocol: str | None
    started_at: datetime
    ended_at: datetime
    closed_at: datetime | None
    duration_ms: int
    has_connect: bool
    has_closed: bool
    event_count: int
    login_failures: int
    login_successes: int
    commands: int
    commands_failed: int
    downloads: int
    uploads: int
    tunnel_requests: int
    tunnel_data: int
    username: str | None
    password: str | None
    client_version: str | None
    hassh: str | None
    arch: str | None
    terminal_width: int | None
    terminal_height: int | None
    ja4h: str | None
    ja4: str | None
    logins: tuple[dict[str, Any], ...]
    logins_left_out: int
    command_lines: tuple[str, ...]
    command_lines_left_out: int
    files: tuple[dict[str, Any], ...]
    files_left_out: int
    tunnels: tuple[dict[str, Any], ...]
    tunnels_left_out: int
    file_hashes: tuple[str, ...]
    urls: tuple[str, ...]
    passwords_sha1: tuple[str, ...]
