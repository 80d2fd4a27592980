"""The bytes of a log file, decompressed, block by block, however the file is damaged."""

from __future__ import annotations

import bz2
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 256 * 1024
_INPUT_BYTES = 64 * 1024
_GZIP = 31  # zlib's window argument for "expect a gzip header"


class FileFault(Exception):
    """A file cannot be opened, or not be read any further; the message says why, in words for the user.

    `lasting` tells damage in the content, which stays while the file does, from trouble with reaching it.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return path.suffix in _DECOMPRESSORS


def read_blocks(path: Path, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset, block)` for the given `[start, end)` ranges of decompressed bytes, in file order.

    `ranges` are ascending and do not overlap. A plain file is sought; a compressed one is decompressed once
    from its beginning to the last range's end. No block is longer than `BLOCK_BYTES`, whatever the file would
    expand to, and none spans two ranges.

    Raises FileFault, after all that could be read has been yielded.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)  # raises, with the reason, for a folder that cannot be listed
        if not stat.S_ISREG(mode):
            raise FileFault("cannot be read: not a regular file", lasting=False)
        with path.open("rb") as file:
            if decompress := _DECOMPRESSORS.get(path.suffix):
                yield from _crop(decompress(file), ranges)
            else:
                yield from _plain(file, ranges)
    except OSError as error:
        raise FileFault(f"cannot be read: {error.strerror or error}", lasting=False) from error


def _plain(file: BinaryIO, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    for start, end in ranges:
        file.seek(start)
        position = start
        while position < end and (block := file.read(min(BLOCK_BYTES, end - position))):
            yield position, block
            position += len(block)


def _crop(blocks: Iterable[bytes], ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    position = 0
    for block in blocks:
        after = position + len(block)
        for start, end in ranges:
            if start < after and end > position:
                low = max(start, position)
                yield low, block[low - position : end - position]
        position = after
        if not ranges or position >= ranges[-1][1]:
            return


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_GZIP)
    data = file.read(_INPUT_BYTES)
    if not data:
        return
    while True:
        before = inflater.copy()
        try:
            block = inflater.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            yield from _up_to_the_damage(before, data)
            raise FileFault(f"gzip data is damaged: {error}") from error
        if block:
            yield block
        data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        data = data or (b"" if block and not inflater.eof else file.read(_INPUT_BYTES))
        if inflater.eof:
            data = data.lstrip(b"\0")  # gzip members may be padded with zeros, as on tapes
            while not data:
                data = file.read(_INPUT_BYTES)
                if not data:
                    return
                data = data.lstrip(b"\0")
            inflater = zlib.decompressobj(_GZIP)
        elif not data and not block:
            raise FileFault("gzip data is cut off before its end")


def _up_to_the_damage(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What zlib had already decoded of `data` when it met the damage: it drops that when it raises."""
    for at in range(len(data)):
        try:
            block = inflater.decompress(data[at : at + 1])
        except zlib.error:
            return
        if block:
            yield block


def _bunzip(file: BinaryIO) -> Iterator[bytes]:
    data = file.read(_INPUT_BYTES)
    while data:
        expander = bz2.BZ2Decompressor()
        while not expander.eof:
            try:
                block = expander.decompress(data, BLOCK_BYTES)
            except OSError as error:
                raise FileFault("bzip2 data is damaged") from error
            if block:
                yield block
            data = b""
            if expander.needs_input and not expander.eof:
                data = file.read(_INPUT_BYTES)
                if not data:
                    raise FileFault("bzip2 data is cut off before its end")
        data = expander.unused_data or file.read(_INPUT_BYTES)


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {".gz": _gunzip, ".bz2": _bunzip}
