"""Which files there are to be looked at."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

UNKNOWN_SENSOR = "unknown"
_PLACED_BY_ATTACKERS = frozenset({"downloads", "dl", "tty", "honeyfs"})
_HASH = re.compile(
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})(?:\..{1,8})?", re.ASCII | re.DOTALL
)


class LogFile(NamedTuple):
    """One file that may be a log.

    `name` is the path relative to the log root with `/` between its parts, always valid Unicode; `sensor` is
    the name of the folder it lies in, for events that do not name their sensor. `unseen` says why something
    is not looked into, whatever it holds: then it is a folder, or all files of a folder that are named so.
    """

    path: Path
    name: str
    sensor: str
    unseen: str = ""


def find_log_files(root: Path) -> list[LogFile]:
    """Every file at any depth under `root`, sorted by name, and what lies there that is not looked into.

    That is what attackers can place: Cowrie keeps what they upload and download in `downloads` (once `dl`)
    under names that are hashes, what they type in `tty`, and `honeyfs` is what they see. Links are followed;
    a folder or file reached by several paths counts once. A folder that cannot be listed, or a link to
    nothing, is returned like a file, so that looking at it tells the fault instead of passing over it.

    Raises FileNotFoundError if `root` is not a folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no such log folder: {root}")
    found: list[LogFile] = []
    known: set[tuple[int, int]] = set()
    folders = [LogFile(root, "", UNKNOWN_SENSOR)]
    while folders:
        folder = folders.pop()
        try:
            device = folder.path.stat().st_dev
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            found.append(folder._replace(name=folder.name or "."))
            continue
        # What is in the folder is of the sensor that it is named after; what is in the root, of none.
        sensor = folder.name.rpartition("/")[2] or UNKNOWN_SENSOR
        before = f"{folder.name}/" if folder.name else ""
        below: list[LogFile] = []
        hashes = 0
        for entry in entries:
            is_folder = _is_folder(entry)
            if not is_folder and _HASH.fullmatch(entry.name):
                hashes += 1
                continue
            file = LogFile(Path(entry.path), before + _unicode(entry.name), sensor)
            if is_folder and _real_name(entry) in _PLACED_BY_ATTACKERS:
                found.append(file._replace(unseen="a folder in which attackers place files"))
                continue
            identity = _identity(entry, device, is_folder=is_folder)
            if identity in known:
                continue
            if identity is not None:
                known.add(identity)
            (below if is_folder else found).append(file)
        if hashes:
            reason = f"{hashes} files named by a hash, as Cowrie keeps what attackers place"
            found.append(LogFile(folder.path / "*", f"{before}*", sensor, reason))
        folders.extend(reversed(below))
    return sorted(found, key=lambda file: file.name)


def _unicode(part: str) -> str:
    return os.fsencode(part).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _real_name(entry: os.DirEntry[str]) -> str:
    return Path(entry.path).resolve().name if entry.is_symlink() else entry.name


def _identity(entry: os.DirEntry[str], device: int, *, is_folder: bool) -> tuple[int, int] | None:
    """Device and inode; of a file as the folder's listing has them: of 100,000 none is asked for its own."""
    if not is_folder and not entry.is_symlink():
        return device, entry.inode()
    try:
        stat = entry.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
