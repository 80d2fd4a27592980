"""Logs put together from mutated lines, whole ones and whatever else is found in a log folder."""

from __future__ import annotations

import json
from random import Random

from tests.fuzz.mutate import bytes_mutated, json_mutated, mutated, shallow_json
from tests.fuzz.target import Seeds

_DAYS = ("10-20", "10-31", "11-01", "11-01", "11-02", "11-02", "11-03", "11-04", "11-05", "11-20")
_ENDS = (b"\n",) * 12 + (b"\r\n", b"\r\n", b"\n\n", b"\0\n", b"", b" ", b"\r")


def log_of_lines(rng: Random, seeds: Seeds, number: int) -> bytes:
    """About `number` lines; most are damaged, and whole ones stand among them."""
    return b"".join(_line(rng, seeds) + rng.choice(_ENDS) for _ in range(number))


def _line(rng: Random, seeds: Seeds) -> bytes:
    kind = rng.random()
    seed = rng.choice(seeds)
    if kind < 0.12:
        return rng.choice(seeds)
    if kind < 0.24:
        return _retimed(rng, seed)
    if kind < 0.56:
        return json_mutated(rng, seed, seeds) or mutated(rng, seed, seeds)
    if kind < 0.84:
        return mutated(rng, seed, seeds)
    if kind < 0.9:
        return seed[: rng.randrange(len(seed) + 1)] + rng.choice((b"", b"\n", b"\0" * 9)) + rng.choice(seeds)
    if kind < 0.95:
        return _pretty(rng, seed)
    return bytes_mutated(rng, _pretty(rng, seed), seeds)


def _retimed(rng: Random, seed: bytes) -> bytes:
    """The event at another moment, its timestamp first: whole, on a line of its own."""
    try:
        event = shallow_json(seed)
    except ValueError:
        return seed
    if not isinstance(event, dict):
        return seed
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:00.{rng.randrange(10**6):06}"
    stamp = f"2025-{rng.choice(_DAYS)}T{clock}Z"
    moved = {"timestamp": stamp, **{name: value for name, value in event.items() if name != "timestamp"}}
    return json.dumps(moved, separators=(",", ":")).encode()


def _pretty(rng: Random, seed: bytes) -> bytes:
    try:
        return json.dumps(shallow_json(seed), indent=rng.choice((0, 1, 4))).encode()
    except ValueError:
        return seed
