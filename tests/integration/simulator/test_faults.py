"""Faults happen on demand, to whom and as often as asked."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest
import requests

from cowrie_enrich_dagster.simulator import Fault, Limit, Simulator, TokenBucket
from tests.integration.simulator.conftest import Get

IP = "1.45.14.166"


def test_a_status_with_a_body(sim: Simulator, get: Get) -> None:
    """500 by default; any status, body and headers on request."""
    sim.set_fault("dshield", Fault(kind="reply"))
    assert get().status_code == 500
    sim.set_fault("dshield", Fault(kind="reply", status=418, body="[]", headers={"Retry-After": "soon"}))
    answer = get()
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (418, "[]", "soon")


def test_503_with_retry_after_in_both_forms(sim: Simulator, get: Get) -> None:
    """As seconds, and as the date that many seconds ahead."""
    sim.set_fault("dshield", Fault(kind="reply", status=503, retry_after_s=7))
    assert (get().status_code, get().headers["Retry-After"]) == (503, "7")
    sim.set_fault("dshield", Fault(kind="reply", status=503, retry_after_s=7, retry_after="date"))
    when = parsedate_to_datetime(get().headers["Retry-After"]).timestamp()
    assert 6.5 < when - time.time() <= 8


def test_slow_is_late_and_right(sim: Simulator, get: Get) -> None:
    """The proper answer after the delay; others are not held up meanwhile."""
    proper = get().content
    sim.set_fault("dshield", Fault(kind="slow", delay_s=0.3, key=IP))
    start = time.monotonic()
    assert get("8.8.8.8").status_code == 200
    assert time.monotonic() - start < 0.2
    assert get().content == proper
    assert time.monotonic() - start >= 0.3
    sim.set_fault("dshield", Fault(kind="slow", delay_s=5))
    with pytest.raises(requests.ReadTimeout):
        get(timeout=0.1)


def test_hang_never_answers(sim: Simulator, get: Get) -> None:
    """A caller's timeout ends it; without one, the connection closes unanswered after the delay."""
    sim.set_fault("dshield", Fault(kind="hang", delay_s=0.3))
    with pytest.raises(requests.ReadTimeout):
        get(timeout=0.1)
    with pytest.raises(requests.ConnectionError, match="without response"):
        get(timeout=5)
    assert [record.status for record in sim.requests()] == [None, None]


def test_reset_breaks_the_connection(sim: Simulator, get: Get) -> None:
    """TCP RST, not a polite end; the request is recorded all the same."""
    sim.set_fault("dshield", Fault(kind="reset", times=1))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        get()
    assert get().status_code == 200
    assert [(record.status, record.fault) for record in sim.requests()] == [(None, "reset"), (200, None)]


def test_html_with_status_200(sim: Simulator, get: Get) -> None:
    """What a proxy or captcha puts before an API."""
    sim.set_fault("dshield", Fault(kind="html"))
    answer = get()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


def test_truncated_json(sim: Simulator, get: Get) -> None:
    """Half of the proper body, as a complete HTTP response."""
    proper = get().content
    sim.set_fault("dshield", Fault(kind="truncated"))
    answer = get()
    assert answer.status_code == 200
    assert answer.content == proper[: len(proper) // 2]


def test_the_wrong_address_is_echoed(sim: Simulator, get: Get) -> None:
    """A proper answer about another address."""
    sim.set_fault("dshield", Fault(kind="wrong_key"))
    assert get().json()["ip"]["number"] == "192.0.2.1"


def test_a_huge_body(sim: Simulator, get: Get) -> None:
    """The proper answer, grown to the size asked for, and still JSON."""
    proper = get().json()
    sim.set_fault("dshield", Fault(kind="huge", size_bytes=3_000_000))
    answer = get()
    assert len(answer.content) > 3_000_000
    assert answer.json()["ip"] == proper["ip"]


def test_faults_by_key(sim: Simulator, get: Get) -> None:
    """Only the named key suffers; the first fault that applies wins."""
    sim.set_fault("dshield", Fault(kind="reply", status=500, key=IP), Fault(kind="reply", status=502))
    assert (get(IP).status_code, get("8.8.8.8").status_code) == (500, 502)


def test_faults_for_the_next_requests(sim: Simulator, get: Get) -> None:
    """Two requests fail, the third does not; then the next fault in the list has its turn."""
    sim.set_fault("dshield", Fault(kind="reply", times=2), Fault(kind="reply", status=503, times=1))
    assert [get().status_code for _ in range(4)] == [500, 500, 503, 200]


def test_faults_with_a_probability(sim: Simulator, get: Get) -> None:
    """About the share asked for, and the same requests on a rerun with the same seed."""

    def run(seed: int) -> list[int]:
        sim.set_fault("dshield", Fault(kind="reply", probability=0.3, seed=seed))
        return [get().status_code for _ in range(200)]

    first, again, other = run(1), run(1), run(2)
    assert first == again != other
    assert 35 <= first.count(500) <= 85


def test_no_faults_end_them(sim: Simulator, get: Get) -> None:
    """Setting none is the way back."""
    sim.set_fault("dshield", Fault(kind="reply"))
    sim.set_fault("dshield")
    assert get().status_code == 200


def test_a_faulty_answer_counts_and_a_refused_one_spends_no_fault(sim: Simulator, get: Get) -> None:
    """A 500 uses up its slot; a 429 is not also the fault that was due."""
    sim.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1, burst=2),)))
    sim.set_fault("dshield", Fault(kind="reply", times=2))
    assert [get().status_code for _ in range(3)] == [500, 500, 429]
    sim.set_fault("dshield", Fault(kind="reply", times=1))
    refused = get().status_code
    sim.set_limit("dshield", None)
    assert (refused, get().status_code) == (429, 500)
    assert [(r.status, r.fault, r.over_limit) for r in sim.requests()][-2:] == [
        (429, None, True),
        (500, "reply", False),
    ]
