"""The words every part of the project shares: lookup statuses, address scopes, what a lookup is about.

They are stored in the database as their values, so a rename is a migration.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from enum import Enum

Clock = Callable[[], datetime]
"""Gives the current moment as an aware UTC datetime; injected so that tests own the time."""


def utc_now() -> datetime:
    """The wall clock, aware and in UTC."""
    return datetime.now(timezone.utc)


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class LookupStatus(_Word):
    """How a lookup of one key at one service ended.

    Only `FOUND` and `NOT_FOUND` are knowledge about the key; every other status says something about us or
    the service, and is never cached: "we were limited" must not be mistaken for "the address is clean".
    """

    FOUND = "found"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    AUTH_FAILED = "auth_failed"
    ERROR = "error"
    INVALID_RESPONSE = "invalid_response"
    SKIPPED_NO_KEY = "skipped_no_key"
    SKIPPED_POLICY = "skipped_policy"
    DEFERRED = "deferred"

    @property
    def is_answer(self) -> bool:
        """Whether the service told us something about the key (and so it may be cached)."""
        return self in (LookupStatus.FOUND, LookupStatus.NOT_FOUND)


class Scope(_Word):
    """Whether an address may be sent to third parties: only `GLOBAL` ones are; the others say why not."""

    GLOBAL = "global"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    RESERVED = "reserved"
    OWN = "own"
    INVALID = "invalid"


class Subject(_Word):
    """What the keys of a service are."""

    IP = "ip"
    FILE_SHA256 = "file_sha256"
    PASSWORD_SHA1_PREFIX = "password_sha1_prefix"  # noqa: S105 (the name of a kind of key, not a password)
