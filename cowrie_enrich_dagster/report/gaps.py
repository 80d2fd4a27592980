"""What is not known yet, why, and when it will be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.keys import PREFIX_CHARS
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.report.query import Query
from cowrie_enrich_dagster.report.sources import statuses_in
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

ANSWERS = frozenset(status.value for status in LookupStatus if status.is_answer)
ABOUT = {
    Subject.IP: "addresses",
    Subject.FILE_SHA256: "files",
    Subject.PASSWORD_SHA1_PREFIX: "password prefixes",
}
_NEVER_SENT = LookupStatus.SKIPPED_POLICY.value
WHY: dict[str, str] = {
    LookupStatus.DEFERRED: "not asked yet",
    LookupStatus.RATE_LIMITED: "it said that it was asked too often",
    LookupStatus.AUTH_FAILED: "it refuses our key",
    LookupStatus.ERROR: "it could not be reached",
    LookupStatus.INVALID_RESPONSE: "its answer was not to be understood",
    LookupStatus.SKIPPED_NO_KEY: "no key is configured",
}


@dataclass(frozen=True)
class Gap:
    """What one service has told of the days' `keys`, and what not; keys that are never sent do not count.

    `statuses` counts the keys by how their lookup ended (`deferred`: it has not been asked yet). `backlog` is
    all that waits for the service, of other days too, `done_at` when that is through at the pace in effect
    (None: nothing waits, or it is `never`). `held_until` and `held_because`: it must not be asked before.
    """

    service: str
    about: str
    as_of: datetime
    keys: int
    answered: int
    statuses: Mapping[str, int]
    backlog: int
    never: bool
    arriving_per_day: float
    done_at: datetime | None
    held_until: datetime | None
    held_because: str | None

    @property
    def missing(self) -> int:
        """The keys it has not told of."""
        return self.keys - self.answered


_FILES = """
    SELECT told.key AS sha256, CAST(told.value AS text) AS services FROM enriched_sessions AS e
    CROSS JOIN {each} WHERE e.day BETWEEN :first AND :last AND e.downloads + e.uploads > 0
"""
_PREFIXES = """
    WITH prefixes AS MATERIALIZED (
        SELECT DISTINCT substr(item.value, 1, {chars}) AS prefix
        FROM sessions AS s CROSS JOIN {each} WHERE s.day BETWEEN :first AND :last
    )
    SELECT coalesce(
        (SELECT max(a.status) FROM answers AS a WHERE a.service = :service AND a.key = prefix),
        (SELECT l.status FROM lookups AS l WHERE l.service = :service AND l.key = prefix),
        'deferred'
    ) AS status, count(*) AS keys FROM prefixes GROUP BY 1
"""


def gaps_of(
    enricher: Enricher, asking: Query, of_addresses: Mapping[str, Mapping[str, int]]
) -> tuple[Gap, ...]:
    """A row for each service that takes part; `of_addresses`: statuses by service of the days' sources."""
    entries = {entry.status.service: entry for entry in enricher.ledger()}
    counts: dict[str, Mapping[str, int]] = {}
    for name, service in enricher.services.items():
        if service.subject is Subject.IP:
            counts[name] = of_addresses.get(name, {})
        elif service.subject is Subject.PASSWORD_SHA1_PREFIX:
            counts[name] = _of_passwords(asking, name)
    of_files = _of_files(asking) if len(counts) < len(enricher.services) else {}
    return tuple(
        _gap(name, ABOUT[service.subject], counts.get(name, of_files.get(name, {})), entries[name])
        for name, service in enricher.services.items()
    )


def _gap(name: str, about: str, statuses: Mapping[str, int], entry: LedgerEntry) -> Gap:
    limit = entry.status
    statuses = {status: number for status, number in sorted(statuses.items()) if status != _NEVER_SENT}
    return Gap(
        service=name,
        about=about,
        as_of=limit.as_of,
        keys=sum(statuses.values()),
        answered=sum(number for status, number in statuses.items() if status in ANSWERS),
        statuses=statuses,
        backlog=entry.backlog,
        never=entry.is_never,
        arriving_per_day=round(entry.arriving_per_day, 1),
        done_at=None if entry.eta_s is None else limit.as_of + timedelta(seconds=entry.eta_s),
        held_until=limit.cooldown_until,
        held_because=None if limit.cooldown_reason is None else limit.cooldown_reason.value,
    )


def _of_files(asking: Query) -> dict[str, Counter[str]]:
    each = asking.dialect(
        sqlite="json_each(e.intel, '$.files') AS told",
        postgresql="jsonb_each(e.intel -> 'files') AS told",
    )
    statuses: dict[str, dict[str, str]] = {}
    for row in asking.stream(_FILES.format(each=each)):
        statuses.setdefault(row.sha256, {}).update(statuses_in(row.services))
    return by_service(statuses.values())


def by_service(statuses: Iterable[Mapping[str, str]]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for of_key in statuses:
        for service, status in of_key.items():
            counts.setdefault(service, Counter())[status] += 1
    return counts


def _of_passwords(asking: Query, service: str) -> Counter[str]:
    each = asking.dialect(
        sqlite="json_each(s.passwords_sha1) AS item",
        postgresql="jsonb_array_elements_text(s.passwords_sha1) AS item(value)",
    )
    rows = asking.rows(_PREFIXES.format(each=each, chars=PREFIX_CHARS), service=service)
    return Counter({row.status: row.keys for row in rows})
