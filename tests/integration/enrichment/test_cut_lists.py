"""A list that breaks off on its way is refused, however it was framed; over real connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from tests.integration.enrichment.listing import at
from tests.integration.enrichment.publisher import BROKEN, WHOLE_ANSWERS, Publisher
from tests.logs import START

Open = Callable[..., Enricher]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    running = Publisher()
    yield running
    running.close()


def entries(enricher: Enricher) -> int:
    with enricher.database.read() as connection:
        query = text("SELECT count(*) FROM list_entries WHERE seen_until IS NULL")
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("where", BROKEN)
def test_a_list_that_breaks_off_is_refused_and_the_last_good_one_kept(
    open_enricher: Open, publisher: Publisher, configure: Callable[..., None], where: str
) -> None:
    """Nothing of it is taken, the report says why, and an hour later it is asked for again."""
    enricher, clock = _with_a_good_one(open_enricher, publisher, configure)
    publisher.answer = BROKEN[where]
    clock.now += timedelta(days=1)
    (report,) = enricher.refresh_lists()
    assert report.status in ("failed", "refused")
    assert report.problem.startswith(f"{report.status}: ")
    assert report.problem.endswith("; the one of 2025-11-01 00:00 UTC is kept")
    assert len(report.reason) > 10
    assert entries(enricher) == 200
    publisher.answer = WHOLE_ANSWERS["with its length"]
    clock.now += timedelta(hours=1, minutes=2)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.problem, report.entries) == ("taken", "", 200)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", WHOLE_ANSWERS)
def test_a_whole_list_is_taken_however_it_is_sent(
    open_enricher: Open, publisher: Publisher, configure: Callable[..., None], how: str
) -> None:
    """What is refused above is refused for being cut alone."""
    enricher, clock = _with_a_good_one(open_enricher, publisher, configure)
    publisher.answer = WHOLE_ANSWERS[how]
    clock.now += timedelta(days=1)
    (report,) = enricher.refresh_lists()
    assert (report.status, report.problem, report.came, report.went) == ("taken", "", 0, 0)


def _with_a_good_one(open_enricher: Open, publisher: Publisher, configure: Callable[..., None]) -> Any:
    configure({"name": "exits", "says": "tor", "url": publisher.url, "refresh_hours": 12})
    publisher.answer = WHOLE_ANSWERS["with its length"]
    enricher = open_enricher(ENRICH_MAX_WAIT_SECONDS="0")
    clock = at(enricher, START)
    assert enricher.refresh_lists()[0].entries == 200
    return enricher, clock
