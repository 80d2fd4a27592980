"""What was done in a session: credentials tried, lines typed, files moved, tunnels asked for; all bounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .fields import clean, file_hash_field, int_field, raw_text_field, text_field, url_field

MAX_LOGINS = 200
MAX_LINES = 500
MAX_FILES = 200
MAX_TUNNELS = 200
LINE_CHARS = 4096
LINES_CHARS = 32_768
"""So many characters of all lines of a session are kept, each cut to `LINE_CHARS`."""
_URL_CHARS = 2048
_PATH_CHARS = 1024
_MAX_PORT = 65535

Login = tuple[str | None, str | None, str | None, bool]
"""Username, password, fingerprint of the public key, whether it let the attacker in."""
File = tuple[str | None, str | None, str | None, str]
"""SHA-256, URL, name, and how: `download`, `upload`, `written` (by the shell) or `failed`."""
Tunnel = tuple[str | None, int | None]
LOGIN_NAMES = ("username", "password", "key", "success", "attempts")
FILE_NAMES = ("sha256", "url", "name", "how")
TUNNEL_NAMES = ("host", "port", "requests")


@dataclass(slots=True, eq=False)
class Deeds:
    """Gathered in any order; of each kind the first that are met are kept, and the others counted."""

    logins: dict[Login, list[Any]] = field(default_factory=dict)
    offers: dict[tuple[str | None, str], list[Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    chars: int = 0
    files: dict[File, str] = field(default_factory=dict)
    tunnels: dict[Tunnel, list[Any]] = field(default_factory=dict)
    logins_left_out: int = 0
    lines_left_out: int = 0
    files_left_out: int = 0
    tunnels_left_out: int = 0

    def login(self, at: str, login: Login) -> None:
        """One attempt to log in."""
        if not _counted(self.logins, login, at, 1, MAX_LOGINS):
            self.logins_left_out += 1

    def offer(self, at: str, fields: dict[str, Any]) -> None:
        """A public key that was shown: an attempt of its own where no login with it is logged."""
        key = text_field(fields, "fingerprint")
        if key is not None and not _counted(
            self.offers, (text_field(fields, "username"), key), at, 1, MAX_LOGINS
        ):
            self.logins_left_out += 1

    def line(self, at: str, fields: dict[str, Any]) -> None:
        """A line that was typed."""
        text = raw_text_field(fields, "input")
        if text is None:
            return
        text = clean(text, LINE_CHARS)
        if self.lines_left_out or len(self.lines) >= MAX_LINES or self.chars + len(text) > LINES_CHARS:
            self.lines_left_out += 1
            return
        self.chars += len(text)
        self.lines.append((at, text))

    def file(self, at: str, fields: dict[str, Any], how: str) -> None:
        """A file that came, or should have come."""
        url = url_field(fields, _URL_CHARS)
        name = text_field(fields, "filename", _PATH_CHARS) or text_field(fields, "destfile", _PATH_CHARS)
        if how == "download" and url is None:
            how = "written"
            # Where a file was written stood in `url`, beside the names of streams.
            path = text_field(fields, "url", _PATH_CHARS)
            name = name or (path if path and "/" in path else None)
        file = file_hash_field(fields), url, name, how
        known = self.files.get(file)
        if known is None and len(self.files) >= MAX_FILES:
            self.files_left_out += 1
        elif known is None or at < known:
            self.files[file] = at

    def tunnel(self, at: str, fields: dict[str, Any], requests: int) -> None:
        """A tunnel that was asked for (1), or another event that names its target (0)."""
        target = text_field(fields, "dst_ip"), int_field(fields, "dst_port", _MAX_PORT)
        if target != (None, None) and not _counted(self.tunnels, target, at, requests, MAX_TUNNELS):
            self.tunnels_left_out += requests

    def told_logins(self) -> tuple[dict[str, Any], ...]:
        """The logins, by the moment of the first attempt; those of one moment by what they are."""
        logins = self.logins
        if self.offers:
            tried = {(user, key) for user, _, key, _ in logins}
            shown = {(user, None, key, False): n for (user, key), n in self.offers.items()}
            logins = {**logins, **{login: n for login, n in shown.items() if login[::2] not in tried}}
        return tuple(
            [
                {"username": user, "password": password, "key": key, "success": success, "attempts": number}
                for (user, password, key, success), number in _in_order(logins)
            ]
        )

    def told_lines(self) -> tuple[str, ...]:
        """The lines, as typed, in order; of one moment as they stand in the log."""
        return tuple(text for _, text in sorted(self.lines, key=_moment))

    def told_files(self) -> tuple[dict[str, Any], ...]:
        """The files, by the moment they first came."""
        files = sorted(self.files, key=lambda file: (self.files[file], str(file)))
        return tuple(dict(zip(FILE_NAMES, file, strict=True)) for file in files)

    def told_tunnels(self) -> tuple[dict[str, Any], ...]:
        """The targets, by the moment of the first request."""
        return tuple(
            dict(zip(TUNNEL_NAMES, (*target, number), strict=True))
            for target, number in _in_order(self.tunnels)
        )


def _counted(counts: dict[Any, list[Any]], item: Any, at: str, number: int, limit: int) -> bool:
    """Add `number` to the item's count; False if it is new and there are enough others."""
    known = counts.get(item)
    if known is None:
        if len(counts) >= limit:
            return False
        counts[item] = [at, number]
        return True
    known[1] += number
    known[0] = min(known[0], at)
    return True


def _in_order(counts: dict[Any, list[Any]]) -> Iterable[tuple[Any, int]]:
    in_order: Iterable[Any] = counts
    if len(counts) > 1:
        in_order = sorted(counts, key=lambda item: (counts[item][0], str(item)))
    return [(item, counts[item][1]) for item in in_order]


def _moment(line: tuple[str, str]) -> str:
    return line[0]


Told = Sequence[dict[str, Any]]


def more_counted(known: Told, later: Told, count: str, limit: int) -> tuple[tuple[dict[str, Any], ...], int]:
    """Two told lists as one, equal items counted together; and how much of `later` finds no place."""
    together = {_identity(item, count): dict(item) for item in known}
    left_out = 0
    for item in later:
        identity = _identity(item, count)
        if identity in together:
            together[identity][count] += item[count]
        elif len(together) < limit:
            together[identity] = dict(item)
        else:
            left_out += item[count]
    return tuple(together.values()), left_out


def _identity(item: dict[str, Any], count: str) -> tuple[Any, ...]:
    return tuple(value for name, value in item.items() if name != count)


def more_files(known: Told, later: Told) -> tuple[tuple[dict[str, Any], ...], int]:
    """Two told lists of files as one; and how many of `later` find no place."""
    new = [item for item in later if item not in known]
    place = MAX_FILES - len(known)
    return (*known, *new[:place]), max(0, len(new) - place)


def more_lines(known: Sequence[str], left_out: int, later: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Two told lists of lines as one; and how many of `later` find no place, after `left_out` before."""
    lines, chars = list(known), sum(map(len, known))
    for number, line in enumerate(later):
        if left_out or len(lines) >= MAX_LINES or chars + len(line) > LINES_CHARS:
            return tuple(lines), len(later) - number
        chars += len(line)
        lines.append(line)
    return tuple(lines), 0
