"""A process that looks through log files and reads days of them for another one, until that one is gone.

To `index` it gets a file and what is known of that; it sends `indexed` and what it knows then.
To `read` it gets a stretch: the files in it, its days, all days that are read, and how rows are packed, if
they are. It sends `pieces` (a day, and the pieces of some ids; of none, when that were all),
before them `packed` (a file with the others), `rejected` (lines), and at the end of a stretch `done` with the
counts, or `failed` with what went wrong. It is some packed days ahead: it is told of each that is `taken`.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from cowrie_enrich_dagster.storage.packed_rows import pack_rows
from cowrie_enrich_dagster.vocabulary import Days

from .discovery import LogFile
from .file_index import FileIndex, index_step
from .frames import receive, send
from .garbage import few_collections
from .quarantine import Rejected
from .read_days import DayOfPieces, read_days
from .read_report import ReadReport
from .sessions import NOTHING_DONE, Row, Session

_BATCH_BYTES = 128 * 1024
_LINES_AT_ONCE = 200
_DAYS_AHEAD = 3
"""So many packed days may lie on the disk for each process."""
_DELETIONS = 20
"""A folder to which something was added while it was being deleted is deleted again, up to so often."""


def main() -> None:
    """Read until the other side of the pipes is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked: it goes, and we with it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not do so between two messages
    waiting: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    ahead = threading.Semaphore(_DAYS_AHEAD)
    listener = threading.Thread(target=_listen, args=(sys.stdin.buffer, waiting, ahead), daemon=True)
    listener.start()
    try:
        with few_collections():
            while True:
                kind, *asked = waiting.get()
                if kind == "index":
                    send(answers, "indexed", _indexed(*asked))
                else:
                    _read(asked, answers, ahead)
    except BrokenPipeError:
        listener.join()  # it has yet to delete what is packed, and then ends us


def _listen(asked: BinaryIO, waiting: queue.SimpleQueue[list[Any]], ahead: threading.Semaphore) -> None:
    """Take what is asked; end the process, whatever it is doing, when nobody is there to ask.

    Who asked was killed then, and cannot delete the packed rows that nobody will take.
    """
    folder = None
    while (message := receive(asked)) is not None:
        if message == ["taken"]:
            ahead.release()
            continue
        if message[0] == "read":
            *_, packing = message
            folder = packing and packing[0]
        waiting.put(message)
    if folder:
        delete(Path(folder))
    os._exit(0)


def delete(folder: Path) -> None:
    """Delete a folder in which others write; without it they cannot."""
    for _ in range(_DELETIONS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


def _indexed(path: str, known: dict[str, Any] | None) -> dict[str, Any]:
    return index_step(_path(path), FileIndex.from_dict(known) if known else None).to_dict()


def _read(message: list[Any], answers: BinaryIO, ahead: threading.Semaphore) -> None:
    files, days, all_days, packing = message
    rejected: list[list[Any]] = []
    report = ReadReport()

    def reject(one: Rejected) -> None:
        rejected.append(one.to_plain())
        if len(rejected) >= _LINES_AT_ONCE:
            send(answers, "rejected", rejected)
            rejected.clear()

    try:
        logs = dict(map(_log, files))
        for of_day in read_days(logs, _days(days), reject, report, _days(all_days)):
            pieces_of_ids: Iterator[list[Row]] = of_day.pieces
            if packing:
                ahead.acquire()
                path, pieces_of_ids = _packed(of_day, *packing)
                send(answers, "packed", path)
            for pieces in _batches(pieces_of_ids):
                send(answers, "pieces", of_day.day, orjson.Fragment(pieces))
            send(answers, "pieces", of_day.day, [])
        send(answers, "rejected", rejected)
        send(answers, "done", report.to_plain())
    except BrokenPipeError:
        raise
    except Exception as problem:  # noqa: BLE001 (told where it is known what to do)
        send(answers, "failed", f"{type(problem).__name__}: {problem}")


def _packed(of_day: DayOfPieces, folder: str, for_sqlite: bool) -> tuple[str, Iterator[list[Row]]]:
    """Pack the pieces of ids that have one; the file, and the pieces of the others."""
    others: list[list[Row]] = []
    path = Path(folder, str(of_day.day))
    pack_rows(path, of_day.alone(others), len(Session._fields), NOTHING_DONE, for_sqlite=for_sqlite)
    return str(path), iter(others)


def _batches(pieces: Iterator[Any]) -> Iterator[bytes]:
    """JSON lists of pieces of ids, of which each may be large."""
    batch, size = [], 0
    for of_id in map(orjson.dumps, pieces):
        batch.append(of_id)
        size += len(of_id)
        if size >= _BATCH_BYTES:
            yield b"[" + b",".join(batch) + b"]"
            batch, size = [], 0
    if batch:
        yield b"[" + b",".join(batch) + b"]"


def _log(plain: list[Any]) -> tuple[LogFile, FileIndex]:
    path, name, sensor, index = plain
    return LogFile(_path(path), name, sensor), FileIndex.from_dict(index)


def _path(plain: str) -> Path:
    return Path(os.fsdecode(plain.encode("latin-1")))


def _days(ends: list[str]) -> Days:
    return Days(*map(date.fromisoformat, ends))
