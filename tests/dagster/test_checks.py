"""What passes and what fails a check, at its threshold."""

from __future__ import annotations

from collections import Counter

import pytest
from dagster import AssetCheckResult, AssetCheckSeverity

from cowrie_enrich_dagster.cache import CacheMetrics
from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.join import JoinReport


def joined(addresses: dict[str, int], sessions: dict[str, int]) -> JoinReport:
    return JoinReport(
        sessions=sum(sessions.values()),
        lookups={"dshield": Counter(addresses)},
        sessions_by_status={"dshield": Counter(sessions)},
    )


def of_rows(report: JoinReport, sessions: int | None = None) -> dict[str, AssetCheckResult]:
    cache = CacheMetrics().as_dict()
    results = checks.of_rows(report, report.sessions if sessions is None else sessions, cache, None)
    return {str(result.check_name): result for result in results}


@pytest.mark.parametrize(("answered", "passes"), [(95, True), (94, False)])
def test_coverage_is_of_sessions_that_may_be_asked_about(answered: int, passes: bool) -> None:
    """95 % of the sessions whose turn has come: neither private addresses nor those still to wait count."""
    report = joined(
        {"found": 1, "unavailable": 1, "deferred": 5, "skipped_policy": 9},
        {"found": answered, "unavailable": 100 - answered, "deferred": 500, "skipped_policy": 900},
    )
    assert of_rows(report)["coverage"].passed is passes


@pytest.mark.parametrize(("answered", "passes"), [(81, True), (80, False)])
def test_repeats_come_from_the_cache(answered: int, passes: bool) -> None:
    """More than 80 % of the sessions after an address's first have its answer."""
    report = joined({"found": 10, "deferred": 10}, {"found": 10 + answered, "deferred": 110 - answered})
    assert of_rows(report)["repeats_from_cache"].passed is passes


def test_without_repeats_there_is_no_rate_to_judge() -> None:
    """A day on which every address came once passes, whatever became of them."""
    result = of_rows(joined({"found": 1, "deferred": 9}, {"found": 1, "deferred": 9}))["repeats_from_cache"]
    assert result.passed
    assert result.metadata["dshield"].value == "–"


def test_a_service_that_we_have_no_key_for_is_not_missed() -> None:
    """It is not asked, so it covers nothing and fails nothing."""
    assert of_rows(joined({"skipped_no_key": 5}, {"skipped_no_key": 50}))["coverage"].passed


def test_a_missing_row_is_an_error() -> None:
    """Every session has its row: one less is our fault."""
    result = of_rows(joined({"found": 1}, {"found": 10}), sessions=11)["every_session_has_its_row"]
    assert not result.passed
    assert result.severity is AssetCheckSeverity.ERROR


@pytest.mark.parametrize(("milliseconds", "passes"), [(0.5, True), (2.0, False)])
def test_l1_is_to_answer_within_a_millisecond(milliseconds: float, passes: bool, redis_port: int) -> None:
    """The median per key, measured where the rows are put together."""
    metrics = CacheMetrics()
    metrics.looked_up("redis", "dshield", hits=100, misses=0, seconds=0.1 * milliseconds)
    redis = checks.RedisCache(port=redis_port)
    results = checks.of_rows(joined({"found": 1}, {"found": 1}), 1, metrics.as_dict(), redis)
    assert {str(r.check_name): r.passed for r in results}["l1_latency"] is passes
    redis.close()


@pytest.mark.parametrize(
    ("status", "check"), [("rate_limited", "no_rate_limit_failures"), ("invalid_response", "answers_valid")]
)
def test_one_bad_answer_is_enough_to_be_told(status: str, check: str) -> None:
    """The tolerance is 0, and the count is named by service."""
    parts = [
        FetchReport("dshield", statuses=Counter({"found": 99, status: 1})),
        FetchReport("greynoise", statuses=Counter({"found": 5})),
    ]
    failed = [result for result in checks.of_answers(parts) if not result.passed]
    assert [result.check_name for result in failed] == [check]
    assert {name: value.value for name, value in failed[0].metadata.items()} == {"dshield": 1, "greynoise": 0}
