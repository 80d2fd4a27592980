"""Reading single values out of a service's JSON, whose types vary; what cannot be read is None."""

from __future__ import annotations

from datetime import date, datetime
from ipaddress import ip_network

MAX_AS_NUMBER = 2**32 - 1


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
    try:
        return datetime.strptime(stamp[:10], "%Y-%m-%d").date() if stamp else None
    except ValueError:
        return None
