"""What passes and what fails a check, at its threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

import pytest
from dagster import AssetCheckResult, AssetCheckSeverity

from cowrie_enrich_dagster.cache import CacheMetrics
from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.hit_rates import HitRates
from cowrie_enrich_dagster.enrichment.notices import Kind, Notices
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.vocabulary import Days


def joined(addresses: dict[str, int], sessions: dict[str, int]) -> JoinReport:
    return JoinReport(
        sessions=sum(sessions.values()),
        lookups={"dshield": Counter(addresses)},
        sessions_by_status={"dshield": Counter(sessions)},
    )


def of_rows(
    report: JoinReport, sessions: int | None = None, calls: Mapping[str, int] | None = None
) -> dict[str, AssetCheckResult]:
    cache = CacheMetrics().as_dict()
    spared = {
        service: report.without_call(service, (calls or {}).get(service, 0)) for service in report.lookups
    }
    results = checks.of_rows(report, report.sessions if sessions is None else sessions, cache, None, spared)
    return {str(result.check_name): result for result in results}


@pytest.mark.parametrize(("answered", "passes"), [(95, True), (94, False)])
def test_coverage_is_of_sessions_that_may_be_asked_about(answered: int, passes: bool) -> None:
    """95 % of the sessions whose turn has come; private addresses and what waits for a quota do not count."""
    report = joined(
        {"found": 1, "error": 1, "deferred": 1, "skipped_policy": 9},
        {"found": answered, "error": 100 - answered, "deferred": 500, "skipped_policy": 900},
    )
    assert of_rows(report)["coverage"].passed is passes


def without_call(*, keys: int, sessions: int, calls: int) -> AssetCheckResult:
    report = joined({"found": keys}, {"found": sessions})
    return of_rows(report, calls={"dshield": calls})["sessions_without_call"]


@pytest.mark.parametrize(("calls", "passes"), [(20, True), (21, False)])
def test_sessions_of_an_address_share_its_call(calls: int, passes: bool) -> None:
    """At least 80 % of the sessions with an answer cost none, where an address has five or more."""
    result = without_call(keys=20, sessions=100, calls=calls)
    assert result.passed is passes
    assert result.metadata["hit_rate"].value == 1 - calls / 100


def test_addresses_that_come_once_are_not_judged() -> None:
    """Each needs its own call: the share is told and fails nothing."""
    result = without_call(keys=21, sessions=100, calls=90)
    assert result.passed
    assert result.metadata["dshield"].value == 0.1


def test_without_answers_there_is_no_rate_to_judge() -> None:
    """Nothing was answered: no share is made up."""
    result = of_rows(joined({"deferred": 9}, {"deferred": 9}))["sessions_without_call"]
    assert result.passed
    assert result.metadata == {}


@pytest.mark.parametrize(
    ("expected", "answered", "passes"), [(10, 8, True), (100, 79, False), (5, 0, False), (0, 0, True)]
)
@pytest.mark.parametrize("check", ["cache_hit_rate", "l1_hit_rate"])
def test_a_hit_rate_is_of_what_should_be_there(
    check: str, expected: int, answered: int, passes: bool
) -> None:
    """80 % of what was paid for, or given to Redis; nothing expected fails nothing and claims no rate."""
    rates = HitRates(expected, answered, expected, answered)
    results = {r.check_name: r for r in checks.of_answers([], rates, redis_is_on=True)}
    result = results[check]
    assert (result.passed, result.metadata["expected"].value) == (passes, expected)
    assert ("hit_rate" in result.metadata) is bool(expected)
    off = {r.check_name: r for r in checks.of_answers([], rates, redis_is_on=False)}["l1_hit_rate"]
    assert off.passed
    assert off.metadata["redis"].value == "off"


@pytest.mark.parametrize(("hours", "passes"), [(25, True), (27, False)])
def test_a_silent_sensor_is_noticed(hours: int, passes: bool) -> None:
    """Whenever the rows were written last: it is the newest session that is old."""
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    result = checks.of_newest_session(now - timedelta(hours=hours), now)
    assert result.passed is passes
    assert result.metadata["age_hours"].value == hours


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
    results = checks.of_rows(joined({"found": 1}, {"found": 1}), 1, metrics.as_dict(), redis, {})
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
    failed = [
        result for result in checks.of_answers(parts, HitRates(), redis_is_on=False) if not result.passed
    ]
    assert [result.check_name for result in failed] == [check]
    assert {name: value.value for name, value in failed[0].metadata.items()} == {"dshield": 1, "greynoise": 0}


def test_failed_checks_of_severity_error_are_told_and_no_others() -> None:
    """What this project promises never to happen; a warning is not worth waking anybody."""
    told = []

    class Kept(Notices):
        def __init__(self) -> None: ...

        def put(self, kind: Kind, subject: str, text: str) -> None:
            told.append((kind, subject, text))

        def over(self, kind: Kind, subject: str) -> None:
            told.append((kind, subject, "over"))

        def deliver(self) -> None: ...

    report = joined({"found": 1, "error": 9}, {"found": 1, "error": 9})
    days = Days.parse("2025-11-01..2025-11-02")
    for sessions in (11, 10):
        results = of_rows(report, sessions=sessions)
        assert not results["coverage"].passed
        checks.tell_of_errors(results.values(), Kept(), days)
    of_days = "every_session_has_its_row, 2025-11-01..2025-11-02"
    assert told == [
        (Kind.CHECK_FAILED, of_days, f"{of_days}: sessions 11, enriched 10"),
        (Kind.CHECK_FAILED, of_days, "over"),
    ]
