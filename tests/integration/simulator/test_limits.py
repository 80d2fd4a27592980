"""Limits bind exactly, and say what they should over real HTTP."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from cowrie_enrich_dagster.simulator import FixedWindow, Limit, Simulator, TokenBucket
from cowrie_enrich_dagster.simulator.limits import Limiter
from tests.integration.simulator.conftest import Get

DAY = 86_400


def admitted(limit: Limit, times: list[float], wall_offset: float = 0.0) -> list[float]:
    """Those of `times` that the limit admits."""
    limiter = Limiter(limit, wall_offset)
    return [t for t in times if limiter.decide(t).admitted]


@given(
    gaps=st.lists(st.floats(0, 3), max_size=80),
    per_minute=st.sampled_from([20.0, 60.0, 300.0]),
    burst=st.integers(1, 5),
)
def test_a_token_bucket_is_strict(gaps: list[float], per_minute: float, burst: int) -> None:
    """It admits what a bucket that starts full and drips evenly has a whole token for, and nothing else."""
    limiter = Limiter(Limit(rules=(TokenBucket(per_minute=per_minute, burst=burst),)), 0.0)
    t, tokens = 0.0, float(burst)
    for gap in gaps:
        t += gap
        tokens = min(burst, tokens + gap * per_minute / 60)
        verdict = limiter.decide(t)
        if abs(tokens - 1) > 1e-4:
            assert verdict.admitted == (tokens > 1)
        if not verdict.admitted:
            assert verdict.wait_s == pytest.approx((1 - tokens) * 60 / per_minute, abs=1e-4)
        tokens -= verdict.admitted


def test_a_window_opens_with_a_request() -> None:
    """Two in ten seconds from the first; the next window waits for the next request."""
    limit = Limit(rules=(FixedWindow(limit=2, seconds=10),))
    assert admitted(limit, [3, 4, 5, 12.9, 13, 14, 15, 40, 49.9, 50]) == [3, 4, 13, 14, 40, 49.9, 50]


def test_a_window_may_follow_the_clock() -> None:
    """Windows open at multiples of their length by the wall clock, whatever the monotonic clock shows."""
    limit = Limit(rules=(FixedWindow(limit=2, seconds=10, align="clock"),))
    assert admitted(limit, [3, 4, 5, 9.9, 10, 11, 12, 19]) == [3, 4, 10, 11]
    assert admitted(limit, [3, 4, 5, 6, 7, 8], wall_offset=5.0) == [3, 4, 5, 6]


def test_a_day_quota_ends_at_midnight_utc() -> None:
    """A quota beside a rate: what one refuses, the other does not count."""
    rules = (TokenBucket(per_minute=60), FixedWindow(limit=3, seconds=DAY, align="clock"))
    midnight = 20_000 * DAY
    times = [midnight - 10, midnight - 9.5, midnight - 9, midnight - 8, midnight - 1, midnight, midnight + 1]
    assert admitted(Limit(rules=rules), times) == [times[0], times[2], times[3], midnight, midnight + 1]


def test_a_ban_outlasts_the_limit_and_is_not_prolonged() -> None:
    """One request too many closes the service for the ban, and knocking changes nothing."""
    limit = Limit(rules=(TokenBucket(per_minute=60),), ban_s=30)
    assert admitted(limit, [0, 0.5, 0.6, 2, 29, 30.4, 30.5]) == [0, 30.5]


def test_a_service_over_its_limit_refuses(sim: Simulator, get: Get) -> None:
    """Over real HTTP: 429 after the burst, with the wait in whole seconds, rounded up."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=20, burst=2),)))
    answers = [get() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[2].headers["Retry-After"] == "3"
    assert sim.over_limit("dshield") == 2


def test_a_limit_may_answer_401(sim: Simulator, get: Get) -> None:
    """As DShield has done."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1),), status=401))
    assert [get().status_code, get().status_code] == [200, 401]


def test_waiting_as_told_is_enough(sim: Simulator, get: Get) -> None:
    """A caller who waits for Retry-After is admitted."""
    sim.set_limit("dshield", Limit(rules=(FixedWindow(limit=1, seconds=0.9),)))
    assert get().status_code == 200
    time.sleep(int(get().headers["Retry-After"]))
    assert get().status_code == 200


def test_retry_after_as_a_date_is_never_early(sim: Simulator, get: Get) -> None:
    """The HTTP-date is the end of the wait, rounded up to its one second of resolution."""
    sim.set_limit("dshield", Limit(rules=(FixedWindow(limit=1, seconds=50),), retry_after="date"))
    first = time.time()
    get()
    when = parsedate_to_datetime(get().headers["Retry-After"]).timestamp()
    assert first + 50 - 0.01 <= when < time.time() + 51


def test_retry_after_may_be_absent(sim: Simulator, get: Get) -> None:
    """A bare 429."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1),), retry_after="absent"))
    get()
    assert "Retry-After" not in get().headers


def test_a_ban_is_told(sim: Simulator, get: Get) -> None:
    """The two hours of a ban are what Retry-After says."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=60),), ban_s=7200))
    get()
    assert get().headers["Retry-After"] == "7200"


def test_no_limit_headers_unless_the_vendor_sends_them(sim: Simulator, get: Get) -> None:
    """DShield tells nothing of its budget."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=60),)))
    assert not [name for name in get().headers if "ratelimit" in name.lower()]


def test_limit_headers_tell_the_tightest_rule(sim: Simulator, get: Get) -> None:
    """X-RateLimit-*: of a bucket of 5 and a window of 3, the window's budget; reset as Unix time."""
    rules = (TokenBucket(per_minute=60, burst=5), FixedWindow(limit=3, seconds=100))
    sim.set_limit("dshield", Limit(rules=rules, headers="x-ratelimit"))
    answers = [get() for _ in range(4)]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"3"}
    assert answers[-1].status_code == 429
    assert int(answers[0].headers["X-RateLimit-Reset"]) == pytest.approx(time.time() + 100, abs=2)


def test_limit_headers_in_the_ietf_form(sim: Simulator, get: Get) -> None:
    """RateLimit-*: reset as delay-seconds."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=30, burst=4),), headers="ratelimit"))
    headers = get().headers
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("4", "3")
    assert headers["RateLimit-Reset"] == "2"


def test_a_changed_limit_starts_afresh(sim: Simulator, get: Get) -> None:
    """A limit that halves midway: nothing of the new one is used; None lifts it."""
    sim.set_limit("dshield", Limit(rules=(FixedWindow(limit=2, seconds=60),)))
    before = [get().status_code for _ in range(3)]
    sim.set_limit("dshield", Limit(rules=(FixedWindow(limit=1, seconds=60),)))
    halved = [get().status_code for _ in range(2)]
    sim.set_limit("dshield", None)
    lifted = [get().status_code for _ in range(5)]
    assert (before, halved, lifted) == ([200, 200, 429], [200, 429], [200] * 5)


def test_a_limit_binds_in_real_time(sim: Simulator, get: Get) -> None:
    """Hammered for a second at 600/min, the service admits one at once and one every 100 ms."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=600),)))
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        get()
    records = sim.requests("dshield")
    times = [record.t for record in records if record.status == requests.codes.ok]
    assert min(b - a for a, b in pairwise(times)) > 0.1 - 1e-5
    assert len(times) >= 0.8 * math.ceil((records[-1].t - records[0].t) / 0.1)
    assert sim.over_limit("dshield") == len(records) - len(times) > 0
