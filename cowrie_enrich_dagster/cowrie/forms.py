"""What a file is, by its first bytes: in which form it holds Cowrie's events, or that it is no log at all."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .blocks import FileFault, read_blocks
from .events import InvalidEvent
from .prefixes import PREFIXES
from .salvage import end_of_object
from .wrappers import Step, unwrap, way_to_event

_SAMPLE_BYTES = 64 * 1024
_LARGE_SAMPLE_BYTES = 1024 * 1024
_FIRST_RECORDS = 20
_FILLING = " \t\r\n\v\f\0\ufeff"
_BETWEEN = re.compile(f"[{_FILLING},]*")
_NEXT_RECORD = re.compile(r"\n[ \t,\[]*\{")
_DECODER = json.JSONDecoder()
_NAMED_BY_COWRIE = re.compile(r"cowrie\.json(?:[._-][\d._-]*\d)?(?:\.(?:gz|bz2|xz|zst))?", re.ASCII)


class NotALog(Exception):
    """A file is not one of Cowrie's logs; the message says why.

    `lasting` tells what the content says, which stays while the file does, from trouble with reaching it.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Form(NamedTuple):
    """How a log file holds its events, all alike.

    `prefix` names what stands before the JSON on every line (`prefixes.PREFIXES`; empty: nothing). `way`
    leads from a record to the event in it (empty: it is the event). `joined` records follow each other within
    lines, or in a JSON array; others begin a line. `start` is what a line begins with where a record does
    (empty: any line, or, of joined records, none). A file that is not `sure` to be a log has only the name
    of one: of it nothing counts but lines that are wholly an event.
    """

    prefix: str = ""
    way: tuple[Step, ...] = ()
    joined: bool = False
    start: str = "{"
    sure: bool = True

    @property
    def quote(self) -> bytes:
        """A quotation mark of the event's JSON as it stands in the file: escaped once per text around it."""
        texts = sum(step.is_text for step in self.way)
        return b"\\" * ((1 << texts) - 1) + b'"'

    @property
    def start_of_record(self) -> bytes | None:
        """What a line begins with where a record begins; None if no line need."""
        return None if self.joined and not self.start else self.start.encode()

    def to_plain(self) -> list[Any]:
        """As plain JSON values."""
        return [self.prefix, [list(step) for step in self.way], self.joined, self.start, self.sure]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Form:
        """The inverse of `to_plain`. Raises TypeError or ValueError for anything else."""
        prefix, way, joined, start, sure = plain
        return cls(prefix, tuple(Step(key, is_text) for key, is_text in way), joined, start, sure)


_UNSURE = Form(sure=False)


def is_named_by_cowrie(path: Path) -> bool:
    """Whether the name is one that Cowrie, or a rotation of its log, gives."""
    return _NAMED_BY_COWRIE.fullmatch(path.name) is not None


def form_of_file(path: Path) -> Form:
    """In which form the file holds its events.

    Raises NotALog, and FileFault if not a byte of it can be read. A file that Cowrie names as its log is
    taken for one whatever is wrong with its lines, unless it holds nothing but other JSON.
    """
    is_named = is_named_by_cowrie(path)
    try:
        for size in (_SAMPLE_BYTES, _LARGE_SAMPLE_BYTES):
            sample, is_whole = _sample(path, size)
            form = _form(sample, is_whole, is_named)
            if form is not None:
                return form
    except FileFault as fault:
        if is_named or _is_folder(path):
            raise
        raise NotALog(str(fault), lasting=fault.lasting) from fault
    if is_named:
        return Form()
    raise NotALog("its first record is not JSON, or longer than 1 MiB")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _sample(path: Path, size: int) -> tuple[bytes, bool]:
    """The first bytes of the file, decompressed, and whether they are all that it has or can give."""
    sample = bytearray()
    try:
        for _, block in read_blocks(path, [(0, size)]):
            sample += block
    except FileFault:
        if not sample:
            raise
    return bytes(sample), len(sample) < size


def _form(sample: bytes, is_whole: bool, is_named: bool) -> Form | None:
    """The form, as far as the sample tells; None: a longer sample may tell more. Raises NotALog."""
    text = sample.decode("utf-8", "replace").lstrip(_FILLING)
    if not text:
        if is_named:
            return _UNSURE
        raise NotALog("nothing but blanks" if sample else "empty")
    prefix = _prefix_of(text.encode())
    if prefix:
        return _form_with_prefix(prefix, text, is_whole, is_named)
    records = list(_first_records(text))
    if not records:
        if is_named and (is_whole or text[0] not in "{["):
            return _UNSURE._replace(sure=text[0] == "{")
        if text[0] not in "{[" or is_whole:
            raise NotALog("not JSON, and no lines with JSON behind a known prefix")
        return None
    if records[0].start > _skip(text, _begin(text)) and not is_named:
        raise NotALog("does not begin with JSON")
    way = _common_way([record.value for record in records], is_named)
    return Form("", way, *_places(text, records))


class _Record(NamedTuple):
    start: int
    end: int
    value: Any


def _first_records(text: str) -> Iterator[_Record]:
    """The first JSON objects of the text, one after another, or in an array."""
    position = _begin(text)
    for _ in range(_FIRST_RECORDS):
        position = _skip(text, position)
        if position >= len(text):
            return
        try:
            if text[position] != "{":
                raise ValueError
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as problem:
            if isinstance(problem, RecursionError) and (end := _end_of_deep(text, position)):
                yield _Record(position, end, {})  # how deep is too deep differs between versions of Python
                position = end
                continue
            following = _NEXT_RECORD.search(text, position)
            if following is None:
                return
            position = following.end() - 1
        else:
            yield _Record(position, end, value)
            position = end


def _end_of_deep(text: str, position: int) -> int:
    """Where an object ends that is nested too deep to be decoded; 0 if it does not."""
    rest = bytearray(text[position:].encode())
    end = end_of_object(rest, 0, len(rest))
    return position + len(rest[:end].decode()) if end > 0 else 0


def _begin(text: str) -> int:
    return 1 if text[0] == "[" else 0


def _skip(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def _places(text: str, records: list[_Record]) -> tuple[bool, str]:
    """Whether the records are joined, and what a line begins with where one of them begins."""
    between = [text[one.end : two.start] for one, two in pairwise(records)]
    on_lines = [gap.rpartition("\n")[2] for gap in between if "\n" in gap]
    if text[0] == "[":
        if not between:
            return True, "{" if "\n" in text.rstrip() else ""
        return True, on_lines[0] + "{" if len(on_lines) == len(between) else ""
    is_joined = bool(between) and "\n" not in text[: records[-1].end]
    return is_joined, "" if is_joined else "{"


def _prefix_of(content: bytes) -> str:
    return next((name for name, grammar in PREFIXES.items() if grammar.match(content)), "")


def _form_with_prefix(prefix: str, text: str, is_whole: bool, is_named: bool) -> Form | None:
    lines = text.encode().split(b"\n")
    if not is_whole:
        lines.pop()  # it may be cut off
    lines = [line for line in lines if line.strip()][:_FIRST_RECORDS]
    if not lines:
        return None
    grammar, values = PREFIXES[prefix], []
    for line in lines:
        match = grammar.match(line)
        if match is not None:
            try:
                values.append(orjson.loads(line[match.end() :]))
            except orjson.JSONDecodeError:
                continue
        elif not is_named:
            raise NotALog("its lines are not all alike")
    return Form(prefix, _common_way(values, is_named), start="")


def _common_way(values: list[Any], is_named: bool) -> tuple[Step, ...]:
    """The way on which every record leads to an event. Raises NotALog."""
    ways = [way_to_event(value) for value in values]
    way = next((way for way in ways if way is not None), None)
    if way is None:
        if is_named and any(type(value) is dict and "eventid" in value for value in values):
            return ()
        raise NotALog("JSON, but no events of Cowrie's")
    if not is_named and not all(_leads_to_event(value, way) for value in values):
        raise NotALog("JSON, but not every record is an event of Cowrie's")
    return way


def _leads_to_event(value: Any, way: tuple[Step, ...]) -> bool:
    try:
        return "eventid" in unwrap(value, way)
    except InvalidEvent:
        return False
