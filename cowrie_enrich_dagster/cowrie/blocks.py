"""The bytes of a log file, decompressed, block by block, however the file is damaged.

How a file is packed, its first bytes say, and if what comes out is packed in turn, that is unpacked, too.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from backports import zstd

BLOCK_BYTES = 256 * 1024
_INPUT_BYTES = 64 * 1024
_GZIP = 31  # zlib's window argument for "expect a gzip header"
_MAX_LAYERS = 3
# Level 9 of xz takes 65 MiB to read, level 21 of zstd 64 MiB; only its last level and --long take more.
_XZ_MEMORY_BYTES = 80 * 1024**2
_ZSTD_WINDOW_LOG = 26


class FileFault(Exception):
    """A file cannot be opened, or not be read any further; the message says why, in words for the user.

    `lasting` tells damage in the content, which stays while the file does, from trouble with reaching it.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


def is_compressed(path: Path) -> bool:
    """Whether the file's first bytes say that it is compressed; False if they cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return _decompressor(file.read(_MAGIC_BYTES)) is not None
    except OSError:
        return False


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
            if _decompressor(file.read(_MAGIC_BYTES)):
                file.seek(0)
                chunks = iter(partial(file.read, _INPUT_BYTES), b"")
                yield from _crop(_unpacked(chunks, _MAX_LAYERS), ranges)
            else:
                yield from _plain(file, ranges)
    except OSError as error:
        raise FileFault(f"cannot be read: {error.strerror or error}", lasting=False) from error


def _unpacked(chunks: Iterator[bytes], layers: int) -> Iterator[bytes]:
    first = next(chunks, b"")
    while len(first) < _MAGIC_BYTES and (more := next(chunks, b"")):
        first += more
    chunks = chain([first], chunks)
    decompress = _decompressor(first) if layers else None
    yield from _unpacked(decompress(chunks), layers - 1) if decompress else chunks


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


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_GZIP)
    data = next(chunks, b"")
    while True:
        before = inflater.copy()
        try:
            block = inflater.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            if block := _up_to_the_damage(before, data):
                yield block
            raise FileFault(f"gzip data is damaged: {error}") from error
        if block:
            yield block
        data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        data = data or (b"" if block and not inflater.eof else next(chunks, b""))
        if inflater.eof:
            data = data.lstrip(b"\0")  # gzip members may be padded with zeros, as on tapes
            while not data:
                data = next(chunks, b"")
                if not data:
                    return
                data = data.lstrip(b"\0")
            inflater = zlib.decompressobj(_GZIP)
        elif not data and not block:
            raise FileFault("gzip data is cut off before its end")


def _up_to_the_damage(inflater: zlib._Decompress, data: bytes) -> bytes:
    """What zlib had already decoded of `data` when it met the damage: it drops that when it raises."""
    block = bytearray()
    with suppress(zlib.error):
        for at in range(len(data)):
            block += inflater.decompress(data[at : at + 1])
    return bytes(block)


class _Expander(Protocol):
    """What the standard library's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _expand(name: str, new: Callable[[], _Expander], chunks: Iterator[bytes]) -> Iterator[bytes]:
    data = next(chunks, b"")
    while data:
        expander = new()
        while not expander.eof:
            try:
                block = expander.decompress(data, BLOCK_BYTES)
            except (OSError, lzma.LZMAError, zstd.ZstdError) as error:
                what = "needs too much memory to be read" if "memory" in str(error).lower() else "is damaged"
                raise FileFault(f"{name} data {what}") from error
            if block:
                yield block
            data = b""
            if expander.needs_input and not expander.eof:
                data = next(chunks, b"")
                if not data:
                    raise FileFault(f"{name} data is cut off before its end")
        data = expander.unused_data or next(chunks, b"")
        if name == "xz":
            data = data.lstrip(b"\0")  # streams may be padded with zeros


_MAGIC_BYTES = 6
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
_DECOMPRESSORS: dict[bytes, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"BZh": partial(_expand, "bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": partial(
        _expand, "xz", partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
    ),
    b"\x28\xb5\x2f\xfd": partial(_expand, "zstd", partial(zstd.ZstdDecompressor, options=_ZSTD_OPTIONS)),
}


def _decompressor(first: bytes) -> Callable[[Iterator[bytes]], Iterator[bytes]] | None:
    return next((unpack for magic, unpack in _DECOMPRESSORS.items() if first.startswith(magic)), None)
