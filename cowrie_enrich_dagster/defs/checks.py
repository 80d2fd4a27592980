"""Asset checks of the enrichment: what each demands, how bad its failure is, and how it is decided.

A failed check never fails a run: the rows are there and say what is missing. ERROR is kept for what this
project promises never happens; WARN is for what outsiders do, or what the next run mends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec

from cowrie_enrich_dagster.cache import RedisCache
from cowrie_enrich_dagster.defs.metadata import escape
from cowrie_enrich_dagster.enrichment.fetch import FetchReport
from cowrie_enrich_dagster.enrichment.join import JoinReport
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.vocabulary import LookupStatus

MIN_COVERAGE = 0.95
MIN_REPEATS_FROM_CACHE = 0.80
MAX_L1_P50_MS = 1.0

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
REPEATS = AssetCheckSpec(
    "repeats_from_cache",
    asset="enriched_sessions",
    description=f"More than {MIN_REPEATS_FROM_CACHE:.0%} of the sessions from an address that the days have "
    "already seen are answered from the cache, for each asked service that has such (warning).",
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


def of_answers(fetched: Sequence[FetchReport]) -> Iterator[AssetCheckResult]:
    """The checks of `enrichment_cache`, from what asking each service came to."""
    for spec, status in (
        (LIMITS_OBEYED, LookupStatus.RATE_LIMITED),
        (ANSWERS_VALID, LookupStatus.INVALID_RESPONSE),
    ):
        by_service = {part.service: part.statuses[status.value] for part in fetched}
        yield _result(spec, not any(by_service.values()), AssetCheckSeverity.WARN, by_service)
    refused = {part.service: _setting_to_mend(part.service) for part in fetched if _is_refused(part)}
    yield _result(KEYS_ACCEPTED, not refused, AssetCheckSeverity.WARN, refused)


def _is_refused(part: FetchReport) -> bool:
    # A key that was refused in an earlier run is not shown to the service again: nothing is asked then.
    refused = LookupStatus.AUTH_FAILED.value
    return bool(part.statuses[refused]) or part.stopped_because.startswith(refused)


def _setting_to_mend(service: str) -> str:
    """Where the operator says as whom a service is asked: its key, or the address in the User-Agent."""
    return f"{service.upper()}_API_KEY" if ALL[service].needs_key else "DSHIELD_EMAIL"


def of_rows(
    report: JoinReport, sessions: int, cache: Mapping[str, Any], redis: RedisCache | None
) -> list[AssetCheckResult]:
    """The checks of `enriched_sessions`, from the join, the number of sessions and the cache's metrics."""
    asked = [service for service in report.lookups if report.is_asked(service)]
    allowed = {service: report.allowed_coverage(service) for service in asked}
    deferred = {f"deferred_{service}": report.deferred(service) for service in asked}
    repeats = {service: _repeats_from_cache(report, service) for service in asked}
    counts = {"sessions": sessions, "enriched": report.sessions}
    return [
        _result(COMPLETE, report.sessions == sessions, AssetCheckSeverity.ERROR, counts),
        _result(
            COVERAGE,
            all(share is None or share >= MIN_COVERAGE for share in allowed.values()),
            AssetCheckSeverity.WARN,
            _plotted({**allowed, **deferred}),
        ),
        _result(
            REPEATS,
            all(share is None or share > MIN_REPEATS_FROM_CACHE for share in repeats.values()),
            AssetCheckSeverity.WARN,
            _plotted(repeats),
        ),
        *_of_redis(cache["totals"].get(RedisCache.name, {}), redis),
    ]


def _plotted(shares: Mapping[str, float | None]) -> dict[str, Any]:
    """As numbers, of which the UI draws the course over time."""
    return {service: "–" if share is None else round(share, 4) for service, share in shares.items()}


def _repeats_from_cache(report: JoinReport, service: str) -> float | None:
    """Of the sessions after an address's first, the share that has an answer; None without such sessions."""
    repeats = Counter(report.sessions_by_status[service])
    repeats.subtract(report.lookups[service])
    del repeats[LookupStatus.SKIPPED_POLICY.value]
    answered = sum(repeats[status.value] for status in LookupStatus if status.is_answer)
    return answered / repeats.total() if repeats.total() else None


def _of_redis(seen: Mapping[str, Any], redis: RedisCache | None) -> Iterator[AssetCheckResult]:
    if redis is None:
        off = {"redis": "turned off"}
        yield _result(L1_REACHABLE, True, AssetCheckSeverity.WARN, off)
        yield _result(L1_LATENCY, True, AssetCheckSeverity.WARN, off)
        return
    status, p50 = redis.status(), seen.get("p50_ms")
    state = {"redis": "answers" if status.reachable else escape(status.reason)}
    yield _result(L1_REACHABLE, status.reachable, AssetCheckSeverity.WARN, state)
    latency = {"redis": "was not asked"} if p50 is None else {"p50_ms": p50, "p99_ms": seen["p99_ms"]}
    yield _result(L1_LATENCY, p50 is None or p50 < MAX_L1_P50_MS, AssetCheckSeverity.WARN, latency)


def _result(
    spec: AssetCheckSpec, passed: bool, severity: AssetCheckSeverity, metadata: Mapping[str, Any]
) -> AssetCheckResult:
    return AssetCheckResult(
        check_name=spec.name, asset_key=spec.asset_key, passed=passed, severity=severity, metadata=metadata
    )
