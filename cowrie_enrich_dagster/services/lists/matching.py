"""Which of many networks hold which of many addresses: sorted prefixes, one binary search a prefix length.

Networks of different lengths may hold one another, and one may be there several times (with other spans of
time): every row that holds an address is found.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cowrie_enrich_dagster.services.lists.networks import BITS, Network, parse_network

Numbers = npt.NDArray[Any]
_LOW = (1 << 64) - 1
_TO_SPACES = str.maketrans("./", "  ")
_NO_DIGITS = str.maketrans("", "", "0123456789./ ")


@dataclass(frozen=True)
class PackedNetworks:
    """Networks of one IP version as arrays, of which each has an entry: the first address (`high` 64 bits and
    `low` ones of IPv6; of IPv4 `high` has all 32), the prefix length, and the number of the row."""

    version: int
    high: Numbers
    low: Numbers | None
    lengths: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]


def packed_networks(networks: Sequence[Network]) -> list[PackedNetworks]:
    """Networks as arrays, by version; a network's row is its place in the sequence."""
    versions = np.fromiter((network[0] for network in networks), np.uint8, len(networks))
    lengths = np.fromiter((network[1] for network in networks), np.uint8, len(networks))
    packed = []
    rows = np.flatnonzero(versions == 4)
    if len(rows):
        firsts = np.fromiter((network[2] for network in networks if network[0] == 4), np.uint32, len(rows))
        packed.append(PackedNetworks(4, firsts, None, lengths[rows], rows))
    rows = np.flatnonzero(versions == 6)
    if len(rows):
        of_six = [network[2] for network in networks if network[0] == 6]
        high = np.fromiter((first >> 64 for first in of_six), np.uint64, len(rows))
        low = np.fromiter((first & _LOW for first in of_six), np.uint64, len(rows))
        packed.append(PackedNetworks(6, high, low, lengths[rows], rows))
    return packed


class Packer:
    """Packs networks in CIDR notation lot by lot, so that millions take no more room than their numbers.

    A network's row is its number in the order in which they are added; what is none holds no address.
    """

    def __init__(self) -> None:
        self._count = 0
        self._parts: dict[int, list[PackedNetworks]] = {4: [], 6: []}

    def add(self, text: str) -> None:
        """Add networks with a space between them, some thousand at once."""
        words = text.split(" ")
        rows = np.arange(self._count, self._count + len(words))
        self._count += len(words)
        is_six = np.fromiter((":" in word for word in words), bool, len(words)) if ":" in text else None
        plain = text if is_six is None else " ".join([word for word in words if ":" not in word])
        of_plain = rows if is_six is None else rows[~is_six]
        rest = [] if is_six is None else np.flatnonzero(is_six).tolist()
        if not self._add_plain(plain, of_plain):
            rest = list(range(len(words)))
        parsed = [(place, parse_network(words[place])) for place in rest]
        places = np.array([place for place, network in parsed if network is not None], np.int64)
        for part in packed_networks([network for _, network in parsed if network is not None]):
            self._parts[part.version].append(replace(part, rows=rows[places[part.rows]]))

    def _add_plain(self, text: str, rows: npt.NDArray[np.int64]) -> bool:
        """Add networks of IPv4 by reading all their numbers at once; False, nothing done, where it cannot."""
        if text.translate(_NO_DIGITS):
            return False
        numbers = np.fromstring(text.translate(_TO_SPACES), np.int64, sep=" ")
        if len(numbers) != 5 * len(rows):
            return False
        parts = numbers.reshape(-1, 5)
        if len(parts) and (parts.max(axis=0) > (255, 255, 255, 255, BITS[4])).any():
            return False
        firsts = (parts[:, 0] << 24 | parts[:, 1] << 16 | parts[:, 2] << 8 | parts[:, 3]).astype(np.uint32)
        self._parts[4].append(PackedNetworks(4, firsts, None, parts[:, 4].astype(np.uint8), rows))
        return True

    def packed(self) -> list[PackedNetworks]:
        """All of them, by version."""
        return [
            PackedNetworks(
                version,
                np.concatenate([part.high for part in parts]),
                np.concatenate([part.low for part in parts if part.low is not None])
                if version == 6
                else None,
                np.concatenate([part.lengths for part in parts]),
                np.concatenate([part.rows for part in parts]),
            )
            for version, parts in self._parts.items()
            if parts
        ]


@dataclass(frozen=True)
class _OneLength:
    """The networks of one length, in order; `low` where the length reaches into it."""

    version: int
    length: int
    high: Numbers
    low: Numbers | None
    rows: npt.NDArray[np.int64]

    def search(self, high: Numbers, low: Numbers | None) -> Iterable[tuple[int, npt.NDArray[np.int64]]]:
        """For each address (in order) that some hold, its place and their rows."""
        needles = high & _mask(self.version, min(self.length, 64))
        left = np.searchsorted(self.high, needles, side="left")
        right = np.searchsorted(self.high, needles, side="right")
        for place in np.flatnonzero(right > left):
            begin, end = left[place], right[place]
            if self.low is not None and low is not None:  # rarely more than a few share the first 64 bits
                of_place = self.low[begin:end]
                needle = low[place] & _mask(6, self.length - 64)
                end = begin + np.searchsorted(of_place, needle, side="right")
                begin = begin + np.searchsorted(of_place, needle, side="left")
            if end > begin:
                yield int(place), self.rows[begin:end]


def _mask(version: int, length: int) -> Any:
    bits, kind = (32, np.uint32) if version == 4 else (64, np.uint64)
    return kind(((1 << length) - 1) << (bits - length))


class NetworkTable:
    """Networks, ready to be looked up."""

    def __init__(self, packed: Iterable[PackedNetworks]) -> None:
        self._lengths: list[_OneLength] = []
        for part in packed:
            for length in np.unique(part.lengths).tolist():
                chosen = np.flatnonzero(part.lengths == length)
                high = part.high[chosen]
                low = part.low[chosen] if part.low is not None and length > 64 else None
                order = np.argsort(high, kind="stable") if low is None else np.lexsort((low, high))
                low = None if low is None else low[order]
                one = _OneLength(part.version, length, high[order], low, part.rows[chosen][order])
                self._lengths.append(one)

    @classmethod
    def of(cls, networks: Sequence[Network]) -> NetworkTable:
        """A table of networks, whose rows are their places in the sequence."""
        return cls(packed_networks(networks))

    def rows_of(self, addresses: Iterable[str]) -> dict[str, list[int]]:
        """For each address that some network holds, the rows of all that do, in order; text that is no
        address is in none."""
        found: dict[str, list[int]] = {}
        texts: dict[int, list[str]] = {4: [], 6: []}
        for text in dict.fromkeys(addresses):
            texts[6 if ":" in text else 4].append(text)
        for version, of_version in texts.items():
            lengths = [one for one in self._lengths if one.version == version]
            if not lengths:
                continue
            valid, high, low = _parsed(version, of_version)
            order = np.argsort(high, kind="stable")  # in order, so that what is near lies in the cache
            high, low = high[order], None if low is None else low[order]
            for one in lengths:
                for place, rows in one.search(high, low):
                    found.setdefault(valid[order[place]], []).extend(rows.tolist())
        for held in found.values():
            held.sort()
        return found


def _parsed(version: int, texts: Sequence[str]) -> tuple[list[str], Numbers, Numbers | None]:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    valid, packed = [], []
    for text in texts:
        try:
            packed.append(socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
        valid.append(text)
    joined = b"".join(packed)
    if version == 4:
        return valid, np.frombuffer(joined, ">u4").astype(np.uint32), None
    halves = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return valid, halves[:, 0].copy(), halves[:, 1].copy()
