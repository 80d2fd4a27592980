"""A list's text -> its networks, bounded; what is no list is refused with the reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

import orjson

from cowrie_enrich_dagster.services.lists.networks import BITS, Network, as_text, is_unroutable, parse_network

MAX_ENTRIES = 3_000_000
MAX_LINE_BYTES = 4_096
WIDEST = {4: 8, 6: 16}
"""The shortest prefix that is an entry: what is wider is no attacker's, and would match everybody."""
MAX_COVERED = {4: 1 << 29, 6: 1 << 122}
"""An eighth of all addresses (of IPv6: of 2000::/3): no list of attackers holds more that are routed."""
MIN_SHRUNK_FROM = 20
"""A list of fewer entries may lose any of them from one day to the next."""
MAX_BAD_SHARE = 0.5

_FIRST_WORD = re.compile(r"[^\s#;,]+")


class ListRefused(Exception):
    """A text that is not taken for a list; the message says why, without quoting it."""


@dataclass(frozen=True)
class ListForm:
    """How a list is written: `addresses` (first word of each line; `#` and `;` begin comments), `json` (an
    object on each line, with the network under the key `column`) or `csv` (under the title, or in the column
    of the number, `column`; commas; lines that begin with `#` are comments)."""

    kind: Literal["addresses", "json", "csv"] = "addresses"
    column: str | int | None = None


@dataclass
class ReadList:
    """The distinct `networks` of a list; how many lines were no entry, and entries that nobody routes."""

    networks: set[Network] = field(default_factory=set)
    bad_lines: int = 0
    unroutable: int = 0


def read_list(body: bytes, form: ListForm, *, keeps_unroutable: bool = False) -> ReadList:
    """Read a whole list.

    Entries that are not routed on the internet (bogons) are counted and left out, unless they are to be kept.
    Raises `ListRefused` for an HTML page, for nothing that is an entry, more than `MAX_ENTRIES`, a network
    wider than `WIDEST`, more than `MAX_COVERED` addresses in all, or mostly lines that cannot be read.
    """
    if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        raise ListRefused("it is an HTML or XML page")
    found = ReadList()
    for word in _WORDS[form.kind](body, form.column):
        network = None if word is None else parse_network(word)
        if network is None:
            found.bad_lines += 1
            if found.bad_lines > MAX_ENTRIES:
                raise ListRefused(f"more than {MAX_ENTRIES} lines are no entry")
            continue
        is_routed = not is_unroutable(network)
        if is_routed:
            _refuse_wide(network)
        if is_routed or keeps_unroutable:
            found.networks.add(network)
            if len(found.networks) > MAX_ENTRIES:
                raise ListRefused(f"it has more than {MAX_ENTRIES} entries")
        else:
            found.unroutable += 1
    entries = len(found.networks)
    if found.bad_lines > MAX_BAD_SHARE * (entries + found.unroutable + found.bad_lines):
        raise ListRefused(f"{found.bad_lines} lines are no entry, {entries} are")
    if not entries:
        raise ListRefused("it is empty" if not found.unroutable else "none of its entries is routed")
    _refuse_covering(found.networks)
    return found


def refuse_shrunken(entries: int, before: int) -> None:
    """Raise `ListRefused` for less than half of what the last good one had: the rest was cut off."""
    if before >= MIN_SHRUNK_FROM and entries * 2 < before:
        raise ListRefused(f"it has {entries} entries, where the last good one had {before}")


def _refuse_wide(network: Network) -> None:
    version, length, _ = network
    if length < WIDEST[version]:
        raise ListRefused(f"it holds {as_text(network)}, wider than /{WIDEST[version]}")


def _refuse_covering(networks: Collection[Network]) -> None:
    covered = {4: 0, 6: 0}
    for version, length, _ in networks:
        covered[version] += 1 << (BITS[version] - length)
    for version, most in MAX_COVERED.items():
        if covered[version] > most:
            raise ListRefused(f"it covers {covered[version] / most / 8:.0%} of all IPv{version} addresses")


def _lines(body: bytes) -> Iterator[str | None]:
    """The lines that are not blank; None for one that is too long."""
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    end = len(body)
    while start < end:
        stop = body.find(b"\n", start)
        stop = end if stop < 0 else stop
        if stop - start > MAX_LINE_BYTES:
            yield None
        elif line := body[start:stop].decode(errors="replace").strip():
            yield line
        start = stop + 1


def _of_addresses(body: bytes, column: str | int | None) -> Iterator[str | None]:
    for line in _lines(body):
        if line is None:
            yield None
        elif line[0] not in "#;":
            word = _FIRST_WORD.match(line)
            yield word[0] if word else None


def _of_json(body: bytes, column: str | int | None) -> Iterator[str | None]:
    for line in _lines(body):
        if line is None:
            yield None
            continue
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield None
            continue
        if not isinstance(item, dict):
            yield None
        elif column in item:  # else it is a line about the list, as the last of Spamhaus's
            yield _as_word(item[column])


def _of_csv(body: bytes, column: str | int | None) -> Iterator[str | None]:
    place = column - 1 if isinstance(column, int) else None
    for line in _lines(body):
        if line is None:
            yield None
            continue
        if line[0] == "#" and not (place is None and column in _cells(line.lstrip("# "))):
            continue
        cells = _cells(line.lstrip("# ") if place is None else line)
        if place is None:  # the first line that is no comment has the titles, behind a # or not
            if column not in cells:
                raise ListRefused(f"no column is called {str(column)[:80]!r}")
            place = cells.index(str(column))
        elif place < len(cells):
            yield _as_word(cells[place])
        else:
            yield None


def _cells(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _as_word(value: object) -> str | None:
    return value.strip() if isinstance(value, str) else None


_WORDS: dict[str, Callable[[bytes, str | int | None], Iterator[str | None]]] = {
    "addresses": _of_addresses,
    "json": _of_json,
    "csv": _of_csv,
}
