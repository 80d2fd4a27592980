"""Addresses and rows of a growing day follow the sessions that changed, whoever changed them and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from cowrie_enrich_dagster.enrichment import Enricher, row_writing
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.enrichment.test_growing_day import NOON, append, session
from tests.integration.enrichment.test_growing_rows import (
    DAY,
    SERVICES,
    TODAY,
    Clock,
    assert_is_as_written_anew,
    tick,
)

Open = Callable[..., Enricher]
YESTERDAY = Days(DAY - timedelta(days=1), DAY - timedelta(days=1))
TOMORROW = Days(DAY + timedelta(days=1), DAY + timedelta(days=1))
MIDNIGHT = NOON - timedelta(hours=12)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of four sessions, each of an address of its own."""
    path = tmp_path / "growing" / "cowrie.json"
    append(path, b"".join(b"".join(session(n, at=NOON + timedelta(minutes=n))) for n in range(1, 5)))
    return path


@pytest.fixture
def enricher(open_enricher: Open, log: Path) -> Enricher:
    """A pipeline that has written all there is, an hour ago."""
    enricher = open_enricher(**SERVICES, COWRIE_LOG_DIR=str(log.parent))
    clock = Clock(enricher)
    tick(enricher)
    clock.now += timedelta(hours=1)
    tick(enricher)
    return enricher


def changed(enricher: Enricher) -> int:
    with enricher.database.read() as connection:
        return connection.execute(text("SELECT count(*) FROM changed_sessions")).scalar_one()


def addresses(enricher: Enricher) -> list[str]:
    """The addresses of the rows, in order."""
    source = tables.table_of(tables.EnrichedSession).c.source_ip
    with enricher.database.read() as connection:
        return list(connection.execute(select(source).order_by(source)).scalars())


def test_nothing_is_left_to_follow_after_a_tick(enricher: Enricher, log: Path) -> None:
    """What came is noted, and not for longer than it takes to follow."""
    assert changed(enricher) == 0
    append(log, b"".join(session(5, at=NOON)))
    enricher.ingest(TODAY)
    assert changed(enricher) == 2
    for step in (enricher.summarise_addresses, enricher.plan_and_open, enricher.enrich):
        step(TODAY)
    assert changed(enricher) == 0
    assert_is_as_written_anew(enricher)


def test_a_session_whose_address_another_run_has_yet_to_sum_up(enricher: Enricher, log: Path) -> None:
    """Who writes rows meanwhile leaves it, and does not forget it: the other one writes it."""
    append(log, b"".join(session(5, at=NOON)))
    enricher.ingest(TODAY)
    enricher.enrich(TODAY)
    assert "8.8.0.5" not in addresses(enricher)

    enricher.summarise_addresses(TODAY)
    enricher.enrich(TODAY)

    assert "8.8.0.5" in addresses(enricher)
    assert_is_as_written_anew(enricher)


def test_what_comes_while_rows_are_written(
    enricher: Enricher, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session goes on after the rows to be written were chosen: the next run writes it."""
    append(log, b"".join(session(5, at=NOON)[:2]))
    enricher.ingest(TODAY)
    enricher.summarise_addresses(TODAY)
    enrich_touched = row_writing.enrich_touched

    def as_more_comes(*arguments: object) -> object:
        monkeypatch.setattr(row_writing, "enrich_touched", enrich_touched)
        append(log, b"".join(session(5, at=NOON)[2:] + session(6, at=NOON)))
        enricher.ingest(TODAY)
        enricher.summarise_addresses(TODAY)
        return enrich_touched(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(row_writing, "enrich_touched", as_more_comes)
    enricher.enrich(TODAY)
    enricher.enrich(TODAY)
    assert addresses(enricher) == [f"8.8.0.{number}" for number in range(1, 7)]
    assert_is_as_written_anew(enricher)


def test_a_session_that_another_day_turns_out_to_have_begun(enricher: Enricher, log: Path) -> None:
    """Its first lines come late, with yesterday's log: today has a session less, of an address less."""
    events = session(5, at=MIDNIGHT - timedelta(seconds=2))
    append(log, b"".join(events[2:]))
    tick(enricher)
    assert "8.8.0.5" in addresses(enricher)

    append(log.with_name("cowrie.json.1"), b"".join(events[:2]))
    enricher.ingest(YESTERDAY)
    for step in (enricher.summarise_addresses, enricher.plan_and_open, enricher.enrich):
        step(TODAY)

    of_today = text(f"SELECT src_ip FROM session_ips WHERE day = '{DAY}' ORDER BY src_ip")
    with enricher.database.read() as connection:
        told = list(connection.execute(of_today).scalars())
    assert told == [f"8.8.0.{number}" for number in range(1, 5)]
    assert_is_as_written_anew(enricher)


def test_a_session_whose_end_another_day_has(enricher: Enricher, log: Path) -> None:
    """A sensor's clock runs ahead: what its session did tomorrow is in today's rows, of as many sessions."""
    events = session(5, at=MIDNIGHT + timedelta(days=1) - timedelta(seconds=2))
    append(log, b"".join(events[:2]))
    tick(enricher)

    append(log.with_name("cowrie.json.2"), b"".join(events[2:]))
    enricher.ingest(TOMORROW)
    for step in (enricher.summarise_addresses, enricher.plan_and_open, enricher.enrich):
        step(TODAY)

    assert_is_as_written_anew(enricher)


def test_a_session_that_turns_out_to_be_of_another_address(enricher: Enricher, log: Path) -> None:
    """Its connect comes late, and says so: the address before has no session any more."""
    first, *others = session(5, at=NOON)
    append(log, b"".join(others))
    tick(enricher)
    append(log, first.replace(b"8.8.0.5", b"8.8.0.6"))
    tick(enricher)
    assert addresses(enricher) == [*(f"8.8.0.{number}" for number in range(1, 5)), "8.8.0.6"]
    assert_is_as_written_anew(enricher)


@pytest.mark.parametrize("rows_first", [False, True], ids=["in order", "rows before their addresses"])
def test_an_address_that_comes_with_a_later_line(enricher: Enricher, log: Path, rows_first: bool) -> None:
    """A session without one gets it: its row says it, though another run was there before."""
    first, *others = (one.replace(b"8.8.0.5", b"10.0.0.5") for one in session(5, at=NOON))
    append(log, b"".join(one.replace(b'"src_ip":', b'"of":') for one in others))
    tick(enricher)
    append(log, first)
    if rows_first:
        enricher.ingest(TODAY)
        enricher.enrich(TODAY)
    tick(enricher)
    assert "10.0.0.5" in addresses(enricher)
    assert_is_as_written_anew(enricher)


@pytest.mark.parametrize(
    "gone", ["enriched_sessions WHERE source_ip = '8.8.0.2'", "session_ips WHERE src_ip = '8.8.0.3'"]
)
def test_rows_that_somebody_took_away(enricher: Enricher, gone: str) -> None:
    """They are missed, though no session changed, and written by the run after that."""
    with enricher.database.write() as connection:
        connection.execute(text(f"DELETE FROM {gone}"))
    for _ in range(2):
        tick(enricher)
    assert addresses(enricher) == [f"8.8.0.{number}" for number in range(1, 5)]
    assert_is_as_written_anew(enricher)
