"""What was done in a session, as the end of its row."""

from __future__ import annotations

from typing import Any

from .deeds import Deeds
from .kinds import MAX_PASSWORDS
from .packed import ValueSet, smallest
from .sessions import NO_DEEDS, Row, json_text
from .summed import Doings, First


def end_of_row(doings: Doings) -> Row:
    """The fields of a row from `login_failures` on."""
    login = doings.success or doings.attempt or (None, None, None)
    terminal = doings.terminal or (None, None, None)
    return (
        doings.login_failures,
        doings.login_successes,
        doings.commands,
        doings.commands_failed,
        doings.downloads,
        doings.uploads,
        doings.tunnel_requests,
        doings.tunnel_data,
        login[1],
        login[2],
        _value(doings.client_version),
        _value(doings.hassh),
        _value(doings.arch),
        terminal[1],
        terminal[2],
        _value(doings.ja4h),
        _value(doings.ja4),
        *(NO_DEEDS if doings.deeds is None else _deeds(doings.deeds)),
        _digests(doings.passwords) if doings.passwords else "[]",
    )


def _value(first: First | None) -> Any:
    return None if first is None else first[1]


def _deeds(deeds: Deeds) -> Row:
    """The fields of a row from `logins` to `urls`."""
    files = deeds.told_files() if deeds.files else ()
    return (
        json_text(deeds.told_logins() if deeds.logins or deeds.offers else ()),
        deeds.logins_left_out,
        json_text(deeds.told_lines() if deeds.lines else ()),
        deeds.lines_left_out,
        json_text(files),
        deeds.files_left_out,
        json_text(deeds.told_tunnels() if deeds.tunnels else ()),
        deeds.tunnels_left_out,
        json_text(_distinct(files, "sha256")),
        json_text(_distinct(files, "url")),
    )


def _distinct(files: tuple[dict[str, Any], ...], name: str) -> tuple[str, ...]:
    return tuple(sorted({file[name] for file in files if file[name] is not None})) if files else ()


def _digests(passwords: ValueSet[bytes]) -> str:
    return json_text([digest.hex().upper() for digest in smallest(passwords, MAX_PASSWORDS)])
