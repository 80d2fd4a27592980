"""L1: Redis, an accelerator that may fail in any way without anybody above noticing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cowrie_enrich_dagster.cache.breaker import CircuitBreaker
from cowrie_enrich_dagster.cache.entry import (
    WIRE_VERSION,
    CacheEntry,
    UndecodableEntry,
    Unstorable,
    decode,
    encode,
    microseconds,
)
from cowrie_enrich_dagster.cache.hidden import HiddenKeys
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.redis_faults import NotRedis, reason
from cowrie_enrich_dagster.cache.tiers import collector_paused, newest, storable, versioned
from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

KEY_PREFIX = "cowrie-enrich:1"
CONNECT_TIMEOUT_S = 0.25
READ_TIMEOUT_S = 0.5
COOLDOWN_S = 60.0
CHUNK_KEYS = 1_000
CHUNK_BYTES = 8 * 1024 * 1024

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Wire = tuple[CacheEntry, int, bytes]  # an entry, its life in Redis in milliseconds, and its encoding

# Sets entries, each unless a newer one is held. A key of the wrong type, or with other bytes in it, is
# replaced: it would hide the answer as long as it lives. ARGV: fetched_at (us), life (ms), value of each key.
_SET_NEWER = f"""
for i, key in ipairs(KEYS) do
  local head = redis.pcall('GETRANGE', key, 0, 40)
  local held = type(head) == 'string' and tonumber(string.match(head, '^%[{WIRE_VERSION},(%d+),'))
  if not held or held <= tonumber(ARGV[3 * i - 2]) then
    redis.call('SET', key, ARGV[3 * i], 'PX', ARGV[3 * i - 1])
  end
end
return #KEYS
"""


@dataclass(frozen=True)
class RedisStatus:
    """How Redis is. Bytes; `maxmemory` 0 means without limit; None where it did not say."""

    reachable: bool
    reason: str = ""
    writable: bool = True
    used_memory: int | None = None
    maxmemory: int | None = None
    eviction_policy: str | None = None


class RedisCache:
    """The first tier. No method raises for anything Redis does or fails to do.

    A fault of the connection, or a refusal to read, leaves Redis alone for `COOLDOWN_S` seconds: lookups then
    find nothing at once, so a dead Redis costs one timeout a minute. A refusal to write (out of memory,
    read-only) leaves writes alone for as long and goes on reading. Each outage is one warning in the log.

    An entry lives for `ttl_s` seconds here, or for what is left of its own life if that is shorter. With
    `tls` the server must show a certificate for `host` that the system's authorities signed (or those of
    SSL_CERT_FILE). `monotonic` (seconds) drives the cooldown, `clock` the entries' lives. Safe to share
    between threads and across forks.
    """

    name = "redis"

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        *,
        password: str | None = None,
        db: int = 0,
        tls: bool = False,
        ttl_s: float = 3600.0,
        versions: Mapping[str, int] | None = None,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = CacheMetrics()
        self.place = f"{host}:{port}/{db}"
        """Which Redis this is."""
        self.on_given: Callable[[list[tuple[CacheEntry, int]]], None] = lambda entries: None
        """Told what Redis took, each with its life there in milliseconds."""
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._versions = versions or {}
        self._clock = clock
        self._breaker = CircuitBreaker(COOLDOWN_S, monotonic)
        self._write_breaker = CircuitBreaker(COOLDOWN_S, monotonic)
        self._last_reason = ""
        self._hidden = HiddenKeys(ttl_s, monotonic)
        pool = redis.ConnectionPool(
            connection_class=redis.SSLConnection if tls else redis.Connection,
            host=host,
            port=port,
            db=db,
            password=password,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=READ_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # every Redis and its relatives speak it
        )
        self._client = redis.Redis(connection_pool=pool)
        self._set_newer = self._client.register_script(_SET_NEWER)

    @property
    def available(self) -> bool:
        """Whether Redis would be asked now (it is not within the cooldown after a fault)."""
        return self._breaker.would_allow

    def get_many(self, service: str, keys: Collection[str]) -> dict[str, CacheEntry]:
        """The entries there are, by MGET. Bytes that are not an entry are deleted, and count as dropped."""
        prefix = self._key(service, "")
        found: dict[str, CacheEntry] = {}
        poisoned: list[str] = []
        with collector_paused():
            for chunk in chunks(self._hidden.without(service, storable(keys)), CHUNK_KEYS):
                names = [prefix + key for key in chunk]
                blobs = self._call(service, partial(self._mget, names))
                if blobs is None:
                    break
                for key, blob in zip(chunk, blobs, strict=True):
                    if blob is not None:
                        try:
                            found[key] = decode(service, key, blob)
                        except UndecodableEntry:
                            poisoned.append(key)
        if poisoned:
            self.metrics.dropped(self.name, service, len(poisoned))
            self.delete(service, poisoned)
        return found

    def _mget(self, names: list[str]) -> list[bytes | None]:
        blobs: Any = self._client.mget(names)
        if not isinstance(blobs, list) or len(blobs) != len(names):
            raise NotRedis
        if not all(blob is None or isinstance(blob, bytes) for blob in blobs):
            raise NotRedis
        return blobs

    def set_many(self, entries: Iterable[CacheEntry]) -> int:
        """Keep entries, each unless a newer one is held; returns how many were sent.

        Expired entries are left out. An entry that cannot be encoded or is too large counts as dropped.
        """
        if not (self._breaker.would_allow and self._write_breaker.would_allow):
            return 0
        return sum(len(chunk) for chunk in self._wire_chunks(newest(entries)) if self._send(chunk))

    def replace_many(self, entries: Iterable[CacheEntry]) -> int:
        """Like `set_many`, for entries that supersede what Redis may hold.

        Those it does not take are hidden from this object's lookups for as long as an older entry may live in
        Redis, so that a refused write does not bring back what it should have replaced.
        """
        taken = 0
        for chunk in self._wire_chunks(newest(entries)):
            if self._send(chunk):
                taken += len(chunk)
            else:
                self._hidden.hide(entry for entry, _, _ in chunk)
        return taken

    def _send(self, chunk: list[_Wire]) -> bool:
        names = [self._key(entry.service, entry.key) for entry, _, _ in chunk]
        arguments: list[Any] = []
        for entry, life_ms, blob in chunk:
            arguments += (microseconds(entry.fetched_at), life_ms, blob)
        send = partial(self._number, partial(self._set_newer, keys=names, args=arguments))
        if self._write(chunk[0][0].service, send) is None:
            return False
        for service, number in Counter(entry.service for entry, _, _ in chunk).items():
            self.metrics.stored(self.name, service, number)
        self.on_given([(entry, life_ms) for entry, life_ms, _ in chunk])
        self._hidden.show(entry for entry, _, _ in chunk)
        return True

    def _wire_chunks(self, entries: list[CacheEntry]) -> Iterator[list[_Wire]]:
        now = self._clock()
        chunk: list[_Wire] = []
        size = 0
        for entry in entries:
            life_ms = min(self._ttl_ms, (entry.expires_at - now) // timedelta(milliseconds=1))
            if life_ms <= 0:
                continue
            try:
                blob = encode(entry)
            except Unstorable:
                self.metrics.dropped(self.name, entry.service)
                continue
            if chunk and (len(chunk) == CHUNK_KEYS or size + len(blob) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append((entry, life_ms, blob))
            size += len(blob)
        if chunk:
            yield chunk

    def delete(self, service: str | None = None, keys: Collection[str] | None = None) -> int:
        """Forget these keys, the whole service or everything of ours; 0 also when Redis cannot be reached.

        Raises `ValueError` for keys without a service.
        """
        if keys is not None:
            if service is None:
                raise ValueError("keys need a service")
            prefix = self._key(service, "")
            names: Iterable[Any] = [prefix + key for key in storable(keys)]
        else:
            names = self._scan(service or "", self._key(service, "*") if service else f"{KEY_PREFIX}:*")
        gone = 0
        for chunk in chunks(names, CHUNK_KEYS):
            unlink = partial(self._number, partial(self._client.unlink, *chunk))
            count = self._write(service or "", unlink)
            if count is None:
                break
            gone += count
        return gone

    @staticmethod
    def _number(command: Callable[[], Any]) -> int:
        number = command()
        if not isinstance(number, int):
            raise NotRedis
        return number

    def _page(self, cursor: int, pattern: str) -> tuple[int, list[Any]]:
        following, names = self._client.scan(cursor, match=pattern, count=CHUNK_KEYS)
        if not isinstance(following, int) or not isinstance(names, list):
            raise NotRedis
        if not all(isinstance(name, bytes) for name in names):
            raise NotRedis
        return following, names

    def _scan(self, service: str, pattern: str) -> Iterator[Any]:
        cursor = 0
        while True:
            page = self._call(service, partial(self._page, cursor, pattern))
            if page is None:
                return
            cursor, names = page
            yield from names
            if cursor == 0:
                return

    def status(self) -> RedisStatus:
        """Whether Redis answers, why not, and its memory; within the cooldown it is not asked again.

        That it does not is told to the caller alone, not logged as well.
        """
        memory = self._call("", self._memory, consequence=None)
        if memory is None:
            return RedisStatus(reachable=False, reason=self._last_reason, writable=False)
        writable = self._write_breaker.would_allow
        return RedisStatus(
            reachable=True,
            reason="" if writable else self._last_reason,
            writable=writable,
            used_memory=memory.get("used_memory"),
            maxmemory=memory.get("maxmemory"),
            eviction_policy=memory.get("maxmemory_policy"),
        )

    def _memory(self) -> dict[str, Any]:
        if self._client.ping() is not True:
            raise NotRedis
        try:
            memory: dict[str, Any] = self._client.info("memory")
        except redis.ResponseError:  # an access list may forbid INFO to a user who may read and write
            return {}
        return memory

    def close(self) -> None:
        """Close every pooled connection."""
        self._client.connection_pool.disconnect()

    def _key(self, service: str, key: str) -> str:
        return f"{KEY_PREFIX}:{versioned(service, self._versions)}:{key}"

    def _call(
        self,
        service: str,
        command: Callable[[], _T],
        *,
        consequence: str | None = "The cache goes on without Redis",
    ) -> _T | None:
        """The command's result; None when Redis is left alone or fails."""
        if not self._breaker.allows():
            return None
        try:
            result = command()
        except Exception as error:  # noqa: BLE001 (a peer that is not Redis makes its library raise anything)
            self._fault(self._breaker, service, error, consequence)
            return None
        if self._breaker.succeeded():
            _log.info("Redis answers again")
        return result

    def _write(self, service: str, command: Callable[[], _T]) -> _T | None:
        """Like `_call`, for commands that the server may refuse while it goes on answering reads."""
        if not self._write_breaker.allows():
            return None
        refusals: list[redis.ResponseError] = []

        def attempt() -> _T | None:
            try:
                return command()
            except redis.ResponseError as error:
                refusals.append(error)
                return None

        result = self._call(service, attempt)
        if refusals:
            self._fault(self._write_breaker, service, refusals[0], "Redis is only read, not written")
        elif result is not None and self._write_breaker.succeeded():
            _log.info("Redis takes writes again")
        return result

    def _fault(
        self, breaker: CircuitBreaker, service: str, error: BaseException, consequence: str | None
    ) -> None:
        self.metrics.failed(self.name, service)
        self._last_reason = reason(error)
        if breaker.failed() and consequence:
            _log.warning(
                "%s: %s. It is tried again every %.0f s.", consequence, self._last_reason, COOLDOWN_S
            )
