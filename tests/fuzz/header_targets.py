"""Retry-After and the quota headers of a response, and what the limiter makes of them.

An input is header lines, as HTTP has them.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from random import Random
from types import SimpleNamespace

import orjson
from requests.structures import CaseInsensitiveDict

from cowrie_enrich_dagster.pacing import Policy, get_retry_after_seconds
from cowrie_enrich_dagster.pacing.feedback import RETRY_GUARD_S, observe
from cowrie_enrich_dagster.pacing.gcra import decide
from cowrie_enrich_dagster.pacing.model import MAX_HOLD_S, WINDOW_SECONDS, Grant, Observation, State
from cowrie_enrich_dagster.pacing.quota_headers import header_quotas
from tests.fuzz.mutate import bytes_mutated
from tests.fuzz.target import Seeds, Target

NOW = datetime(2025, 11, 3, 12, tzinfo=timezone.utc)
POLICIES = (
    Policy("one", 1.0, windows={"day": 1000}, auth_statuses=frozenset({401, 403})),
    Policy("two", 4 / 60, burst=3, windows={"minute": 4, "day": 500, "month": 9000}),
    Policy("three", 50.0, limit_statuses=frozenset({204, 429}), respect_retry_after=False),
)
STATUSES = (200, 204, 401, 403, 429, 500, 503)
_LONGEST_WAIT_S = max(MAX_HOLD_S + RETRY_GUARD_S, *WINDOW_SECONDS.values()) + 90
_WORDS = (
    b"Retry-After: ", b"Date: ", b"RateLimit: ", b"RateLimit-Policy: ", b"X-RateLimit-Limit: ", b"-Minute",
    b"-Day", b"X-RateLimit-Remaining: ", b"X-RateLimit-Reset: ", b"x-rate-limit-remaining-month: ", b"\r\n",
    b"0", b"-1", b"120", b"1e3", b"9" * 20, b"9" * 999, b"1762171200", b"1762171200000", b"999999999999999",
    b"0.000000001", b"Mon, 03 Nov 2025 12:02:00 GMT", b"Monday, 03-Nov-25 12:02:00 GMT",
    b"Mon Nov  3 12:02:00 2025", b" GMT", b"Fri, 31 Dec 9999 23:59:60 GMT", b"Sat, 01 Jan 0001 00:00:00 GMT",
    b"Mon, 31 Feb 2025 24:61:61 -0000", b"2025-11-03T12:02:00Z", b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59", b"2025-W45-1", b"20251103", b'"default";r=50;t=30',
    b'"a";q=100;w=60, "b";q=9;w=2592000', b"limit=100, remaining=0, reset=5", b";r=0;t=", b"=", b";", b",",
    b'"', b"\xb2", b"\xd9\xa3", b"\0", b"\t" * 600, b" " * 900, b";" * 60, b"r=0,r=0,", b"NaN", b"inf",
)  # fmt: skip


def check_headers(data: bytes) -> Counter[str]:
    """Figures from zero up or none at all, and no wait that is longer than a month."""
    lines = (line.partition(":") for line in data.decode("latin-1").split("\r\n"))
    headers = CaseInsensitiveDict({name: value.strip() for name, _, value in lines})
    asked = get_retry_after_seconds(SimpleNamespace(headers=headers), now=lambda: NOW)
    assert asked is None or (type(asked) is int and asked >= 0)
    quotas = header_quotas(headers, now=lambda: NOW)
    for quota in quotas:
        assert quota.window is None or quota.window in (*WINDOW_SECONDS, "second", "hour", "other")
        assert quota.limit is None or 0 <= quota.limit < 2**53
        assert 0 <= quota.remaining < 2**53
        assert quota.reset_s is None or 0 <= quota.reset_s < float("inf")
    if asked is not None or quotas:
        for policy in POLICIES:
            for status in STATUSES:
                _check_state(policy, Observation(NOW.timestamp(), 7, status, asked, quotas))
    return Counter({"retry-after": asked is not None, "quotas": len(quotas)})


def _check_state(policy: Policy, seen: Observation) -> None:
    now = seen.sent_at
    granted, _ = decide(State(policy.service, requests_total=6), policy, now)
    state = observe(granted, policy, now, seen)
    held = (state.cooldown_until, state.penalty_until, state.credential_blocked_until)
    assert all(0 <= until <= now + MAX_HOLD_S for until in held)
    for window in state.windows.values():
        assert window.used >= 0
        assert now <= window.resets_at <= now + MAX_HOLD_S
        orjson.dumps(window)
    _, decision = decide(state, policy, now)
    assert isinstance(decision, Grant) or 0 < decision.seconds <= _LONGEST_WAIT_S


def _headers(rng: Random, seeds: Seeds) -> bytes:
    data = b"\r\n".join(rng.choice(seeds) for _ in range(rng.choice((1, 1, 1, 2))))
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.5:
            start = rng.randrange(len(data) + 1)
            end = start + rng.choice((0, 0, 1, 4, 20))
            data = data[:start] + rng.choice(_WORDS) + data[end:]
        else:
            data = bytes_mutated(rng, data, seeds)
    return data[:20_000]


TARGETS = (Target("headers", "headers", 50, check_headers, _headers),)
