"""The pieces of one id on one sensor, in time order, to sessions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from .deeds import MAX_FILES, MAX_LOGINS, MAX_TUNNELS, more_counted, more_files, more_lines
from .kinds import MAX_PASSWORDS
from .sessions import Session

LONGEST_SILENCE = timedelta(days=1)
_SUMS = (
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
_FIRSTS = ("closed_at", "client_version", "hassh", "arch", "ja4h", "ja4")
_ENDS = ("src_ip", "src_port", "dst_port", "protocol")


def sessions_of(pieces: Iterable[Session]) -> list[tuple[Session, int]]:
    """The sessions that these pieces of one id make, in order, each with the number of its pieces.

    A session is what one connection did. A connect begins another one where a close came before it or where
    it names another source; so does whatever comes after a silence of more than a day, but for the close of
    the session that was silent.
    """
    sessions: list[tuple[Session, int]] = []
    for piece in sorted(pieces, key=lambda piece: piece.started_at):
        if sessions and not _begins_another(sessions[-1][0], piece):
            so_far, number = sessions[-1]
            sessions[-1] = _joined(so_far, piece), number + 1
        else:
            sessions.append((piece, 1))
    return sessions


def settled(pieces: list[Session]) -> list[Session]:
    """The same pieces of one day with those made one that are of one session whatever other days hold.

    So is a connect that is logged again: from the same source, and nothing was closed in between.
    """
    kept = pieces[:1]
    for piece in pieces[1:]:
        before = kept[-1]
        same = before.has_connect and before.src_ip is not None and before.src_ip == piece.src_ip
        if same and not before.has_closed:
            kept[-1] = _joined(before, piece)
        else:
            kept.append(piece)
    return kept


def _begins_another(so_far: Session, piece: Session) -> bool:
    if piece.has_connect and (so_far.has_closed or _is_elsewhere(so_far, piece)):
        return True
    if piece.started_at - so_far.ended_at <= LONGEST_SILENCE:
        return False
    closes = piece.closed_at == piece.started_at and not piece.has_connect and not so_far.has_closed
    return not closes or _is_elsewhere(so_far, piece)


def _is_elsewhere(so_far: Session, piece: Session) -> bool:
    return None not in (so_far.src_ip, piece.src_ip) and so_far.src_ip != piece.src_ip


def _joined(so_far: Session, piece: Session) -> Session:
    if piece.ended_at <= so_far.ended_at:
        return so_far  # a row of before the pieces were kept, which holds what came the day after
    changes: dict[str, Any] = {name: getattr(so_far, name) + getattr(piece, name) for name in _SUMS}
    for name in _FIRSTS:
        changes[name] = _first(getattr(so_far, name), getattr(piece, name))
    first, second = (so_far, piece) if so_far.has_connect or not piece.has_connect else (piece, so_far)
    for name in _ENDS:
        changes[name] = _first(getattr(first, name), getattr(second, name))
    sized = so_far if so_far.terminal_width is not None else piece
    shown = piece if piece.login_successes and not so_far.login_successes else so_far
    if not (so_far.login_successes or so_far.login_failures):
        shown = piece
    logins, logins_lost = more_counted(so_far.logins, piece.logins, "attempts", MAX_LOGINS)
    tunnels, tunnels_lost = more_counted(so_far.tunnels, piece.tunnels, "requests", MAX_TUNNELS)
    files, files_lost = more_files(so_far.files, piece.files)
    lines, lines_lost = more_lines(so_far.command_lines, so_far.command_lines_left_out, piece.command_lines)
    return so_far._replace(
        **changes,
        ended_at=piece.ended_at,
        duration_ms=_duration(so_far, piece),
        has_connect=so_far.has_connect or piece.has_connect,
        has_closed=so_far.has_closed or piece.has_closed,
        username=shown.username,
        password=shown.password,
        terminal_width=sized.terminal_width,
        terminal_height=sized.terminal_height,
        logins=logins,
        logins_left_out=so_far.logins_left_out + piece.logins_left_out + logins_lost,
        command_lines=lines,
        command_lines_left_out=so_far.command_lines_left_out + piece.command_lines_left_out + lines_lost,
        files=files,
        files_left_out=so_far.files_left_out + piece.files_left_out + files_lost,
        tunnels=tunnels,
        tunnels_left_out=so_far.tunnels_left_out + piece.tunnels_left_out + tunnels_lost,
        file_hashes=_union(so_far.file_hashes, piece.file_hashes, MAX_FILES),
        urls=_union(so_far.urls, piece.urls, MAX_FILES),
        passwords_sha1=_union(so_far.passwords_sha1, piece.passwords_sha1, MAX_PASSWORDS),
    )


def _first(earlier: Any, later: Any) -> Any:
    return later if earlier is None else earlier


def _union(some: tuple[str, ...], others: tuple[str, ...], limit: int) -> tuple[str, ...]:
    return tuple(sorted({*some, *others})[:limit])


def _duration(so_far: Session, piece: Session) -> int:
    """As it was logged at the close, which is what differs from the time between the events."""
    for part in (so_far, piece):
        if part.has_closed and part.duration_ms != _span_ms(part.ended_at - part.started_at):
            return part.duration_ms
    return _span_ms(piece.ended_at - so_far.started_at)


def _span_ms(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
