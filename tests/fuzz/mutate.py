"""Damage to bytes and to JSON, drawn from a seeded `Random`: the same seed gives the same damage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_DEPTHS = (1, 9, 200, 253, 254, 255, 300, 990, 1000, 1010, 1020, 1030, 5000)
_MOST_BRACKETS = 200
_RAW = "\ue000raw"  # in place of what `json.dumps` cannot write
_RAW_JSON: tuple[bytes, ...] = (
    b"1e999", b"-1e999", b"NaN", b"-Infinity", b"1E-999", b"-0", b"01", b"+1", b"0x10", b"1_000", b"9" * 400,
    b"9" * 5000, b'"\\ud800"', b'"\\udc80\\ud800"', b'"\\u0000"', b'"\\uD83D\\uDE00"', b'"\\x41"',
    b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"a\nb"', b'"a\0b"', b"", b"{}", b"[]", b"tru", b"'x'",
    b'{"a":1,"a":2}',
)  # fmt: skip
_TOKENS: tuple[bytes, ...] = (
    *_RAW_JSON, b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"\r\n", b"\r", b"\n{", b"\n}", b"}{",
    b'{"', b'":', b"\0", b"\0" * 70, b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J", b"\xe2\x80\xae",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"%00", b"%n", b"' OR 1=1--", b"<script>", b"|",
    b" " * 300, b'"timestamp"', b'"timestamp":"2025-11-01T00:00:00.000000Z"', b'"timestamp":"', b'"eventid"',
    b'"session":""', b"2025-11-02T23:59:59.999999Z", b"2025-11-04T00:00:00Z", b"0000-00-00",
    b"9999-12-31T23:59:59.999999Z", b"1999-12-31T23:59:60Z", b"2025-11-02T00:00:00+23:59", b"8.8.8.8",
    b"010.000.000.001", b"2001:470:1:332::1", b"2606:4700::1111%x", b"::ffff:8.8.8.8", b"fe80::1%eth0",
    b"1.1.1.0/24", b"::/0", b"0.0.0.0/0", b"AS13335", b"4294967296", b"18446744073709551616",
    b"9223372036854775808", b"-1", b"2147483648",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 65535, 65536, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308,
    "", " ", "0", "7", "-1", "x", "NA", "true", "٣", "１２", "²", "a\0b", "\0", "\ud800", "x\udc80y",
    "\U0001f600", "\u202e", "\u2028", "\x7f\x1b", "a" * 70, "é" * 300, "x" * 5000, "8.8.8.8", " 8.8.8.8 ",
    "8.8.8.8\0", "1.1.1.1", "2606:4700::1111%x", "fe80::1%x\ny", "::ffff:8.8.8.8", "1.1.1.0/24",
    "fe80::%x/64", "1.1.1.1/33", "AS7", "as 7", "2025-11-01", "2025-11-01T10:00:00Z", "2025-13-41",
    "0000-00-00", "99999-01-01", "gb", "ıı", [], {}, [None], [[]], [{}], {"": ""}, {"a": {"b": [1]}},
    ["8.8.8.8"], {"\0": "\0"}, {"\ud800": 1},
)  # fmt: skip


def mutated(rng: Random, data: bytes, others: Sequence[bytes], *, limit: int = 60_000) -> bytes:
    """`data` with one to a few changes, as JSON where it is JSON, else (and often anyway) as bytes."""
    for _ in range(_few(rng)):
        changed = json_mutated(rng, data, others) if rng.random() < 0.6 else None
        data = bytes_mutated(rng, data, others) if changed is None else changed
    return data[:limit]


def bytes_mutated(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """`data` with one change that knows nothing of its meaning."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + _length(rng))
    return rng.choice(_BYTE_CHANGES)(rng, data, start, end, others)


def json_mutated(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes | None:
    """`data` with another value, name or shape at one place of its JSON; None if it is not JSON."""
    try:
        raw: list[bytes] = []
        changed = _changed(rng, shallow_json(data), raw, others)
        text = json.dumps(changed, **rng.choice(_STYLES))
    except ValueError:  # also for a value that was put into itself
        return None
    written = text.encode("utf-8", "surrogatepass")
    for fragment in raw:
        written = written.replace(json.dumps(_RAW).encode(), fragment).replace(f'"{_RAW}"'.encode(), fragment)
    return written


def shallow_json(data: bytes) -> Any:
    """`data` as JSON; raises ValueError for what is none, or may be nested deeper than a stack reaches."""
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise ValueError("nested too deep")
    return json.loads(data)


def nasty_value(rng: Random, raw: list[bytes]) -> Any:
    """A JSON value that parsers stumble over; what `json.dumps` cannot write is added to `raw`."""
    if rng.random() < 0.25 and not raw:
        raw.append(_nested(rng) if rng.random() < 0.4 else rng.choice(_RAW_JSON))
        return _RAW
    return rng.choice(_VALUES)


def _changed(rng: Random, value: Any, raw: list[bytes], others: Sequence[bytes]) -> Any:
    places = _places(value)
    if not places or rng.random() < 0.03:
        return rng.choice([[value], {"": value}, nasty_value(rng, raw), value])
    holder, name = rng.choice(places)
    kind = rng.random()
    if kind < 0.6:
        holder[name] = nasty_value(rng, raw)
    elif kind < 0.7:
        del holder[name]
    elif kind < 0.78:
        other, other_name = rng.choice(places)
        holder[name], other[other_name] = other[other_name], holder[name]
    elif kind < 0.84:
        holder[name] = rng.choice([[holder[name]], {str(name): holder[name]}, str(holder[name])])
    elif kind < 0.9 and isinstance(holder, dict):
        holder[rng.choice(["", "\0", "timestamp", str(name).upper(), str(name) + " "])] = holder.pop(name)
    elif kind < 0.96 and others:
        donor = _places(shallow_json(rng.choice(others)))
        if donor:
            inner, inner_name = rng.choice(donor)
            holder[name] = inner[inner_name]
    elif isinstance(holder[name], str):
        holder[name] = holder[name] * rng.choice([2, 40, 300])
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder and name (or index) in a JSON value."""
    inside: list[tuple[Any, Any]] = []
    for name, inner in _items(value):
        inside.append((value, name))
        inside += _places(inner)
    return inside


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _few(rng: Random) -> int:
    return min(5, 1 + int(rng.expovariate(1.2)))


def _length(rng: Random) -> int:
    return rng.choice((1, 1, 1, 2, 4, 8, rng.randrange(1, 65), rng.randrange(1, 2000)))


def _nested(rng: Random) -> bytes:
    depth = rng.choice(_DEPTHS)
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")))
    return opened * depth + b"1" + closed * depth


def _noise(rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 9))


def _bit_flipped(data: bytes, at: int, rng: Random) -> bytes:
    if at == len(data):
        return data
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _number_swapped(rng: Random, data: bytes, at: int) -> bytes:
    digits = b"0123456789"
    start = next((place for place in range(at, len(data)) if data[place] in digits), None)
    if start is None:
        return data
    end = next((place for place in range(start, len(data)) if data[place] not in digits), len(data))
    other = rng.choice((b"0", b"-1", b"65536", b"4294967296", b"9" * 30, b"1e999", b"00", b"", b"1.5"))
    return data[:start] + other + data[end:]


_Change = Callable[[Random, bytes, int, int, Sequence[bytes]], bytes]
_BYTE_CHANGES: tuple[_Change, ...] = (
    lambda rng, data, start, end, others: _bit_flipped(data, start, rng),
    lambda rng, data, start, end, others: data[:start] + _noise(rng) + data[end:],
    lambda rng, data, start, end, others: data[:start] + _noise(rng) + data[start:],
    lambda rng, data, start, end, others: data[:start] + data[end:],
    lambda rng, data, start, end, others: data[:end] + data[start:],
    lambda rng, data, start, end, others: data[:start],
    lambda rng, data, start, end, others: data[start:],
    lambda rng, data, start, end, others: data[:start] + rng.choice(_TOKENS) + data[start:],
    lambda rng, data, start, end, others: data[:start] + rng.choice(_TOKENS) + data[end:],
    lambda rng, data, start, end, others: data[:start] + _nested(rng) + data[start:],
    lambda rng, data, start, end, others: _number_swapped(rng, data, start),
    lambda rng, data, start, end, others: data.replace(b"\n", b"\r\n"),
    lambda rng, data, start, end, others: b"\xef\xbb\xbf" + data,
    lambda rng, data, start, end, others: _spliced(rng, data, start, others),
    lambda rng, data, start, end, others: data[:end] + data[start:end] * rng.choice((1, 8, 200)) + data[end:],
)


def _spliced(rng: Random, data: bytes, start: int, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    return data[:start] + other[rng.randrange(len(other) + 1) :]


_STYLES: tuple[dict[str, Any], ...] = (
    {},
    {"separators": (",", ":")},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 1},
)
