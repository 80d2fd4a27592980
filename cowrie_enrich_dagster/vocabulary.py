"""The words every part of the project shares: lookup statuses, address scopes, what a lookup is about.

They are stored in the database as their values, so a rename is a migration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2100, 12, 31)
"""The UTC days that events are accepted of."""

Clock = Callable[[], datetime]
"""Gives the current moment as an aware UTC datetime; injected so that tests own the time."""

Progress = Callable[[str, int, int], None]
"""Called with what is worked on (`"logs"`, a service), how much of it is done and how much there is, every
few seconds: `progress("dshield", 120, 3000)`."""

NEWS: Mapping[str, bool] = {"is_news": True}
"""The `extra` of a log record that is shown wherever warnings are, though nobody has to heed it."""


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


@dataclass(frozen=True)
class Days:
    """A range of UTC days, both ends included."""

    first: date
    last: date

    @classmethod
    def parse(cls, text: str) -> Days:
        """Read `2025-11-01` or `2025-11-01..2025-11-03`; raises `ValueError` saying what is expected."""
        first, dots, last = text.partition("..")
        try:
            days = cls(date.fromisoformat(first), date.fromisoformat(last if dots else first))
        except ValueError:
            raise ValueError(f"{text!r} is not a day (YYYY-MM-DD) or a range (A..B)") from None
        if days.last < days.first:
            raise ValueError(f"{text!r} ends before it begins")
        if days.first < FIRST_DAY or days.last > LAST_DAY:
            raise ValueError(f"{text!r} has days that are not from {FIRST_DAY} to {LAST_DAY}")
        return days

    @classmethod
    def stretches(cls, days: Iterable[date]) -> list[Days]:
        """Some days as ranges of those that follow one another, the oldest first."""
        found: list[Days] = []
        for day in sorted(set(days)):
            if found and found[-1].last + timedelta(days=1) == day:
                found[-1] = cls(found[-1].first, day)
            else:
                found.append(cls(day, day))
        return found

    @property
    def ends(self) -> tuple[date, date]:
        """The first and the last of them."""
        return self.first, self.last

    def __iter__(self) -> Iterator[date]:
        for offset in range((self.last - self.first).days + 1):
            yield self.first + timedelta(days=offset)

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"


WANTED_GROUPS: Mapping[str, tuple[str, ...]] = {
    "network": ("source_as_number", "source_as_organization_name"),
    "country": ("source_geo_country_iso_code",),
    "scanner": ("source_is_scanner",),
    "tor": ("source_is_tor",),
    "reputation": (
        "source_is_proxy", "source_is_vpn", "source_abuse_score", "source_classification", "source_reports",
    ),
    "files": ("file_malicious", "file_label"),
    "passwords": ("passwords_breached", "passwords_novel"),
}  # fmt: skip
"""The columns of `enriched_sessions` that services fill, by what ENRICH_WANT calls them."""
