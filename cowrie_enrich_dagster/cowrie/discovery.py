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
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            found.append(_log_file(root, folder))
            continue
        below: list[Path] = []
        for entry in entries:
            is_folder = entry.is_dir()
            if not is_folder and not _LOG_NAME.fullmatch(entry.name):
                continue
            identity = _identity(entry)
            if identity in known:
                continue
            if identity is not None:
                known.add(identity)
            if is_folder:
                below.append(entry)
            else:
                found.append(_log_file(root, entry))
        folders.extend(reversed(below))
    return sorted(found, key=lambda file: file.name)


def _log_file(root: Path, path: Path) -> LogFile:
    parts = [_unicode(part) for part in path.relative_to(root).parts]
    return LogFile(path, "/".join(parts) or ".", parts[-2] if len(parts) > 1 else UNKNOWN_SENSOR)


def _unicode(part: str) -> str:
    return os.fsencode(part).decode("utf-8", "backslashreplace")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
