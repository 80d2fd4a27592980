"""When a request arrived, as the kernel tells: a machine that is busy delays our threads, not its clock."""

from __future__ import annotations

import io
import socket
import struct
import time
from contextlib import suppress
from typing import Any

_SO_TIMESTAMPNS = 35
"""Linux: each read tells when its last byte came (socket(7)); Python has no name for it."""
_STAMP = struct.Struct("@qq")
_UNDISTURBED_S = 0.0002


def tell_arrivals(listener: socket.socket) -> None:
    """Let the kernel note when the bytes of each connection come that this socket accepts, where it can."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


class TimedReader(io.RawIOBase):
    """The bytes of a connection; `arrived` is when the last that were read came, in monotonic seconds.

    Where the kernel does not tell, it is when they were read.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.arrived = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count, told, _, _ = self._connection.recvmsg_into([buffer], 64)
        self.arrived = time.monotonic()
        for level, kind, data in told:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) == _STAMP.size:
                seconds, nanoseconds = _STAMP.unpack(data)
                self.arrived = seconds + nanoseconds / 1e9 - _wall_offset()
        return count


def _wall_offset() -> float:
    """The wall clock minus the monotonic one, read without anybody between the two."""
    while True:
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < _UNDISTURBED_S:
            return wall - (before + after) / 2
