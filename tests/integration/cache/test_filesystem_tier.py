"""The files of the reference implementation: every layout read, every hostile file survived."""

from __future__ import annotations

import os
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from cowrie_enrich_dagster.cache import CacheEntry, FilesystemCache
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.cache.conftest import SERVICE, TTLS, WEEK, Now, answer

FILE_HASH = "0123456789abcdef" * 4


def put(path: Path, content: object, moment: float) -> Path:
    """Write a file as the reference would have at that moment (seconds since 1970)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    os.utime(path, (moment, moment))
    return path


def hashed(key: str) -> str:
    digest = sha256(key.encode()).hexdigest()
    return f"{digest[:2]}/{digest}.json"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def files(base: Path, now: Now) -> FilesystemCache:
    return FilesystemCache(base, TTLS, clock=now)


@pytest.mark.parametrize(
    ("service", "key", "path"),
    [
        ("dshield", "198.51.100.7", "198/51/100/7.json"),
        ("dshield", "198.51.100.7", hashed("198.51.100.7")),
        ("dshield", "2001:db8::7", hashed("2001:db8::7")),
        ("virustotal", FILE_HASH, f"01/23/45/67/{FILE_HASH}.json"),
        ("virustotal", FILE_HASH.upper(), f"01/23/45/67/{FILE_HASH}.json"),
        ("virustotal", FILE_HASH, hashed(FILE_HASH)),
        ("hibp", "5BAA6", "5B/AA/6/5BAA6.json"),
        ("hibp", "5BAA6", hashed("5BAA6")),
        ("urlhaus", "198.51.100.7", hashed("198.51.100.7")),
    ],
)
def test_every_layout_of_the_reference_is_read(
    service: str, key: str, path: str, base: Path, files: FilesystemCache, now: Now
) -> None:
    """An answer is found where the reference put it, as old as the file is."""
    fetched = now() - timedelta(days=3)
    put(base / service / path, {"x": 1}, fetched.timestamp())
    expected = CacheEntry(service, key, LookupStatus.FOUND, {"x": 1}, fetched, fetched + WEEK)
    assert files.get_many(service, [key]) == {key: expected}


def test_answers_are_written_where_the_reference_looks_for_them(
    base: Path, files: FilesystemCache, now: Now
) -> None:
    """The same layouts, complete files, mtime = when the answer was fetched, and nothing left over."""
    entry = answer("198.51.100.7", now() - timedelta(days=3))
    assert files.set_many([entry]) == 1
    path = base / "dshield/198/51/100/7.json"
    assert orjson.loads(path.read_bytes()) == entry.payload
    assert path.stat().st_mtime_ns == int(entry.fetched_at.timestamp()) * 10**9 + 123_456_000
    assert [found for found in base.rglob("*") if found.is_file()] == [path]


def test_the_layout_of_a_service_is_preferred_to_the_older_one(
    base: Path, files: FilesystemCache, now: Now
) -> None:
    """And the older one still serves when the preferred file cannot be read."""
    moment = now().timestamp() - 60
    own = put(base / "dshield/198/51/100/7.json", {"layout": "own"}, moment)
    put(base / "dshield" / hashed("198.51.100.7"), {"layout": "older"}, moment)
    assert files.get_many(SERVICE, ["198.51.100.7"])["198.51.100.7"].payload == {"layout": "own"}
    put(own, b"garbage", moment)
    assert files.get_many(SERVICE, ["198.51.100.7"])["198.51.100.7"].payload == {"layout": "older"}
    assert files.delete(SERVICE, ["198.51.100.7"]) == 2


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    target = path.parent / "target"
    target.write_bytes(b'{"secret": 1}')
    path.symlink_to(target)


UNUSABLE = {
    "empty": b"",
    "cut short": b'{"a": 1',
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[1, 2]",
    "null": b"null",
    "an empty object": b"{}",
    "the reference's blank for dshield": b'{"ip": {"asname": "", "ascountry": ""}}',
    "the reference's blank for urlhaus": b'{"tags": ""}',
    "the reference's blank for spur": b'{"spur_data": ["", [], "", null]}',
    "too large": b'{"x": "' + b"a" * (4 << 20) + b'"}',
    "a folder": Path.mkdir,
    "a pipe": make_pipe,
    "a symbolic link": make_link,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_is_no_answer_is_counted_and_left_alone(
    kind: str, base: Path, files: FilesystemCache, now: Now
) -> None:
    """It is a miss, also a failure written as a blank; nothing hangs, nothing is deleted."""
    path = base / "dshield/198/51/100/7.json"
    path.parent.mkdir(parents=True)
    content = UNUSABLE[kind]
    if callable(content):
        content(path)
    else:
        put(path, content, now().timestamp())
    good = answer("198.51.100.8", now())
    files.set_many([good])
    assert files.get_many(SERVICE, ["198.51.100.7", good.key]) == {good.key: good}
    counts = files.metrics.as_dict()["totals"]["filesystem"]
    assert counts["dropped"] + counts["errors"] == 1
    assert os.path.lexists(path)
    problems = [file for file in files.scan() if file.problem]
    assert [file.path for file in problems if file.path == path] == ([] if kind == "a folder" else [path])


def test_hostile_keys_stay_below_the_folder(base: Path, files: FilesystemCache, now: Now) -> None:
    """Whatever a key is made of, its file lies in its service's folder."""
    keys = [
        "../../escape",
        "/tmp/escape",
        "..",
        "198.51.100.7/../../x",
        "~root",
        "a\nb",
        "\\",
        "CON",
        "a" * 1024,
    ]
    assert files.set_many(answer(key, now()) for key in keys) == len(keys)
    written = [path for path in base.parent.rglob("*") if path.is_file()]
    assert len(written) == len(keys)
    for path in written:
        assert path.parent.parent == base / SERVICE
        assert path.stem == sha256(files_key(path).encode()).hexdigest()


def files_key(path: Path) -> str:
    return str(orjson.loads(path.read_bytes())["ip"]["number"])


def test_a_file_from_the_future_is_as_old_as_now(base: Path, files: FilesystemCache, now: Now) -> None:
    """A wrong clock when the file was written does not keep it fresh for ever."""
    put(base / "dshield/198/51/100/7.json", {"x": 1}, now().timestamp() + 10**8)
    assert files.get_many(SERVICE, ["198.51.100.7"])["198.51.100.7"].fetched_at == now()


def test_a_service_without_a_ttl_or_folder_has_nothing(base: Path, files: FilesystemCache, now: Now) -> None:
    """Without a TTL one cannot tell whether an answer still counts; a missing folder is an empty one."""
    put(base / "spur" / hashed("k"), {"x": 1}, now().timestamp())
    assert files.get_many("spur", ["k"]) == {}
    assert files.get_many("hibp", ["5BAA6"]) == {}
    assert files.set_many([CacheEntry.of_answer("spur", "k", {"x": 1}, fetched_at=now(), ttl=WEEK)]) == 0


def test_a_disk_that_takes_no_files(base: Path, files: FilesystemCache, now: Now) -> None:
    """A file where a folder should be: the answer is not kept, counted as an error, and nothing is raised."""
    put(base / "dshield" / "198", b"a file", 0)
    assert files.set_many([answer("198.51.100.7", now()), answer("203.0.113.7", now())]) == 1
    assert files.get_many(SERVICE, ["198.51.100.7", "203.0.113.7"]).keys() == {"203.0.113.7"}
    assert files.metrics.as_dict()["totals"]["filesystem"]["errors"] == 1


def test_a_changed_answer_format_hides_the_files(base: Path, now: Now) -> None:
    """The reference's files are in format 1; a service at 2 has none of them."""
    put(base / "dshield/198/51/100/7.json", {"x": 1}, now().timestamp())
    newer = FilesystemCache(base, TTLS, versions={SERVICE: 2}, clock=now)
    assert newer.get_many(SERVICE, ["198.51.100.7"]) == {}
    assert [file.problem for file in newer.scan()] == ["not the folder of a known service"]
