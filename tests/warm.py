"""Processes forked from one that has imported the package: a fresh interpreter spends most of a second on its
imports, and the tests start hundreds.

Such a process is real: its own files, folder, environment, signals, session and end, to be stopped, killed
and waited for. Its code runs as `__main__`, and ends as any interpreter ends. It differs from a fresh one in
that the imports have happened (on which the command finds out whether it has a terminal: where one has, it is
to be loaded anew) and in that all share one hash seed. That commands work in fresh interpreters as well,
whatever their seeds, is shown in integration/test_command.py.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE
CLI = ("-m", "cowrie_enrich_dagster")
IN_TURN = """
import json, sys
from cowrie_enrich_dagster.cli import app
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    print(end="\\f")
"""
"""Calls of the command by one interpreter, given as JSON; a form feed ends what each prints."""
ROOT = Path(__file__).parents[1]
IMPORTED = [
    "alembic.command",
    "cowrie_enrich_dagster.cli",
    "numpy",
    "psycopg2.extensions",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.sqlite.pysqlite",
]


class Process:
    """A process that runs `-m module …` or `-c code …`, with the face of a `subprocess.Popen` whose pipes are
    of text."""

    stdin: IO[str] | None
    stdout: IO[str] | None
    stderr: IO[str] | None

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        environment = dict(os.environ if env is None else env)
        assert _of_python(environment) == _of_python(os.environ), "only a fresh interpreter obeys these"
        order = [self.args, environment, str(cwd or Path.cwd()), start_new_session]
        self._told, theirs = socket.socketpair()
        self.stdin, its_stdin = _ends(stdin, 0)
        self.stdout, its_stdout = _ends(stdout, 1)
        self.stderr, its_stderr = _ends(stderr, 2)
        files = [theirs.fileno(), its_stdin, its_stdout, its_stderr]
        socket.send_fds(_forge(), [b"."], files)
        theirs.close()
        for file in files[1:]:
            os.close(file)
        self._told.sendall(json.dumps(order).encode() + b"\n")
        self._words = self._told.makefile("r")
        self.pid = int(self._words.readline())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *problem: object) -> None:
        self._close()
        self.wait()

    def _close(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()

    def poll(self) -> int | None:
        """How it ended, if it has: its exit code, or below zero the signal that killed it."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ends. `subprocess.TimeoutExpired` when it has not after so many seconds."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._words.readline())
            self._words.close()
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it still says on stdout and stderr until it ends; '' of one that is no pipe."""
        end = None if timeout is None else time.monotonic() + timeout
        said = ["", ""]

        def read(number: int, pipe: IO[str]) -> None:
            said[number] = pipe.read()

        pipes = [(number, pipe) for number, pipe in enumerate((self.stdout, self.stderr)) if pipe]
        readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in pipes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        self._close()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(*arguments: str, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Call it and wait for its end, as `subprocess.run` does."""
    with Process(*arguments, **{"stdout": PIPE, "stderr": PIPE, **options}) as process:
        try:
            stdout, stderr = process.communicate(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)


def context() -> multiprocessing.context.ForkServerContext:
    """The same for functions: what `multiprocessing` and `concurrent.futures` start processes by."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([*IMPORTED, "hypothesis", "pytest"])  # functions of tests bring those along
    return made


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


def _ends(what: int | IO[Any] | None, number: int) -> tuple[IO[str] | None, int]:
    """Our end of a pipe, if it is to be one, and the file that the process gets."""
    if what is None:
        return None, os.dup(number)
    if what == DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if what != PIPE:
        return None, os.dup(what if isinstance(what, int) else what.fileno())
    reading, writing = os.pipe()
    if number == 0:
        return os.fdopen(writing, "w"), reading
    return os.fdopen(reading), writing


@cache
def _forge() -> socket.socket:
    """Where orders go to; what takes them ends with this process."""
    ours, theirs = socket.socketpair()
    given = theirs.fileno()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(given)],
        cwd=ROOT,
        pass_fds=[given],
        stdin=DEVNULL,
        stdout=DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _forked(orders: socket.socket) -> list[str]:
    """Takes orders for ever. Comes back in each process that was ordered, with what it is to run."""
    while True:
        word, files, _, _ = socket.recv_fds(orders, 1, 4)
        if not word:
            os._exit(0)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    # Between the two stands one that waits, as only a parent can, and tells.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    teller = socket.socket(fileno=files[0])
    with teller.makefile("r") as words:
        arguments, environment, folder, session = json.loads(words.readline())
    pid = os.fork()
    if pid:
        for file in [0, 1, 2, *files[1:]]:
            os.close(file)
        with suppress(BrokenPipeError):
            teller.sendall(f"{pid}\n".encode())
            teller.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
        os._exit(0)
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    teller.close()
    orders.close()
    os.closerange(3, max(files) + 1)
    if session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or stream.isatty())
    return arguments


if __name__ == "__main__":
    gc.disable()  # none of it is garbage
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # what all have is not copied by looking for garbage in it
    gc.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    kind, what, *rest = _forked(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = [kind, *rest]
    sys.path[0] = str(Path.cwd()) if kind == "-m" else ""
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
