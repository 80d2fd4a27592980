"""Reading single values out of a service's JSON, whose types vary; what cannot be read is None."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

MAX_AS_NUMBER = 2**32 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def text(value: object) -> str | None:
    """A string that says something, trimmed and without the NULs that PostgreSQL refuses."""
    if not isinstance(value, str):
        return None
    return value.replace("\0", "").strip() or None


def whole(value: object) -> int | None:
    """A whole number of 0 or more, given as a number or as decimal digits; a bool is none."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value) if len(value) < 20 else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def flag(value: object) -> bool | None:
    """A bool; nothing else passes for one."""
    return value if isinstance(value, bool) else None


def obj(value: object) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in a JSON array; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def address(value: object) -> IPv4Address | IPv6Address | None:
    """An IP address in text, however it is spelt; one with a zone, which may be any text, is none."""
    spelt = text(value)
    try:
        return ip_address(spelt) if spelt and "%" not in spelt else None
    except ValueError:
        return None


def as_number(value: object) -> int | None:
    """An autonomous system's number (RFC 6793), with or without the letters `AS` before it."""
    if isinstance(value, str):
        value = value.strip().upper().removeprefix("AS")
    number = whole(value)
    return number if number and number <= MAX_AS_NUMBER else None


def country(value: object) -> str | None:
    """A country's two letters (ISO 3166-1 alpha-2), in upper case."""
    code = text(value)
    return code.upper() if code and len(code) == 2 and code.isascii() and code.isalpha() else None


def network(value: object) -> str | None:
    """A network in CIDR notation, host bits cleared."""
    cidr = text(value)
    try:
        return str(ip_network(cidr, strict=False)) if cidr and "/" in cidr else None
    except ValueError:
        return None


def day(value: object) -> date | None:
    """The day of a date or timestamp that begins with `YYYY-MM-DD`."""
    stamp = text(value)
    return _day(stamp[:10]) if stamp else None


@lru_cache(maxsize=4096)
def _day(stamp: str) -> date | None:
    try:
        return datetime.strptime(stamp, "%Y-%m-%d").date()
    except ValueError:
        return None


def epoch_day(value: object) -> date | None:
    """The UTC day of a moment in whole seconds since 1970."""
    seconds = whole(value)
    try:
        return None if seconds is None else (_EPOCH + timedelta(seconds=seconds)).date()
    except OverflowError:
        return None
