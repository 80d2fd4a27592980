"""Where the log files are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_LOG_NAME = re.compile(r"cowrie\.json(?:[._-][\d._-]*\d)?(?:\.gz|\.bz2)?", re.ASCII)
UNKNOWN_SENSOR = "unknown"


class LogFile(NamedTuple):
    """One log file.

    `name` is the path relative to the log root with `/` between its parts, always valid Unicode; `sensor` is
    the name of the folder it lies in, for events that do not name their sensor.
    """

    path: Path
    name: str
    sensor: str


def find_log_files(root: Path) -> list[LogFile]:
    """Cowrie's JSON logs at any depth under `root`, sorted by name.

    Taken are `cowrie.json` and its rotations: a date or number after `.`, `-` or `_`, then `.gz` or `.bz2`.
    Links are followed; a folder or file reached by several paths counts once. A folder that cannot be
    listed, or a link to nothing, is returned like a file, so that reading it reports the fault instead of
    passing over it.

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
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            found.append(folder._replace(name=folder.name or "."))
            continue
        # What is in the folder is of the sensor that it is named after; what is in the root, of none.
        sensor = folder.name.rpartition("/")[2] or UNKNOWN_SENSOR
        below: list[LogFile] = []
        for entry in entries:
            is_folder = _is_folder(entry)
            if not is_folder and not _LOG_NAME.fullmatch(entry.name):
                continue
            identity = _identity(entry)
            if identity in known:
                continue
            if identity is not None:
                known.add(identity)
            name = f"{folder.name}/{_unicode(entry.name)}" if folder.name else _unicode(entry.name)
            (below if is_folder else found).append(LogFile(Path(entry.path), name, sensor))
        folders.extend(reversed(below))
    return sorted(found, key=lambda file: file.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _unicode(part: str) -> str:
    return os.fsencode(part).decode("utf-8", "backslashreplace")


def _identity(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        stat = entry.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
