"""Messages between the process that asks for days of logs and those that read them: length, then JSON."""

from __future__ import annotations

from typing import Any, Protocol

import orjson

_LENGTH_BYTES = 8


class Reads(Protocol):
    """A stream, buffered or not."""

    def read(self, size: int, /) -> bytes | None: ...


class Writes(Protocol):
    """A stream that writes all that it is given."""

    def write(self, content: bytes, /) -> object: ...
    def flush(self) -> None: ...


def send(stream: Writes, *message: Any) -> None:
    """Write one message of JSON values; those that are `orjson.Fragment` are JSON already.

    Raises BrokenPipeError when nobody reads any more.
    """
    content = orjson.dumps(message)
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    stream.flush()


def receive(stream: Reads) -> list[Any] | None:
    """The next message; None when the other side is gone."""
    length = _exactly(stream, _LENGTH_BYTES)
    content = length and _exactly(stream, int.from_bytes(length, "big"))
    if not content:
        return None
    message: list[Any] = orjson.loads(content)
    return message


def _exactly(stream: Reads, size: int) -> bytes | None:
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return None if size else b"".join(parts)
