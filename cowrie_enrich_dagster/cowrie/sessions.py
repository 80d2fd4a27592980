"""A session of an attacker, as later stages see it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timezone
from typing import Any, NamedTuple

import orjson

Row = tuple[Any, ...]
"""The fields of a `Session` in their order, as databases take them: moments as `2025-11-01 10:00:00.123456`,
days as `2025-11-01`, lists as JSON, truth as 1 or 0. No text in it is empty. A row that would end with all of
`NOTHING_DONE` may end before it."""
NO_DEEDS: Row = ("[]", 0, "[]", 0, "[]", 0, "[]", 0, "[]", "[]")
"""The fields of a row from `logins` to `urls` where there are none."""
NOTHING_DONE: Row = (0, 0, 0, 0, 0, 0, 0, 0, *(None,) * 9, *NO_DEEDS, "[]")
"""The fields of a row from `login_failures` on, of a session that only came and went, as most do."""


class Session(NamedTuple):
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

    def row(self) -> Row:
        """It as a row."""
        return tuple([_plain(value) for value in self])

    @classmethod
    def of_row(cls, row: Row) -> Session:
        """The inverse of `row`."""
        session = cls._make(row if len(row) == len(cls._fields) else (*row, *NOTHING_DONE))
        read = {name: reader(getattr(session, name)) for name, reader in _READERS.items()}
        return session._replace(**read)


def json_text(items: Any) -> str:
    """Deeds as JSON."""
    return orjson.dumps(items).decode() if items else "[]"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return json_text(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def _of_json(text: str) -> tuple[Any, ...]:
    return tuple(orjson.loads(text))


LISTS = ("logins", "command_lines", "files", "tunnels", "file_hashes", "urls", "passwords_sha1")
"""The fields that are lists."""
_READERS: dict[str, Callable[[Any], Any]] = {
    "day": date.fromisoformat,
    **dict.fromkeys(("started_at", "ended_at", "closed_at"), _moment),
    **dict.fromkeys(("has_connect", "has_closed"), bool),
    **dict.fromkeys(LISTS, _of_json),
}
