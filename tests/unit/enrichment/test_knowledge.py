"""What is told of keys all at once is what is told of each."""

from collections import Counter
from datetime import date, datetime, timedelta, timezone

import pytest

from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.keys import Key
from cowrie_enrich_dagster.enrichment.knowledge import AskedService, Knowledge, Observed
from cowrie_enrich_dagster.lookups.model import LastStatus
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.vocabulary import LookupStatus, Scope

NOW = datetime(2025, 11, 1, 12, tzinfo=timezone.utc)


def _key(value: str, sessions: int, scope: Scope = Scope.GLOBAL, *, scanner: bool = False) -> Key:
    return Key(value, scope, sessions, sessions, NOW, date(2025, 11, 1), known_scanner=scanner)


def _told(*, stale: bool) -> list[Observed]:
    return [Observed(LookupStatus.FOUND, None, NOW, NOW + timedelta(days=1), stale)]


@pytest.mark.parametrize("service", ["greynoise", "cymru"])
@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("is_refused", [True, False])
def test_keys_counted_in_lots_have_the_statuses_of_each(
    service: str, has_key: bool, is_refused: bool
) -> None:
    """Each status with as many keys and sessions as where every key is asked, and in the same order."""
    keys = [
        _key("198.51.100.1", 3),
        _key("198.51.100.2", 5),
        _key("10.0.0.1", 7, Scope.PRIVATE),
        _key("198.51.100.3", 11, scanner=True),
        _key("198.51.100.4", 13),
        _key("198.51.100.5", 17),
        _key("198.51.100.6", 19),
        _key("198.51.100.7", 23, scanner=True),
        _key("198.51.100.8", 29),
    ]
    known = Knowledge(
        AskedService(ALL[service], has_key, is_refused),
        keys,
        history={"198.51.100.2": _told(stale=False), "198.51.100.3": _told(stale=True)},
        statuses={
            "198.51.100.4": LastStatus(LookupStatus.ERROR),
            "198.51.100.5": LastStatus(LookupStatus.FOUND),  # purged since
            "198.51.100.7": LastStatus(LookupStatus.SKIPPED_POLICY),
        },
        gathered_at=NOW,
        spared={"198.51.100.6": "known"},
    )

    report = JoinReport()
    report.count(known)

    one_by_one, sessions = Counter[str](), Counter[str]()
    for key in keys:
        one_by_one[known.status(key).value] += 1
        sessions[known.status(key).value] += key.sessions
    assert list(report.lookups[service].items()) == list(one_by_one.items())
    assert list(report.sessions_by_status[service].items()) == list(sessions.items())
    assert report.stale == 1
