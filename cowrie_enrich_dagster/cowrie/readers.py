"""Processes that look through log files and read days of them for this one; `worker` is what they do.

They are started as commands, not forked: so it does not matter what the asking process has open, which of
its threads asks, or what started it.
"""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from io import BufferedWriter, RawIOBase
from typing import Any, BinaryIO, cast

from .frames import receive, send

_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; from cowrie_enrich_dagster.cowrie.worker import main; main()"
)
_LAST = ("done", "indexed")
"""Such an answer is the last one to what was asked."""


class ReadingFailed(Exception):
    """A process that read days of logs could not be started, ended or failed; the message says which and how.

    None of what was given out is wrong, but it is not all.
    """


class Reader:
    """One process, and what it was asked to do, the first of that now."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-c", _BEGIN, *sys.path]
        try:
            # Nothing may wait in a buffer of ours when we look whether there is something to read.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as problem:
            raise ReadingFailed(f"no process that reads logs could be started: {problem}") from problem
        self._asked = BufferedWriter(cast(RawIOBase, self._process.stdin))
        self.answers = cast(BinaryIO, self._process.stdout)
        self._asked_for = deque[str]()

    @property
    def is_busy(self) -> bool:
        return bool(self._asked_for)

    def ask(self, what: str, *message: Any) -> None:
        """Ask it for something; `what` is how that is called should it fail."""
        self._asked_for.append(what)
        self.tell(*message)

    def tell(self, *message: Any) -> None:
        """Send a message."""
        with suppress(BrokenPipeError):  # that it has ended is told where its answer is waited for
            send(self._asked, *message)

    def answer(self) -> list[Any]:
        """What it says next. Raises ReadingFailed."""
        message = receive(self.answers)
        if message is None:
            raise ReadingFailed(f"the process that read {self._reads} {_how(self._process.wait())}")
        if message[0] == "failed":
            raise ReadingFailed(f"the process that read {self._reads} failed: {message[1]}")
        if message[0] in _LAST:
            self._asked_for.popleft()
        return message

    @property
    def _reads(self) -> str:
        return self._asked_for[0] if self._asked_for else "logs"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._asked, self.answers):
            with suppress(OSError):
                stream.close()


class Readers:
    """At most `number` of them, started as they are needed and ended at the end of a `with` block."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._all: list[Reader] = []
        self._selector = selectors.DefaultSelector()
        self._ready: list[Reader] = []

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._all:
            reader.end()
        self._selector.close()

    def first(self, number: int) -> list[Reader]:
        """So many of them, or all if they are fewer."""
        while len(self._all) < min(number, self.number):
            reader = Reader()
            self._all.append(reader)
            self._selector.register(reader.answers, selectors.EVENT_READ, reader)
        return self._all[:number]

    @property
    def are_busy(self) -> bool:
        return any(reader.is_busy for reader in self._all)

    def next(self) -> Reader:
        """The next one that has something to say; each in turn, if several have."""
        if not self._ready:
            self._ready = [key.data for key, _ in self._selector.select()]
        return self._ready.pop()

    def release(self, reader: Reader) -> None:
        """Nothing more is asked of it."""
        self._selector.unregister(reader.answers)
        reader.end()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}; was there too little memory?"
    return f"was ended by signal {-code}"
