"""L3: the file caches of the reference implementation. Deprecated: read, imported, hardly ever written."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
from cowrie_enrich_dagster.cache.records import BadRecord, Reading, as_it_is, leaves
from cowrie_enrich_dagster.cache.tiers import newest, storable, versioned
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

_HEX = frozenset("0123456789abcdef")


UNKNOWN_FILES = "virustotal_unknown"
"""The folder of files that say by being there that VirusTotal does not know a file."""


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
    `ttls` (by service) tells when that expires; a service without one has no entries. Beside the folders of
    the services lie the files that older versions named `dshield_<ip>.json`, `vt_<hash>.json`, `<hash>`,
    `uh_<ip>` and `spur_<ip>.json`, and the folder `UNKNOWN_FILES`. What a file's JSON means, `reading` says;
    where it says that nothing is known, `not_found_ttls` tell how long that holds. `keys` gives the key whose
    SHA-256 a path is made of, where the file does not tell it.

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
        reading: Reading = as_it_is,
        not_found_ttls: Mapping[str, timedelta] | None = None,
        keys: Callable[[str], str | None] = lambda digest: None,
    ) -> None:
        self.metrics = CacheMetrics()
        self._base = base
        self._ttls = ttls
        self._not_found_ttls = not_found_ttls or {}
        self._reading = reading
        self._keys = keys
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
        found: list[CacheEntry] = []
        for folder, path in self._paths(service, key):
            try:
                found.append(self._entry(service, folder, key, *_read(path)))
            except FileNotFoundError:
                continue
            except BadRecord:
                self.metrics.dropped(self.name, service)
            except OSError:
                self.metrics.failed(self.name, service)
        return max(found, key=lambda entry: entry.fetched_at, default=None)

    def _entry(self, service: str, folder: str, key: str, record: Any, modified: datetime) -> CacheEntry:
        """Raises `BadRecord`."""
        told = self._reading(folder, key, record)
        if told.key != key:
            raise BadRecord("it is about another key")
        # A file from the future would never expire, and one that was copied is no younger for it.
        fetched_at = min(modified, self._clock(), told.fetched_at or modified)
        ttls = self._ttls if told.payload is not None else self._not_found_ttls
        if service not in ttls:
            raise BadRecord("it says that nothing is known, which is not kept")
        try:
            return CacheEntry.of_answer(service, key, told.payload, fetched_at=fetched_at, ttl=ttls[service])
        except Unstorable as error:
            raise BadRecord(str(error)) from None

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
        _, path = self._paths(entry.service, entry.key)[0]
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
            paths: Iterable[Path] = [path for key in storable(keys) for _, path in self._paths(service, key)]
        else:
            folders = [self._folder(name) for name in ([service] if service else self._ttls)]
            paths = (path for folder in folders for path, problem in self._walk(folder) if not problem)
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
            if child.name == UNKNOWN_FILES and "virustotal" in self._ttls and child.is_dir():
                yield from self._scan_folder("virustotal", UNKNOWN_FILES, child)
            elif (service := services.get(child.name)) and child.is_dir():
                yield from self._scan_folder(service, service, child)
            elif loose := _loose_key(child.name):
                yield self._scan_file(loose[0], loose[0], child, loose[1])
            else:
                yield ScannedFile(child, problem="not the folder of a known service")

    def _scan_folder(self, service: str, folder: str, root: Path) -> Iterator[ScannedFile]:
        for path, problem in self._walk(root):
            if problem:
                yield ScannedFile(path, problem=problem)
            else:
                yield self._scan_file(service, folder, path)

    def _scan_file(self, service: str, folder: str, path: Path, key: str | None = None) -> ScannedFile:
        try:
            record, modified = _read(path)
            key = key or self._key_of(service, path.relative_to(self._base).parts[1:])
            if key is None:
                key = _key_in(record, path.stem) or self._keys(path.stem)
                if key is None:
                    return ScannedFile(path, problem="its key cannot be recovered", key_lost=True)
            return ScannedFile(path, self._entry(service, folder, key, record, modified))
        except BadRecord as error:
            return ScannedFile(path, problem=str(error))
        except OSError as error:
            return ScannedFile(path, problem=error.strerror or type(error).__name__)

    def _key_of(self, service: str, parts: tuple[str, ...]) -> str | None:
        """The key a path spells out; None when the path is a hash. Raises `BadRecord` for any other path."""
        relative = Path(*parts)
        parts = relative.with_suffix("").parts
        key = ".".join(parts) if service == "dshield" else parts[-1]
        if _own_layout(service, key) == relative:
            return key
        if len(parts) == 2 and len(parts[1]) == 64 and parts[1][:2] == parts[0] and _HEX.issuperset(parts[1]):
            return None
        raise BadRecord("its path belongs to no known layout")

    @staticmethod
    def _walk(root: Path) -> Iterator[tuple[Path, str]]:
        """Every file of a folder, with its problem if one can see it from outside."""
        unreadable: list[OSError] = []
        for folder, folders, files in os.walk(root, onerror=unreadable.append):
            folders.sort()
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from ((Path(folder) / name, "a symbolic link") for name in links)
            for name in sorted(files):
                yield Path(folder) / name, "" if name.endswith(".json") else "not a .json file"
        for error in unreadable:
            yield Path(error.filename), error.strerror or type(error).__name__

    def _folder(self, service: str) -> Path:
        return self._base / versioned(service, self._versions)

    def _paths(self, service: str, key: str) -> list[tuple[str, Path]]:
        """Where an entry may be, best first, each with the kind of record that is there; made of nothing of
        the key but what is an address or hexadecimal."""
        digest = sha256(key.encode()).hexdigest()
        own, folder = _own_layout(service, key), self._folder(service)
        paths = [(service, folder / own)] if own else []
        paths.append((service, folder / digest[:2] / f"{digest}.json"))
        if service == "virustotal" and own:
            paths.append((UNKNOWN_FILES, self._base / UNKNOWN_FILES / own))
        return paths + [(service, self._base / name) for name in _loose_names(service, key)]


def _loose_names(service: str, key: str) -> list[str]:
    """The names under which older versions of the reference put an answer into the base folder itself."""
    if service == "virustotal" and len(key) == 64 and _HEX.issuperset(key):
        return [f"vt_{key}.json", key]
    form = _LOOSE.get(service)
    return [form.format(key)] if form and _is_ipv4(key) else []


def _loose_key(name: str) -> tuple[str, str] | None:
    """The service and key of such a name; None for any other."""
    file_hash = name.removeprefix("vt_").removesuffix(".json")
    if name in _loose_names("virustotal", file_hash):
        return "virustotal", file_hash
    for service, form in _LOOSE.items():
        before, _, after = form.partition("{}")
        key = name.removeprefix(before).removesuffix(after)
        if name in _loose_names(service, key):
            return service, key
    return None


_LOOSE = {"dshield": "dshield_{}.json", "urlhaus": "uh_{}", "spur": "spur_{}.json"}


def _is_ipv4(key: str) -> bool:
    try:
        IPv4Address(key)
    except ValueError:
        return False
    return True


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


def _read(path: Path) -> tuple[Any, datetime]:
    """A file's JSON and its mtime.

    Raises `FileNotFoundError` where there is none, `BadRecord` for one that is not an answer, `OSError` for
    one that cannot be read.
    """
    try:
        # Not through a symbolic link, and without waiting for the other end of a pipe.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadRecord("a symbolic link") from None
        raise
    with open(file, "rb") as stream:  # noqa: PTH123 (a descriptor, not a path)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord("not a regular file")
        if status.st_size > MAX_PAYLOAD_BYTES:
            raise BadRecord(f"larger than {MAX_PAYLOAD_BYTES} bytes")
        data = stream.read(MAX_PAYLOAD_BYTES)
    try:
        payload = orjson.loads(data)
        modified = from_microseconds(status.st_mtime_ns // 1000)
    except orjson.JSONDecodeError:
        raise BadRecord("not JSON") from None
    except OverflowError:
        raise BadRecord("its mtime is out of range") from None
    return payload, modified


def _key_in(payload: Any, digest: str) -> str | None:
    """The text in the payload whose SHA-256 is `digest`: an answer that names its key proves it."""
    for value in leaves(payload):
        if isinstance(value, str) and sha256(value.encode()).hexdigest() == digest:
            return value
    return None
