"""Asset checks of the enrichment: what each demands, how bad its failure is, and how it is decided.

A failed check never fails a run: the rows are there and say what is missing. ERROR is kept for what this
project promises never happens; WARN is for what outsiders do, or what the next run mends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec

from cowrie_enrich_dagster.cache import RedisCache
from cowrie_enrich_dagster.defs.metadata import escape
from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.hit_rates import (
    MIN_SESSIONS_AN_ADDRESS,
    HitRates,
    SessionsWithoutCall,
)
from cowrie_enrich_dagster.enrichment.notices import MAX_SILENCE, Notices, tell_of_check
from cowrie_enrich_dagster.lookups.source import FetchReport
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus

MIN_COVERAGE = 0.95
MIN_HIT_RATE = 0.80
MAX_L1_P50_MS = 1.0
_OFF = {"redis": "off"}

LIMITS_OBEYED = AssetCheckSpec(
    "no_rate_limit_failures",
    asset="enrichment_cache",
    description="No lookup of the run came back as rate limited; it waited or was deferred (exactly 0; "
    "warning: such lookups stay in the queue).",
)
ANSWERS_VALID = AssetCheckSpec(
    "answers_valid",
    asset="enrichment_cache",
    description="No answer of the run had the wrong shape or was about another key (exactly 0; warning: such "
    "answers are thrown away and asked for again).",
)
KEYS_ACCEPTED = AssetCheckSpec(
    "keys_accepted",
    asset="enrichment_cache",
    description="No service refuses the key, plan or contact address it is asked with (warning: it names the "
    "setting to mend; only that service stops).",
)
COMPLETE = AssetCheckSpec(
    "every_session_has_its_row",
    asset="enriched_sessions",
    description="As many enriched rows as sessions (exact; no tolerance).",
)
COVERAGE = AssetCheckSpec(
    "coverage",
    asset="enriched_sessions",
    description=f"Of the sessions whose turn has come, each asked service has answered for at least "
    f"{MIN_COVERAGE:.0%} (warning). What its pace or quota did not allow yet is counted apart, as deferred.",
)
CACHE_HIT_RATE = AssetCheckSpec(
    "cache_hit_rate",
    asset="enrichment_cache",
    description="Of the run's keys that an earlier run had answered, unexpired, a tier of the cache gave "
    f"at least {MIN_HIT_RATE:.0%} (warning: what was paid for was lost, and is asked again).",
)
L1_HIT_RATE = AssetCheckSpec(
    "l1_hit_rate",
    asset="enrichment_cache",
    description=f"Of the keys that Redis was given within its TTL, it gave back at least {MIN_HIT_RATE:.0%}, "
    "if it is turned on (warning: it was emptied or restarted, is away, or has too little memory).",
)
WITHOUT_CALL = AssetCheckSpec(
    "sessions_without_call",
    asset="enriched_sessions",
    description=f"At least {MIN_HIT_RATE:.0%} of the answered sessions cost no call, for each service that "
    f"answered {MIN_SESSIONS_AN_ADDRESS} sessions a key or more (warning).",
)
NEWEST_SESSION = AssetCheckSpec(
    "newest_session",
    asset="enriched_sessions",
    description=f"The newest session is less than {MAX_SILENCE.total_seconds() / 3600:.0f} hours old "
    "(warning): sensors on the Internet are attacked all the time. Looked at hourly, with or without a run.",
)
L1_REACHABLE = AssetCheckSpec(
    "l1_reachable",
    asset="enriched_sessions",
    description="Redis answers, if it is turned on (warning: without it the database answers, more slowly).",
)
L1_LATENCY = AssetCheckSpec(
    "l1_latency",
    asset="enriched_sessions",
    description=f"The median lookup in Redis takes less than {MAX_L1_P50_MS:g} ms a key, if it was asked "
    "(warning).",
)


def of_answers(
    fetched: Sequence[FetchReport], rates: HitRates, *, redis_is_on: bool
) -> Iterator[AssetCheckResult]:
    """The checks of `enrichment_cache`, from what the cache gave and what asking each service came to."""
    yield _hit_rate(CACHE_HIT_RATE, rates.expected, rates.answered, rates.cache)
    if redis_is_on:
        yield _hit_rate(L1_HIT_RATE, rates.l1_expected, rates.l1_answered, rates.l1)
    else:
        yield _result(L1_HIT_RATE, True, AssetCheckSeverity.WARN, _OFF)
    for spec, status in (
        (LIMITS_OBEYED, LookupStatus.RATE_LIMITED),
        (ANSWERS_VALID, LookupStatus.INVALID_RESPONSE),
    ):
        by_service = {part.service: part.statuses[status.value] for part in fetched}
        yield _result(spec, not any(by_service.values()), AssetCheckSeverity.WARN, by_service)
    refused = {part.service: _setting_to_mend(part.service) for part in fetched if part.is_refused}
    yield _result(KEYS_ACCEPTED, not refused, AssetCheckSeverity.WARN, refused)


def _hit_rate(spec: AssetCheckSpec, expected: int, answered: int, rate: float | None) -> AssetCheckResult:
    share = {} if rate is None else {"hit_rate": round(rate, 4)}
    figures = {"expected": expected, "answered": answered, **share}
    return _result(spec, rate is None or rate >= MIN_HIT_RATE, AssetCheckSeverity.WARN, figures)


def _setting_to_mend(service: str) -> str:
    """Where the operator says as whom a service is asked: its key, or the address in the User-Agent."""
    return f"{service.upper()}_API_KEY" if ALL[service].needs_key else "DSHIELD_EMAIL"


def of_rows(
    report: JoinReport,
    sessions: int,
    cache: Mapping[str, Any],
    redis: RedisCache | None,
    without_call: Mapping[str, SessionsWithoutCall],
) -> list[AssetCheckResult]:
    """The checks of `enriched_sessions`: the join, the number of sessions, the cache's metrics, the calls."""
    asked = [service for service in report.lookups if report.is_asked(service)]
    allowed = {service: report.allowed_coverage(service) for service in asked}
    deferred = {f"deferred_{service}": report.deferred(service) for service in asked}
    counts = {"sessions": sessions, "enriched": report.sessions}
    return [
        _result(COMPLETE, report.sessions == sessions, AssetCheckSeverity.ERROR, counts),
        _result(
            COVERAGE,
            all(share is None or share >= MIN_COVERAGE for share in allowed.values()),
            AssetCheckSeverity.WARN,
            _plotted({**allowed, **deferred}),
        ),
        _without_call(without_call),
        *_of_redis(cache["totals"].get(RedisCache.name, {}), redis),
    ]


def tell_of_errors(results: Iterable[AssetCheckResult], notices: Notices, days: Days) -> None:
    """Let the operator know of checks of severity ERROR that failed."""
    for result in results:
        if result.severity is AssetCheckSeverity.ERROR:
            figures = ", ".join(f"{name} {value.value}" for name, value in result.metadata.items())
            tell_of_check(notices, str(result.check_name), str(days), passed=result.passed, figures=figures)


def _plotted(shares: Mapping[str, float | None]) -> dict[str, Any]:
    """As numbers, of which the UI draws the course over time."""
    return {service: "–" if share is None else round(share, 4) for service, share in shares.items()}


def _without_call(services: Mapping[str, SessionsWithoutCall]) -> AssetCheckResult:
    shares = {name: one.share for name, one in services.items() if one.share is not None}
    sessions = sum(one.sessions for one in services.values())
    together = SessionsWithoutCall(sessions, 0, sum(one.calls for one in services.values())).share
    bad = [name for name, share in shares.items() if services[name].is_judged and share < MIN_HIT_RATE]
    figures = {name: round(share, 4) for name, share in shares.items()}
    total = {} if together is None else {"hit_rate": round(together, 4)}
    return _result(WITHOUT_CALL, not bad, AssetCheckSeverity.WARN, {**figures, **total})


def of_newest_session(newest: datetime | None, now: datetime) -> AssetCheckResult:
    """How long nothing was seen, whenever it was enriched last."""
    if newest is None:
        return _result(NEWEST_SESSION, False, AssetCheckSeverity.WARN, {"newest_session": "there is none"})
    age = now - newest
    figures = {"newest_session": newest.isoformat(), "age_hours": round(age.total_seconds() / 3600, 1)}
    return _result(NEWEST_SESSION, age <= MAX_SILENCE, AssetCheckSeverity.WARN, figures)


def _of_redis(seen: Mapping[str, Any], redis: RedisCache | None) -> Iterator[AssetCheckResult]:
    if redis is None:
        yield _result(L1_REACHABLE, True, AssetCheckSeverity.WARN, _OFF)
        yield _result(L1_LATENCY, True, AssetCheckSeverity.WARN, _OFF)
        return
    status, p50 = redis.status(), seen.get("p50_ms")
    state = {"redis": "answers" if status.reachable else escape(status.reason)}
    yield _result(L1_REACHABLE, status.reachable, AssetCheckSeverity.WARN, state)
    if p50 is None:
        why = "was not asked" if status.reachable else "no call succeeded"
        yield _result(L1_LATENCY, status.reachable, AssetCheckSeverity.WARN, {"redis": why})
    else:
        latency = {"p50_ms": p50, "p99_ms": seen["p99_ms"]}
        yield _result(L1_LATENCY, p50 < MAX_L1_P50_MS, AssetCheckSeverity.WARN, latency)


def _result(
    spec: AssetCheckSpec, passed: bool, severity: AssetCheckSeverity, metadata: Mapping[str, Any]
) -> AssetCheckResult:
    return AssetCheckResult(
        check_name=spec.name, asset_key=spec.asset_key, passed=passed, severity=severity, metadata=metadata
    )
