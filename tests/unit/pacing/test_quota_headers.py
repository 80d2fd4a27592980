"""Quota headers are understood in every dialect, and odd ones do no harm."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowrie_enrich_dagster.pacing.model import HeaderQuota
from cowrie_enrich_dagster.pacing.quota_headers import header_quotas

NOW = datetime(2026, 5, 3, 12, 0, 0, tzinfo=timezone.utc)
EPOCH = int(NOW.timestamp())


def quotas(headers: dict[str, str]) -> tuple[HeaderQuota, ...]:
    return header_quotas(headers, now=lambda: NOW)


@pytest.mark.parametrize("prefix", ["X-RateLimit", "x-ratelimit", "X-Rate-Limit", "RateLimit"])
def test_the_three_plain_fields(prefix: str) -> None:
    """Limit, Remaining and Reset under every common prefix."""
    headers = {f"{prefix}-Limit": "1000", f"{prefix}-Remaining": "7", f"{prefix}-Reset": "30"}
    assert quotas(headers) == (HeaderQuota(None, 1000, 7, 30.0),)


@pytest.mark.parametrize(
    "reset",
    [
        "90", str(EPOCH + 90), str((EPOCH + 90) * 1000), f"{EPOCH + 90}.0", "Sun, 03 May 2026 12:01:30 GMT",
        "2026-05-03T12:01:30Z", "2026-05-03T12:01:30+00:00", "2026-05-03T12:01:30",
    ],
)  # fmt: skip
def test_a_reset_may_be_a_duration_an_epoch_or_a_date(reset: str) -> None:
    """Seconds to go, epoch seconds and milliseconds, HTTP and ISO dates all mean 90 seconds here."""
    assert quotas({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset})[0].reset_s == 90


def test_a_moment_is_counted_against_the_servers_clock() -> None:
    """With a Date header an hour off, the reset is still 90 seconds away."""
    headers = {
        "Date": "Sun, 03 May 2026 13:00:00 GMT",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(EPOCH + 3600 + 90),
    }
    assert quotas(headers)[0].reset_s == 90


def test_windows_named_in_the_field() -> None:
    """Several windows at once, each with its name behind the field."""
    headers = {
        "X-RateLimit-Limit-Minute": "4",
        "X-RateLimit-Remaining-Minute": "3",
        "X-RateLimit-Limit-Day": "500",
        "X-RateLimit-Remaining-Day": "0",
        "X-RateLimit-Reset-Day": "43200",
    }
    assert quotas(headers) == (HeaderQuota("minute", 4, 3, None), HeaderQuota("day", 500, 0, 43_200.0))


def test_the_drafts_combined_field() -> None:
    """draft-ietf-httpapi-ratelimit-headers-07: one field with limit, remaining and reset."""
    assert quotas({"RateLimit": "limit=100, remaining=50, reset=5"}) == (HeaderQuota(None, 100, 50, 5.0),)


def test_the_drafts_structured_field() -> None:
    """Draft 08 and later: items by policy name, whose window's length says which window it is."""
    headers = {
        "RateLimit-Policy": '"burst";q=100;w=60,"daily";q=1000;w=86400,"weekly";q=9;w=604800',
        "RateLimit": '"daily";r=0;t=43200, "burst";r=99;t=30, "weekly";r=8',
    }
    assert quotas(headers) == (
        HeaderQuota("day", 1000, 0, 43_200.0),
        HeaderQuota("minute", 100, 99, 30.0),
        HeaderQuota("other", 9, 8, None),
    )
    assert quotas({"RateLimit": '"default";r=0;t=30'}) == (HeaderQuota(None, None, 0, 30.0),)


def test_a_limit_with_its_policy_behind_it() -> None:
    """Draft 00 to 06 put the policies behind the limit: the first number is the limit."""
    headers = {"RateLimit-Limit": "10, 10;w=1, 50;w=60", "RateLimit-Remaining": "9", "RateLimit-Reset": "1"}
    assert quotas(headers) == (HeaderQuota(None, 10, 9, 1.0),)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"X-RateLimit-Limit": "100"}, {"X-RateLimit-Remaining": "many"}, {"X-RateLimit-Remaining": "-1"},
        {"X-RateLimit-Remaining": ""}, {"X-RateLimit-Remaining": "٣"}, {"RateLimit": "=;=,;r=x"},
        {"RateLimit": '"default";t=30'}, {"X-RateLimit-Remaining": "9" * 400},
        {"RateLimit-Policy": '"a";q=1'},
    ],
)  # fmt: skip
def test_no_remainder_no_quota(headers: dict[str, str]) -> None:
    """Headers that do not say how much is left say nothing we could act on."""
    assert quotas(headers) == ()


names = st.sampled_from(
    [
        "RateLimit",
        "RateLimit-Policy",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "Date",
    ]
)
values = st.one_of(
    st.text(), st.from_regex(r'"?[a-z]{0,3}"?(;[rtqw]=[0-9]{0,20}){0,4}(, .*)?'), st.integers().map(str)
)


@settings(deadline=None)
@given(st.dictionaries(names, values))
def test_no_header_raises_or_names_a_negative_figure(headers: dict[str, str]) -> None:
    """Whatever a server sends, what is read are figures from zero up."""
    for quota in header_quotas(headers):
        assert quota.remaining >= 0
        assert quota.reset_s is None or quota.reset_s >= 0
