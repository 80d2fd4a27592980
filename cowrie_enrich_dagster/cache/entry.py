"""One remembered answer, what may become one, and the bytes it travels to Redis in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import orjson

from cowrie_enrich_dagster.storage.json_text import from_json, to_json
from cowrie_enrich_dagster.vocabulary import LookupStatus

MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""The largest payload that is kept, serialised: no service here sends a tenth of it."""
MAX_KEY_BYTES = 1024
"""The longest key that is kept; PostgreSQL's index refuses rows from 2,704 bytes on."""
WIRE_VERSION = 1
CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of ours a writer's clock may be before its answers are held to be misdated."""

_SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_WIRE_OVERHEAD = 256


def is_fresh(fetched_at: datetime, expires_at: datetime, now: datetime) -> bool:
    """Whether an answer still counts: not expired, and not dated by a clock that runs ahead."""
    return now < expires_at and fetched_at <= now + CLOCK_SKEW


class Unstorable(ValueError):
    """This cannot be a cache entry. The message says why, without quoting the payload."""


class UndecodableEntry(Exception):
    """Stored bytes or columns that are not a cache entry. The message says why, without quoting them."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What one service said about one key.

    A FOUND entry has a payload with something in it, the service's own JSON object; a NOT_FOUND entry has
    None. Both moments are aware; `fetched_at` is when the service answered, never when a tier copied it.
    Raises `Unstorable` for anything else, so that no failure can be kept as if it were an answer.
    """

    service: str
    key: str
    status: LookupStatus
    payload: dict[str, Any] | None
    fetched_at: datetime
    expires_at: datetime

    def __post_init__(self) -> None:
        if not _is_service(self.service):
            raise Unstorable(f"not a service name: {self.service[:60]!r}")
        if not is_storable_key(self.key):
            raise Unstorable(f"not a key every tier can hold: {self.key[:60]!r}")
        if self.status is LookupStatus.FOUND:
            if not isinstance(self.payload, dict) or not self.payload:
                raise Unstorable("a found entry needs a JSON object with something in it")
        elif self.status is not LookupStatus.NOT_FOUND:
            raise Unstorable(f"status {str(self.status)!r} says nothing about the key and is never cached")
        elif self.payload is not None:
            raise Unstorable("a not_found entry has no payload")
        if self.fetched_at.tzinfo is None or self.expires_at.tzinfo is None:
            raise Unstorable("moments need a time zone")

    @classmethod
    def of_answer(
        cls,
        service: str,
        key: str,
        payload: Mapping[str, Any] | None,
        *,
        fetched_at: datetime,
        ttl: timedelta,
    ) -> CacheEntry:
        """The entry for a fresh answer: FOUND with its payload, or NOT_FOUND for None.

        The payload is what every tier will give back: without NUL characters and lone surrogates. Raises
        `Unstorable` when it is not JSON or is larger than `MAX_PAYLOAD_BYTES`.
        """
        status = LookupStatus.NOT_FOUND if payload is None else LookupStatus.FOUND
        clean = None if payload is None else from_json(payload_text(payload))
        return cls(service, key, status, clean, fetched_at, fetched_at + ttl)

    def is_fresh(self, now: datetime) -> bool:
        """Whether the answer still counts; see the function of this name."""
        return is_fresh(self.fetched_at, self.expires_at, now)

    def age(self, now: datetime) -> timedelta:
        """How long ago the service gave the answer."""
        return now - self.fetched_at


@lru_cache(maxsize=256)
def _is_service(name: str) -> bool:
    return _SERVICE.fullmatch(name) is not None


def is_storable_key(key: str) -> bool:
    """Whether every tier can hold `key` as it is: 1 to `MAX_KEY_BYTES` bytes of UTF-8 without NUL.

    PostgreSQL's text has no NUL and no lone surrogates. Such a key is refused rather than cleaned: cleaned,
    it would collide with another key and be given that key's answer.
    """
    if not 0 < len(key) <= MAX_KEY_BYTES or "\x00" in key:
        return False
    try:
        return key.isascii() or len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def are_plain_keys(keys: Collection[str]) -> bool:
    """Whether all are storable, and in ASCII as nearly all are: that is cheaper to see of all at once."""
    together, lengths = "".join(keys), set(map(len, keys))
    is_short = not lengths or 0 < min(lengths) <= max(lengths) <= MAX_KEY_BYTES
    return is_short and together.isascii() and "\x00" not in together


def payload_text(payload: Mapping[str, Any]) -> str:
    """The JSON text that every tier stores.

    Raises `Unstorable` when the payload is not JSON or is larger than `MAX_PAYLOAD_BYTES`.
    """
    try:
        text = to_json(payload)
    except (TypeError, ValueError, RecursionError):
        raise Unstorable("the payload is not JSON, or nested too deep") from None
    if len(text) > MAX_PAYLOAD_BYTES or len(text.encode()) > MAX_PAYLOAD_BYTES:
        raise Unstorable(f"the payload is larger than {MAX_PAYLOAD_BYTES} bytes")
    return text


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """The moment so many microseconds after 1970; raises `OverflowError` outside the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=number)


def encode(entry: CacheEntry) -> bytes:
    """`[version, fetched_at, expires_at, status, payload]` as compact JSON, moments in microseconds.

    Raises `Unstorable` like `payload_text`.
    """
    fetched, expires = microseconds(entry.fetched_at), microseconds(entry.expires_at)
    payload = "null" if entry.payload is None else payload_text(entry.payload)
    return f'[{WIRE_VERSION},{fetched},{expires},"{entry.status}",{payload}]'.encode()


def decode(service: str, key: str, blob: bytes) -> CacheEntry:
    """The entry that `encode` wrote; raises `UndecodableEntry` for any other bytes."""
    if len(blob) > MAX_PAYLOAD_BYTES + _WIRE_OVERHEAD:
        raise UndecodableEntry(f"{len(blob)} bytes")
    try:
        version, fetched, expires, status, payload = orjson.loads(blob)
        if version != WIRE_VERSION:
            raise UndecodableEntry("another wire version")
        return CacheEntry(
            service,
            key,
            LookupStatus(status),
            payload,
            from_microseconds(fetched),
            from_microseconds(expires),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise UndecodableEntry(type(error).__name__) from None
