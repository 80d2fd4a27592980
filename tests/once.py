"""What is made once for all processes of a run of tests, by the first of them that wants it."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

_FOLDER = "TESTS_SHARED_FOLDER"
_ROOM = 2 * 1024**3


def in_memory() -> Path | None:
    """Where files are in memory, if there is room enough: a database has three hundred, new for each test."""
    folder = Path("/dev/shm")
    is_large = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM
    return folder if is_large else None


@cache
def shared() -> Path:
    """A folder that the first process which calls this makes, removes at its end, and shares with those that
    it starts from then on."""
    if _FOLDER not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="tests-shared-", dir=in_memory()))
        folder.chmod(0o755)  # servers run as somebody else
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[_FOLDER] = str(folder)
    return Path(os.environ[_FOLDER])


def once(name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder of that name, which is there whole; `make` is given where it is to be made."""
    path = shared() / name
    with (shared() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=shared()) as folder:
                in_work = Path(folder) / name
                make(in_work)
                in_work.rename(path)
    return path
