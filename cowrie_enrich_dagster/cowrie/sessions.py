"""A session of an attacker, as later stages see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(slots=True)
class Session:
    """One session; times are aware UTC, `day` is the UTC date of `started_at`.

    `src_ip` is in its one spelling (IPv6 compressed, IPv4-mapped as IPv4), or as logged if it is no address.
    `duration_ms` is what Cowrie logged at the close, else the time from the first to the last event.
    `username` and `password` are of the first login that succeeded, else of the first attempt.
    `file_hashes` (lower-case SHA-256 of downloads and uploads), `urls` (of downloads) and `passwords_sha1`
    (upper-case hex of each password tried, in UTF-8) are sorted and distinct; of more than 200, 200 and 1,000
    the first in sorted order are kept. Client version, HASSH, architecture, terminal size (in characters) and
    JA4H are the first that were logged. Texts are clipped and free of NUL and lone surrogates.
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
    file_hashes: tuple[str, ...]
    urls: tuple[str, ...]
    passwords_sha1: tuple[str, ...]
