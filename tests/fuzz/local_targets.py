"""The answers that do not come over HTTP: Team Cymru's whois, and MaxMind's database files.

An input of the first is the addresses asked about, a line feed, and the whois answer; one of the second is a
database file.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from random import Random
from types import SimpleNamespace, TracebackType
from unittest import mock

import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Answer, ServiceConfig, cymru
from cowrie_enrich_dagster.services.maxmind import DatabaseUnreadable
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.fuzz.answers import check_answer
from tests.fuzz.mutate import bytes_mutated, mutated
from tests.fuzz.target import SCRATCH, Seeds, Target
from tests.integration.services.conftest import GatedSession

MAXMIND_KEYS = ("81.2.69.142", "2001:470:1:332::1", "8.8.8.8", "255.255.255.255")
_CYMRU, _MAXMIND = services.ALL["cymru"], services.ALL["maxmind"]
_http = GatedSession()


class Whois:
    """A connection that says `answer`, a piece at a time."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.connections = 0

    def create_connection(self, *_: object) -> Whois:
        self.connections += 1
        return self

    def __enter__(self) -> Whois:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    def sendall(self, query: bytes) -> None:
        assert query.startswith(b"begin\nverbose\n")
        assert query.endswith(b"\nend\n")

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv(self, size: int) -> bytes:
        piece, self._answer = self._answer[:4000], self._answer[4000:]
        return piece


def check_cymru(data: bytes) -> Counter[str]:
    """Every address gets an answer, made of whole lines about it alone."""
    asked, _, body = data.partition(b"\n")
    keys = asked.decode("latin-1").split()
    whois = Whois(body)
    fake = SimpleNamespace(create_connection=whois.create_connection)
    try:
        with mock.patch.object(cymru, "socket", fake):
            answers = _CYMRU.fetch(keys, _http, ServiceConfig("whois://whois.test"))
    except requests.ConnectionError:
        assert not body
        return Counter({"broken connections": 1})
    except ValueError:
        assert whois.connections == 0, "ValueError is for keys, with nothing sent"
        return Counter({"refused keys": 1})
    assert list(answers) == list(dict.fromkeys(keys))
    rows = [line.split(b"|") for line in body.split(b"\n")[:-1]]
    for key, answer in answers.items():
        check_answer(_CYMRU, key, answer)
        if answer.status.is_answer:
            _check_rows(key, answer, rows)
    return Counter(answer.status.value for answer in answers.values())


def check_maxmind(data: bytes) -> Counter[str]:
    """A database file is read, or is named as unreadable."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder) / "fuzz.mmdb"
        path.write_bytes(data)
        try:
            answers = _MAXMIND.fetch(MAXMIND_KEYS, _http, ServiceConfig("", database=path))
        except DatabaseUnreadable:
            return Counter({"unreadable": 1})
    assert list(answers) == list(MAXMIND_KEYS)
    for key, answer in answers.items():
        check_answer(_MAXMIND, key, answer)
        assert answer.payload is None or answer.payload["ip"] == key
    return Counter(answer.status.value for answer in answers.values())


def _check_rows(key: str, answer: Answer, rows: list[list[bytes]]) -> None:
    mine = [row for row in rows if len(row) >= len(cymru.COLUMNS) and _names(row[1], key)]
    assert mine, "an answer without a line about it"
    if answer.status is LookupStatus.NOT_FOUND:
        assert all(row[0].decode("utf-8", "replace").strip() == "NA" for row in mine)
    for origin in (answer.payload or {}).get("origins", ()):
        assert _names(origin["ip"].encode(), key)
        assert list(origin) == list(cymru.COLUMNS)


def _names(told: bytes, key: str) -> bool:
    try:
        return ip_address(told.decode("utf-8", "replace").replace("\0", "").strip()) == ip_address(key)
    except ValueError:
        return False


def _whois(rng: Random, seeds: Seeds) -> bytes:
    asked, _, body = rng.choice(seeds).partition(b"\n")
    others = [seed.partition(b"\n")[2] for seed in seeds]
    lines = body.splitlines(keepends=True)
    if rng.random() < 0.3 and lines:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(rng.choice(others).splitlines(True) or [b""]))
    if rng.random() < 0.1:
        asked += b" " + rng.choice((b"8.8.8.8", b"100.9.2.3", b"2001:470:1:332::1", b"8.8.8.8"))
    elif rng.random() < 0.02:
        asked = bytes_mutated(rng, asked, seeds).replace(b"\n", b"")
    return asked + b"\n" + mutated(rng, b"".join(lines), others)


def _database(rng: Random, seeds: Seeds) -> bytes:
    data = rng.choice(seeds)
    metadata = data.rfind(b"MaxMind.com") + 14
    if rng.random() < 0.6:  # its metadata and records are few bytes among many of its tree
        cut = metadata if rng.random() < 0.5 else max(0, metadata - 200)
        return data[:cut] + bytes_mutated(rng, data[cut:], [seed[-300:] for seed in seeds])
    return bytes_mutated(rng, data, seeds)


TARGETS = (
    Target("cymru", "cymru", 60, check_cymru, _whois),
    Target("maxmind", "maxmind", 10, check_maxmind, _database),
)
