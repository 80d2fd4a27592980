"""L3: the file caches of the reference implementation. Deprecated: read, imported, hardly ever written."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import orjson

from cowrie_enrich_dagster.cache.entry import (
    MAX_PAYLOAD_BYTES,
    CacheEntry,
    Unstorable,
    from_microseconds,
    microseconds,
    payload_text,
)
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.tiers import newest, storable, versioned
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

_HEX = frozenset("0123456789abcdef")


class BadFile(Exception):
    """A file that is not an answer; the message says why, without quoting it."""


@dataclass(frozen=True)
class ScannedFile:
    """A file found by `FilesystemCache.scan`: its `entry`, or the `problem` it has.

    `key_lost` marks a good answer whose key cannot be told: its path is a hash and the payload does not say.
    """

    path: Path
    entry: CacheEntry | None = None
    problem: str = ""
    key_lost: bool = False


class FilesystemCache:
    """One JSON payload per file below `<base>/<service>/`, in the layouts of the reference implementation.

    dshield IPv4 `a/b/c/d.json`; virustotal `ab/cd/ef/01/<hash>.json`; hibp `AB/CD/E/ABCDE.json`; all else,
    and every service's older files, `<2 hex>/<sha256 of the key>.json`. A file's mtime is `fetched_at`, and
    `ttls` (by service) tells when that expires; a service without one has no entries. The layouts have no
    place for "not found", and blank payloads are not answers: the reference wrote its failures that way.

    Files that cannot be used count as dropped and are left alone. No method raises for them.
    """

    name = "filesystem"

    def __init__(
        self,
        base: Path,
        ttls: Mapping[str, timedelta],
        *,
        versions: Mapping[str, int] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.metrics = CacheMetrics()
        self._base = base
        self._ttls = ttls
        self._versions = versions or {}
        self._clock = clock

    def get_many(self, service: str, keys: Collection[str]) -> dict[str, CacheEntry]:
        """The entries there are, fresh or expired; a read per key."""
        found: dict[str, CacheEntry] = {}
        if service in self._ttls:
            for key in storable(keys):
                entry = self._load(service, key)
                if entry:
                    found[key] = entry
        return found

    def _load(self, service: str, key: str) -> CacheEntry | None:
        for path in self._paths(service, key):
            try:
                return self._entry(service, key, *_read(path))
            except FileNotFoundError:
                continue
            except BadFile:
                self.metrics.dropped(self.name, service)
            except OSError:
                self.metrics.failed(self.name, service)
        return None

    def _entry(self, service: str, key: str, payload: dict[str, Any], modified: datetime) -> CacheEntry:
        fetched_at = min(modified, self._clock())  # a file from the future would never expire
        try:
            return CacheEntry.of_answer(service, key, payload, fetched_at=fetched_at, ttl=self._ttls[service])
        except Unstorable as error:
            raise BadFile(str(error)) from None

    def set_many(self, entries: Iterable[CacheEntry]) -> int:
        """Write found entries whose service has a TTL, unless a newer file is there; how many were taken.

        Each file appears at once and complete, with `fetched_at` as its mtime.
        """
        taken = 0
        for entry in newest(entries):
            if entry.payload is None or entry.service not in self._ttls:
                continue
            held = self._load(entry.service, entry.key)
            try:
                if held is None or held.fetched_at <= entry.fetched_at:
                    self._write(entry, payload_text(entry.payload).encode())
            except Unstorable:
                self.metrics.dropped(self.name, entry.service)
                continue
            except OSError:
                self.metrics.failed(self.name, entry.service)
                continue
            taken += 1
            self.metrics.stored(self.name, entry.service)
        return taken

    def _write(self, entry: CacheEntry, data: bytes) -> None:
        path = self._paths(entry.service, entry.key)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with draft.open("xb") as file:
                file.write(data)
            moment = microseconds(entry.fetched_at) * 1000
            os.utime(draft, ns=(moment, moment))
            draft.replace(path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    def delete(self, service: str | None = None, keys: Collection[str] | None = None) -> int:
        """Remove the files of these keys, of the service, or of all services with a TTL; how many files.

        Raises `ValueError` for keys without a service.
        """
        if keys is not None:
            if service is None:
                raise ValueError("keys need a service")
            paths: Iterable[Path] = [path for key in storable(keys) for path in self._paths(service, key)]
        else:
            services = [service] if service else list(self._ttls)
            paths = (path for name in services for path, problem in self._walk(name) if not problem)
        gone = 0
        for path in paths:
            try:
                path.unlink()
                gone += 1
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                self.metrics.failed(self.name, service or "")
        return gone

    def scan(self) -> Iterator[ScannedFile]:
        """Every file below the base folder, in a fixed order, as an entry or with its problem.

        Raises `FileNotFoundError` or `NotADirectoryError` when the base is not a folder.
        """
        services = {versioned(service, self._versions): service for service in self._ttls}
        for child in sorted(self._base.iterdir()):
            service = services.get(child.name)
            if service is None or not child.is_dir():
                yield ScannedFile(child, problem="not the folder of a known service")
                continue
            for path, problem in self._walk(service):
                yield ScannedFile(path, problem=problem) if problem else self._scan_file(service, path)

    def _scan_file(self, service: str, path: Path) -> ScannedFile:
        try:
            payload, modified = _read(path)
            key = self._key_of(service, path)
            if key is None:
                key = _key_in(payload, path.stem)
                if key is None:
                    return ScannedFile(path, problem="its key cannot be recovered", key_lost=True)
            return ScannedFile(path, self._entry(service, key, payload, modified))
        except BadFile as error:
            return ScannedFile(path, problem=str(error))
        except OSError as error:
            return ScannedFile(path, problem=error.strerror or type(error).__name__)

    def _key_of(self, service: str, path: Path) -> str | None:
        """The key a path spells out; None when the path is a hash. Raises `BadFile` for any other path."""
        folder = self._folder(service)
        parts = path.relative_to(folder).with_suffix("").parts
        key = ".".join(parts) if service == "dshield" else parts[-1]
        if _own_layout(service, key) == path.relative_to(folder):
            return key
        if len(parts) == 2 and len(parts[1]) == 64 and parts[1][:2] == parts[0] and _HEX.issuperset(parts[1]):
            return None
        raise BadFile("its path belongs to no known layout")

    def _walk(self, service: str) -> Iterator[tuple[Path, str]]:
        """Every file of a service, with its problem if one can see it from outside."""
        unreadable: list[OSError] = []
        for folder, folders, files in os.walk(self._folder(service), onerror=unreadable.append):
            folders.sort()
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from ((Path(folder) / name, "a symbolic link") for name in links)
            for name in sorted(files):
                yield Path(folder) / name, "" if name.endswith(".json") else "not a .json file"
        for error in unreadable:
            yield Path(error.filename), error.strerror or type(error).__name__

    def _folder(self, service: str) -> Path:
        return self._base / versioned(service, self._versions)

    def _paths(self, service: str, key: str) -> list[Path]:
        """Where an entry may be, best first; made of hex digits and numbers only, whatever the key is."""
        digest = sha256(key.encode()).hexdigest()
        own = _own_layout(service, key)
        relative = [own] if own else []
        return [self._folder(service) / path for path in (*relative, Path(digest[:2], f"{digest}.json"))]


def _own_layout(service: str, key: str) -> Path | None:
    """The path of a key in the layout its service has to itself; None for a key that does not fit it."""
    if service == "dshield":
        try:
            octets = str(IPv4Address(key)).split(".")
        except ValueError:
            return None
        return Path(*octets[:3], f"{octets[3]}.json")
    if service == "virustotal" and len(key) >= 8 and _HEX.issuperset(key.lower()):
        name = key.lower()
        return Path(name[:2], name[2:4], name[4:6], name[6:8], f"{name}.json")
    if service == "hibp" and len(key) == 5 and _HEX.issuperset(key.lower()):
        name = key.upper()
        return Path(name[:2], name[2:4], name[4:], f"{name}.json")
    return None


def _read(path: Path) -> tuple[dict[str, Any], datetime]:
    """A file's payload and mtime.

    Raises `FileNotFoundError` where there is none, `BadFile` for one that is not an answer, `OSError` for
    one that cannot be read.
    """
    try:
        # Not through a symbolic link, and without waiting for the other end of a pipe.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadFile("a symbolic link") from None
        raise
    with open(file, "rb") as stream:  # noqa: PTH123 (a descriptor, not a path)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile("not a regular file")
        if status.st_size > MAX_PAYLOAD_BYTES:
            raise BadFile(f"larger than {MAX_PAYLOAD_BYTES} bytes")
        data = stream.read(MAX_PAYLOAD_BYTES)
    try:
        payload = orjson.loads(data)
        modified = from_microseconds(status.st_mtime_ns // 1000)
    except orjson.JSONDecodeError:
        raise BadFile("not JSON") from None
    except OverflowError:
        raise BadFile("its mtime is out of range") from None
    if all(value in (None, "") for value in _leaves(payload)):
        raise BadFile("blank: a failure written as if it were an answer")
    if not isinstance(payload, dict):
        raise BadFile(f"JSON {type(payload).__name__} instead of an object")
    return payload, modified


def _leaves(payload: Any) -> Iterator[Any]:
    """Every value that is not itself an object or a list."""
    pending = [payload]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        else:
            yield value


def _key_in(payload: dict[str, Any], digest: str) -> str | None:
    """The text in the payload whose SHA-256 is `digest`: an answer that names its key proves it."""
    for value in _leaves(payload):
        if isinstance(value, str) and sha256(value.encode()).hexdigest() == digest:
            return value
    return None
