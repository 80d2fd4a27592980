"""The Retry-After header of RFC 9110 section 10.2.3, read so that nothing a server sends can break us."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from cowrie_enrich_dagster.vocabulary import Clock, utc_now

MAX_DELTA_SECONDS = 2**31
"""What a delta too large to represent counts as (RFC 9111 section 1.2.2)."""

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAY, _MONTH, _TIME = (
    r"(?P<day>[ 0-9]?[0-9])",
    r"(?P<month>[a-z]{3})",
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})",
)
_DATE_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"[a-z]+, {_DAY} {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} (?:GMT|UTC|[+-]0000)",  # IMF-fixdate
        rf"[a-z]+, {_DAY}-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} (?:GMT|UTC)",  # RFC 850
        rf"[a-z]{{3}} {_MONTH} {_DAY} {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)


def get_retry_after_seconds(response: Any, *, now: Clock = utc_now) -> int | None:
    """How many whole seconds a response asks us to wait, rounded up; None where it asks for nothing.

    Reads delay-seconds and the three forms of HTTP-date (RFC 9110 section 5.6.7), and, though no standard has
    it, a moment in seconds or milliseconds since 1970: as a delay that would be 31 years. A moment is counted
    against the response's own Date header where there is one, for the server's clock may differ from ours,
    else against `now`; one in the past is 0. Absent, invalid and negative values are None. Never raises,
    whatever object it is given.
    """
    value = header_text(response, "Retry-After")
    moment = parse_epoch(value) or parse_http_date(value, now)
    if moment is None and (seconds := parse_delta_seconds(value)) is not None:
        return seconds
    if moment is None:
        return None
    sent = parse_http_date(header_text(response, "Date"), now) or now()
    return max(0, math.ceil((moment - sent).total_seconds()))


def header_text(response: Any, name: str) -> str:
    """The text of one header field of a response of any library, without surrounding space; "" for none."""
    try:
        headers = response.headers
        value = headers.get(name)
        if value is None:
            matches = (headers[key] for key in headers if as_text(key).lower() == name.lower())
            value = next(matches, None)
        return as_text(value)
    except Exception:  # noqa: BLE001 (whatever a foreign object does, it holds no header we can read)
        return ""


def as_text(value: Any) -> str:
    """A header's name or value as text: bytes are Latin-1 (RFC 9110 section 5.5), numbers are written out."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("latin-1")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(max(-1, min(value, MAX_DELTA_SECONDS)))
    return value.strip(" \t\r\n") if isinstance(value, str) else ""


def parse_delta_seconds(text: str) -> int | None:
    """`1*DIGIT` as a number (ASCII digits only), at most `MAX_DELTA_SECONDS`; None for anything else."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return MAX_DELTA_SECONDS if len(digits) > 10 else min(int(digits), MAX_DELTA_SECONDS)


def parse_epoch(text: str) -> datetime | None:
    """A moment as 10 digits of seconds or 13 of milliseconds since 1970, before 2038; None for all else."""
    if not re.fullmatch(r"[1-9][0-9]{9}(?:[0-9]{3})?", text, re.ASCII):
        return None
    seconds = int(text[:10])
    return datetime.fromtimestamp(seconds, timezone.utc) if seconds < MAX_DELTA_SECONDS else None


def parse_http_date(text: str, now: Clock = utc_now) -> datetime | None:
    """An HTTP-date in any of its three forms; None for anything else.

    A two-digit year that would lie more than 50 years ahead of `now` means the past century.
    """
    match = next(filter(None, (form.fullmatch(text) for form in _DATE_FORMS)), None)
    if match is None:
        return None
    part = match.groupdict()
    year, second = int(part["year"]), int(part["second"])
    if len(part["year"]) == 2:
        this_year = now().year
        year += this_year - this_year % 100
        year -= 100 if year > this_year + 50 else 0
    try:
        moment = datetime(
            year,
            _MONTHS.split().index(part["month"].lower()) + 1,
            int(part["day"]),
            int(part["hour"]),
            int(part["minute"]),
            min(second, 59),
            tzinfo=timezone.utc,
        )
        return moment + timedelta(seconds=second - 59) if second == 60 else moment
    except (ValueError, OverflowError):
        return None
