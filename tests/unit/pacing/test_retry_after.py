"""Retry-After is read as RFC 9110 says, and nothing a server sends can break the reader."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.pacing import get_retry_after_seconds
from tests.unit.pacing.responses import response

NOW = datetime(1994, 11, 6, 8, 49, 7, 250_000, tzinfo=timezone.utc)


def asked(value: Any, date: str | None = None) -> int | None:
    headers = {"Retry-After": value} | ({"Date": date} if date else {})
    return get_retry_after_seconds(SimpleNamespace(headers=headers), now=lambda: NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("0", 0), (" 7 ", 7), ("\t7", 7), ("007", 7), (b"30", 30), (30, 30), ("3600", 3600)],
)
def test_delay_seconds_are_taken_as_they_are(value: Any, seconds: int) -> None:
    """A number of seconds, as text, bytes or number, is the wait."""
    assert asked(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_every_form_of_http_date_is_read_and_rounded_up(value: Any) -> None:
    """IMF-fixdate, RFC 850 and asctime dates 29.75 seconds ahead are waits of 30 seconds."""
    assert asked(value) == 30


def test_a_past_date_means_now() -> None:
    """A date that has gone by asks for no wait at all."""
    assert asked("Sun, 06 Nov 1994 08:49:06 GMT") == 0
    assert asked("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_a_date_is_counted_against_the_servers_own_clock() -> None:
    """With a Date header the wait is the difference of the two, however wrong the server's clock is."""
    assert asked("Tue, 01 Jan 2030 00:02:00 GMT", date="Tue, 01 Jan 2030 00:00:00 GMT") == 120
    assert asked("Tue, 01 Jan 1980 00:02:00 GMT", date="Tue, 01 Jan 1980 00:00:00 GMT") == 120
    assert asked("Sun, 06 Nov 1994 08:49:37 GMT", date="no date") == 30


def test_two_digit_years_follow_the_fifty_year_rule() -> None:
    """RFC 9110: a two-digit year more than 50 years ahead is one of the past century."""
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    soon = SimpleNamespace(headers={"Retry-After": "Friday, 01-Jan-27 00:00:00 GMT"})
    past = SimpleNamespace(headers={"Retry-After": "Sunday, 06-Nov-94 08:49:37 GMT"})
    assert get_retry_after_seconds(soon, now=lambda: now) == 365 * 86_400
    assert get_retry_after_seconds(past, now=lambda: now) == 0


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", "-1", "-120", "+5", "1.5", "1e3", "1_000", "0x10", "NaN", "inf", "soon", "5 seconds",
        "5, 10", "٣", "１２", "²", "\x00", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 25:00:00 GMT",
        "1994-11-06T08:49:37Z", -5, True, 1.5, object(), [], {}, b"\xff\xfe",
    ],
)  # fmt: skip
def test_anything_else_asks_for_nothing(value: Any) -> None:
    """Absent, negative and invalid values are None, not a number somebody would sleep for."""
    assert asked(value) is None


def test_a_number_too_large_to_mean_anything_is_bounded() -> None:
    """Ten thousand digits are 2**31 seconds, as RFC 9111 counts what it cannot represent."""
    assert asked("9" * 10_000) == 2**31
    assert asked(10**400) == 2**31


@pytest.mark.parametrize("form", ["{}", "{}000"])
@pytest.mark.parametrize(("ahead", "expected"), [(90, 90), (0, 0), (-3600, 0)])
def test_a_moment_since_1970_is_that_moment(form: str, ahead: int, expected: int) -> None:
    """Seconds or milliseconds; as a delay it would be 31 years and more. One in the past is 0."""
    now = datetime(2026, 5, 3, 12, tzinfo=timezone.utc)
    answer = SimpleNamespace(headers={"Retry-After": form.format(int(now.timestamp()) + ahead)})
    assert get_retry_after_seconds(answer, now=lambda: now) == expected


def test_the_header_is_found_whatever_its_case_and_the_kind_of_mapping() -> None:
    """requests' own mapping and a plain dict with lower-case or bytes keys all work."""
    assert get_retry_after_seconds(response(429, {"retry-after": "9"})) == 9
    assert get_retry_after_seconds(SimpleNamespace(headers={"RETRY-AFTER": "9"})) == 9
    assert get_retry_after_seconds(SimpleNamespace(headers={b"retry-after": b"9"})) == 9
    assert get_retry_after_seconds(requests.Response()) is None


class Hostile:
    @property
    def headers(self) -> Any:
        raise RuntimeError("no headers here")


@pytest.mark.parametrize("odd", [None, 0, "429", object(), Hostile(), SimpleNamespace(headers=None)])
def test_objects_that_are_no_responses_ask_for_nothing(odd: Any) -> None:
    """Whatever is handed in, the reader answers None instead of raising."""
    assert get_retry_after_seconds(odd) is None


headers_of_any_kind = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.none(),
    st.from_regex(r"[A-Za-z]{3,9}, [0-9]{1,2}[ -][A-Za-z]{3}[ -][0-9]{2,4} [0-9:]{1,8} ?(GMT)?"),
)


@settings(deadline=None)
@given(value=headers_of_any_kind, date=headers_of_any_kind)
def test_no_header_value_raises_or_yields_a_negative_wait(value: Any, date: Any) -> None:
    """Any value of Retry-After and Date gives None or a whole number of seconds from zero up."""
    odd = SimpleNamespace(headers={"Retry-After": value, "Date": date})
    seconds = get_retry_after_seconds(odd)
    assert seconds is None or (isinstance(seconds, int) and seconds >= 0)


@settings(deadline=None)
@given(ahead=st.integers(-10_000, 10_000_000), micros=st.integers(0, 999_999))
def test_a_wait_by_date_is_never_too_short(ahead: int, micros: int) -> None:
    """Whoever waits as long as the answer says arrives at or after the date the server named."""
    now = NOW.replace(microsecond=micros)
    moment = now.replace(microsecond=0) + timedelta(seconds=ahead)
    value = format_datetime(moment, usegmt=True)
    seconds = get_retry_after_seconds(response(429, {"Retry-After": value}), now=lambda: now)
    assert seconds == max(0, math.ceil((moment - now).total_seconds()))
