"""Days read by several processes: the same as by one, and nothing is lost when one of them ends."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie import FileIndex, ReadingFailed, index_file, index_files, read_pieces
from cowrie_enrich_dagster.cowrie.processes import index_by_processes
from cowrie_enrich_dagster.cowrie.readers import Readers
from cowrie_enrich_dagster.cowrie.shares import shares
from cowrie_enrich_dagster.cowrie.worker import delete
from cowrie_enrich_dagster.vocabulary import Days

from .logs import SAMPLES, Reading, connect, event, line, read

FIRST = date(2025, 11, 1)
DAYS = 8
LAST = FIRST + timedelta(days=DAYS - 1)


@pytest.fixture(autouse=True)
def little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are worth it however little there is to read."""
    monkeypatch.setattr("cowrie_enrich_dagster.cowrie.shares.LEAST_BYTES", 1)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Eight days of two sensors: sessions over midnight, ids used again, events twice, rubbish."""
    rng = Random(5)
    for sensor in ("a", "b"):
        (tmp_path / sensor).mkdir()
        everything = []
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            lines = []
            for n in range(40):
                at = f"{day}T{rng.randrange(24):02}:{rng.randrange(60):02}:00.{n:06}Z"
                kind = rng.choice(("session.connect", "session.closed", "command.input", "login.failed"))
                fields: dict[str, Any] = {"src_ip": "8.8.8.8"} if kind == "session.connect" else {}
                record = event(
                    kind, f"aa{rng.randrange(9)}", at, sensor=sensor, input=f"l{n}", username="x", **fields
                )
                lines.append(line(record))
            lines[20:20] = [b"rubbish\n"] * 3
            lines.insert(30, b'{"half": \n')
            (tmp_path / sensor / f"cowrie.json.{day}").write_bytes(b"".join(lines))
            everything += rng.sample(lines, 20)
        (tmp_path / sensor / "cowrie.json").write_bytes(b"".join(everything))
    return tmp_path


def by(workers: int, root: Path, first: date = FIRST, last: date = LAST) -> Reading:
    """A reading by so many processes."""
    return read(root, first, last, workers=workers)


def told(reading: Reading) -> Any:
    """All of it, whatever the order in which it came."""
    report = reading.report
    return (
        reading.sessions,
        sorted(reading.quarantined),
        sorted(report.ranges, key=str),
        {name: getattr(report, name) for name in report.__slots__ if name not in ("ranges", "days")},
        dict(sorted(report.days.items())),
    )


@pytest.mark.parametrize("workers", [2, 3])
def test_the_same_as_by_one_process(logs: Path, workers: int) -> None:
    """Sessions, quarantined lines, and every count."""
    assert len(shares(index_files(logs).values(), Days(FIRST, LAST), workers)) > 2
    assert told(by(workers, logs)) == told(by(1, logs))
    assert told(by(workers, SAMPLES, FIRST, date(2025, 11, 4))) == told(
        by(1, SAMPLES, FIRST, date(2025, 11, 4))
    )


def test_lines_of_one_file_are_told_as_by_one_process(tmp_path: Path) -> None:
    """Of days in one file, each with more rubbish than is told one by one, for several reasons."""
    content = []
    for number in range(4):
        at = f"{FIRST + timedelta(days=number)}T10:00:00Z"
        content.append(line(connect(f"a{number}", at)))
        content += [b"rubbish\n", b'{"eventid": 1}\n'] * (300 + 400 * number)
        content += [b'{"broken\n'] * (number == 3)
    (tmp_path / "cowrie.json").write_bytes(b"".join(content))
    expected = by(1, tmp_path)
    assert len(expected.quarantined) == 1003
    assert told(by(2, tmp_path)) == told(expected)


def test_a_broken_file_is_told_once(tmp_path: Path) -> None:
    """However many processes come upon it."""
    lines = [line(connect(f"a{n}", f"{FIRST + timedelta(days=n)}T10:00:00Z")) * 3 for n in range(4)]
    packed = gzip.compress(b"".join(lines) + os.urandom(300_000))
    (tmp_path / "cowrie.json.1.gz").write_bytes(packed[:-20_000])
    more = [line(connect(f"b{n}", f"{FIRST + timedelta(days=n)}T10:00:00Z")) * 9000 for n in range(4)]
    (tmp_path / "cowrie.json").write_bytes(b"".join(more))
    expected = by(1, tmp_path)
    assert expected.report.files_broken == 1
    assert told(by(2, tmp_path)) == told(expected)


def readers(asking: int) -> list[int]:
    """The processes that read for that one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if re.search(rf"^PPid:\s*{asking}$", status.read_text(), re.MULTILINE):
                command = status.with_name("cmdline").read_bytes()
                found += [int(status.parent.name)] if b"cowrie.worker" in command else []
    return found


@pytest.fixture
def none_is_left() -> Iterator[None]:
    """At the end no process reads for this one."""
    yield
    assert readers(os.getpid()) == []


def test_one_that_is_killed_is_told(logs: Path, none_is_left: None) -> None:
    """Not as a reading that is complete; the others are ended."""
    with closing(read_pieces(logs, FIRST, LAST, workers=2)) as stream:
        next(stream)
        found = readers(os.getpid())
        assert len(found) == 2
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReadingFailed, match=r"read 2025-11-\d\d.* was ended by SIGKILL"):
            list(stream)


def test_one_that_fails_is_told(logs: Path, none_is_left: None) -> None:
    """With its days and what it met: here an event that lies among those of another day, out of sight."""
    hidden = line(connect("h", "2025-11-07T10:00:00Z")).replace(b'"timestamp"', rb'"\u0074imestamp"')
    path = logs / "a" / f"cowrie.json.{FIRST}"
    path.write_bytes(path.read_bytes() + hidden)
    with pytest.raises(ReadingFailed, match="an event of 2025-11-07 lies among those of other days"):
        by(2, logs)


def test_none_that_can_be_started_is_told(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the interpreter is part of another program."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ReadingFailed, match="no process that reads logs could be started"):
        by(2, logs)


def test_all_are_ended_when_no_more_is_read(logs: Path, none_is_left: None) -> None:
    """In the middle of a day."""
    with closing(read_pieces(logs, FIRST, LAST, workers=2)) as stream:
        next(next(stream).pieces)
        assert readers(os.getpid())


def test_all_are_ended_when_nothing_is_read(logs: Path, none_is_left: None) -> None:
    """They were there to look through the files."""
    with closing(read_pieces(logs, FIRST, LAST, workers=2)):
        assert len(readers(os.getpid())) == 2


def test_files_are_looked_through_as_by_one_process(logs: Path, none_is_left: None) -> None:
    """Also those that grew since, and one in a form that nobody knows; what is known of all is kept."""
    (logs / "a" / "report.csv").write_text("a,b\n" * 9)
    known: dict[str, Any] = {}
    with closing(read_pieces(logs, FIRST, LAST, workers=2, index_cache=known)) as stream:
        days = stream.days_touched
    assert known == {file.name: index.to_dict() for file, index in index_files(logs).items()}
    assert days == {FIRST + timedelta(days=number) for number in range(DAYS)}

    with (logs / "b" / "cowrie.json").open("ab") as file:
        file.write(line(connect("z", "2025-12-24T10:00:00Z")))
    (logs / "a" / "more.json").write_bytes(line(connect("y", "2025-12-25T10:00:00Z")))
    with closing(read_pieces(logs, FIRST, LAST, workers=2, index_cache=known)) as stream:
        assert stream.days_touched == days | {date(2025, 12, 24), date(2025, 12, 25)}
    assert known == {file.name: index.to_dict() for file, index in index_files(logs).items()}


def test_a_long_file_is_looked_through_step_by_step(tmp_path: Path) -> None:
    """What is known of it is told after each, by whichever process took that."""
    lines = [line(connect(f"a{n}", f"{FIRST + timedelta(days=n // 2000)}T10:00:00Z")) for n in range(8000)]
    (tmp_path / "cowrie.json").write_bytes(b"".join(lines))
    (tmp_path / "cowrie.json.1").write_bytes(lines[0])
    expected = index_files(tmp_path)
    with HurriedReaders(1) as hurried:
        told = list(index_by_processes(dict.fromkeys(expected), hurried))
    assert len(told) > 3
    assert {file: index for file, index in told if index.complete} == expected


class HurriedReaders(Readers):
    """Readers of this process, that leave a file after each block."""

    def first(self, number: int) -> list[Any]:
        return [self]

    def next(self) -> Any:
        return self

    def ask(self, what: str, kind: str, path: str, known: dict[str, Any] | None) -> None:
        index = index_file(Path(path), known and FileIndex.from_dict(known), lambda: True)
        self.asked_for = ["indexed", index.to_dict()]

    def answer(self) -> list[Any]:
        return self.asked_for


def test_one_that_is_killed_while_it_looks_through_files_is_told(logs: Path, none_is_left: None) -> None:
    """With the file."""

    class Killed(dict[str, Any]):
        def __setitem__(self, name: str, index: dict[str, Any]) -> None:
            for pid in readers(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ReadingFailed, match=r"read \w/cowrie\.json\S* was ended by SIGKILL"):
        read_pieces(logs, FIRST, LAST, workers=2, index_cache=Killed())


def test_threads_read_beside_each_other(logs: Path, none_is_left: None) -> None:
    """As runs in one process do."""
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: told(by(2, logs)), range(3)))
    assert results == [told(by(1, logs))] * 3


ASKS = """
import signal, sys, time
from datetime import date
from pathlib import Path
from cowrie_enrich_dagster.cowrie import read_pieces
from cowrie_enrich_dagster.cowrie import shares
shares.LEAST_BYTES = 1
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell started in the background
packed_for = sys.argv[2] or None
stream = read_pieces(
    Path(sys.argv[1]), date(2025, 11, 1), date(2025, 11, 8), workers=2, packed_for=packed_for
)
assert bool(next(stream).packed) == bool(packed_for)
print("reads", flush=True)
time.sleep(60)
"""


def left_by(logs: Path, folder: Path, sent: signal.Signals, packed_for: str, more: int = 0) -> list[Path]:
    """What is left in the folder when who asks was ended in the middle; so many more files lay in it."""
    folder.mkdir()
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKS, str(logs), packed_for],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout
    asking.stdout.readline()
    pids = readers(asking.pid)
    assert len(pids) == 2
    packed_in = list(folder.iterdir())
    assert len(packed_in) == bool(packed_for)
    for number in range(more):
        (packed_in[0] / f"more {number}").touch()
    asking.send_signal(sent)
    asking.wait(10)
    asking.stdout.close()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)
    return list(folder.iterdir())


@pytest.mark.parametrize(
    ("sent", "packed_for"), [(signal.SIGTERM, ""), (signal.SIGINT, "sqlite"), (signal.SIGKILL, "sqlite")]
)
def test_they_go_with_the_process_that_asks(
    logs: Path, tmp_path: Path, sent: signal.Signals, packed_for: str
) -> None:
    """However that is ended: none is left to read on for nobody, and no packed rows that nobody takes."""
    assert left_by(logs, tmp_path / "tmp", sent, packed_for) == []


def test_they_delete_what_is_packed_before_they_go(tmp_path: Path) -> None:
    """Also when they are answering just then, and so find out at once; and there is much to delete."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        lines = [line(connect("alone", f"{day}T10:00:00Z"))]
        for n in range(1000):
            # An id used again is not packed: it is answered, more than a pipe takes.
            lines.append(line(connect(f"a{n}", f"{day}T10:00:00Z")))
            lines.append(line(event("session.closed", f"a{n}", f"{day}T10:01:00Z")))
            lines.append(line(connect(f"a{n}", f"{day}T12:00:00Z")))
        (logs / f"cowrie.json.{day}").write_bytes(b"".join(lines))
    assert left_by(logs, tmp_path / "tmp", signal.SIGKILL, "sqlite", more=3000) == []


def test_a_folder_is_deleted_while_others_write_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added after its files were listed is deleted, too."""
    folder = tmp_path / "packed"
    folder.mkdir()
    late = iter(["2025-11-02", "2025-11-03"])
    remove = os.rmdir

    def rmdir(path: Any, **at: Any) -> None:
        for name in islice(late, 1):
            (folder / name).touch()
        remove(path, **at)

    monkeypatch.setattr(os, "rmdir", rmdir)
    delete(folder)
    assert not folder.exists()
    assert next(late, None) is None


def test_memory_of_each_is_bounded(tmp_path: Path) -> None:
    """Of one that meets a line of 31 MB, of backslashes."""
    for number in range(4):
        day = FIRST + timedelta(days=number)
        lines = [line(connect(f"a{number}", f"{day}T10:00:00Z")), b'{"x": "' + b"\\" * 31_000_000 + b'"}\n']
        (tmp_path / f"cowrie.json.{day}").write_bytes(b"".join(lines))
    peaks = []
    with closing(read_pieces(tmp_path, FIRST, LAST, workers=2)) as stream:
        for _ in stream:
            for pid in readers(os.getpid()):
                status = Path(f"/proc/{pid}/status").read_text()
                peaks += [int(kib) / 1024 for kib in re.findall(r"VmHWM:\s*(\d+)", status)]
    assert 40 < max(peaks) < 300
