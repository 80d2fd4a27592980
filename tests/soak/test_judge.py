"""The judge sees every kind of violation, and nothing where there is none; a short soak under it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cowrie_enrich_dagster.simulator import Limit, RequestRecord, TokenBucket
from tests import warm
from tests.soak import __main__ as harness
from tests.soak import crew, judge
from tests.soak.chaos import Stop
from tests.soak.crew import Ending, Kill

ASKED = RequestRecord(
    t=100.0,
    wall=0.0,
    service="dshield",
    keys=("11.0.0.1",),
    status=200,
    over_limit=False,
    fault=None,
    method="GET",
    path="/ip/11.0.0.1?json",
    user_agent="",
    client_port=40_000,
)


def later(seconds: float, **changes: object) -> RequestRecord:
    return replace(ASKED, t=ASKED.t + seconds, client_port=50_000, **changes)  # type: ignore[arg-type]


def test_a_refused_request_is_over_the_limit() -> None:
    """By the server's own word; a fault with the same status is none."""
    assert judge.over_limit([ASKED, later(1, status=429, fault="reply")]) == []
    assert len(judge.over_limit([ASKED, later(1, status=429, over_limit=True)])) == 1


def test_an_answered_key_is_not_asked_again() -> None:
    """Not after an answer, also not after a slow one or "not found"."""
    for first in (ASKED, replace(ASKED, fault="slow"), replace(ASKED, status=404)):
        assert len(judge.asked_again([first, later(5)], [])) == 1
    assert judge.asked_again([ASKED, later(5, keys=("11.0.0.2",)), later(6, service="spur")], []) == []


def test_a_key_without_an_answer_is_asked_again() -> None:
    """After a fault or a limit; a third time after that is one too many."""
    for first in (
        replace(ASKED, status=None, fault="reset"),
        replace(ASKED, fault="html"),
        replace(ASKED, status=429, over_limit=True),
        replace(ASKED, status=503, fault="reply"),
    ):
        assert judge.asked_again([first, later(5)], []) == []
        assert len(judge.asked_again([first, later(5), later(9)], [])) == 1


def test_an_answer_that_died_with_its_worker_is_excused() -> None:
    """Only that of the worker that was killed, and only of the moment before."""
    killed = Kill(101.0, frozenset({40_000}))
    assert judge.asked_again([ASKED, later(25)], [killed]) == []
    assert judge.excused([ASKED, later(25)], [killed]) == 1
    for other in (
        replace(killed, ports=frozenset({40_001})),
        replace(killed, t=99.0),
        replace(killed, t=180.0),
    ):
        assert len(judge.asked_again([ASKED, later(25)], [other])) == 1
        assert judge.excused([ASKED, later(25)], [other]) == 0


def test_a_request_inside_a_retry_after_is_seen() -> None:
    """Of that service; what was on its way when the service spoke is not meant."""
    told, stop = later(1, status=429, fault="reply"), Stop(100.5, "dshield", 3.0)
    fine = [ASKED, told, later(1.1), later(4.1), later(2, service="spur")]
    assert judge.asked_in_a_stop(fine, [stop]) == []
    assert len(judge.asked_in_a_stop([*fine, later(2)], [stop])) == 1


def test_a_worker_may_fail_in_an_outage_only() -> None:
    """Exit 1 while the database is away, or just after; never without a cause."""
    failed = Ending(50.0, "run", 1, "error")
    assert judge.failed_workers([failed, replace(failed, t=9.0, exit_code=0)], [(48.0, 49.0)]) == []
    assert len(judge.failed_workers([failed], [(40.0, 41.0), (60.0, 61.0)])) == 1


def test_rows_must_be_those_of_an_undisturbed_run() -> None:
    """Missing, too many, or different in one column."""
    rows = {1: {"a": 1}, 2: {"a": 2}}
    assert judge.differences(rows, rows) == []
    assert judge.differences({1: {"a": 1}, 3: {"a": 3}}, rows) == ["missing: 2", "too many: 3"]
    assert judge.differences({1: {"a": 1}, 2: {"a": None}}, rows) == ["2 a: None instead of 2"]


def start_warm(environment: Mapping[str, str], *arguments: str, **options: Any) -> warm.Process:
    """As `crew.start`, without the imports."""
    return warm.Process(*warm.CLI, *arguments, "--json", env={**os.environ, **environment}, **options)


@pytest.mark.timeout(600)
def test_a_short_soak_keeps_every_invariant(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault of each kind. A request may be late by one turn here; `make soak` grants none.

    A worker is killed first: the minute for which its keys are held is over when the last run asks.
    """
    monkeypatch.setattr(crew, "start", start_warm)
    rates = {  # VirusTotal's is too slow for a test, and so are two a second
        name: max(rate, 4.0) if rate >= 1 else rate
        for name, rate in harness.RATES.items()
        if name != "virustotal"
    }
    limits = {
        name: Limit(rules=(TokenBucket(per_minute=60 * rate, burst=2),)) for name, rate in rates.items()
    }
    monkeypatch.setattr(harness, "RATES", rates)
    monkeypatch.setattr(harness, "DAY_S", 8.0)
    monkeypatch.setattr(harness, "SESSIONS_A_DAY", 120)
    monkeypatch.setattr(harness, "WORKERS", 2)
    monkeypatch.setattr(harness, "limits", lambda: limits)
    figures = harness.soak(1, 14, Console(stderr=True))
    assert [found for found in figures["violations"].values() if found] == []
    assert set(figures["faults"].values()) == {1}
    assert len(figures["faults"]) == 8
    assert figures["sessions"] >= 400
    assert set(figures["requests"]) == set(rates)
