"""Which days are asked for when, on a clock of the test's own."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone

import pytest

from cowrie_enrich_dagster.defs.new_days import Cursor, Decision, decide
from cowrie_enrich_dagster.enrichment.ingest import DayMark

DAY = date(2025, 11, 10)
BEFORE, LONG_BEFORE = DAY - timedelta(days=1), DAY - timedelta(days=5)
NIGHT = datetime(2025, 11, 11, tzinfo=timezone.utc)
"""The moment at which `DAY` is over."""
EVERY = timedelta(minutes=15)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 11, 10, hour, minute, tzinfo=timezone.utc)


def mark(extent: int, files: int = 1) -> DayMark:
    return DayMark(f"{files:016x}", f"{files * 1000 + extent:08x}" * 2)


class Sensor:
    """Ticks one after the other, the cursor saved as text between them."""

    def __init__(self, every: timedelta = EVERY) -> None:
        self.every = every
        self.logs: dict[date, DayMark] = {}
        self.cursor: str | None = None

    def tick(self, now: datetime, *busy: date) -> Decision:
        decision = decide(self.logs, Cursor.parse(self.cursor), now, self.every, set(busy))
        self.cursor = decision.cursor.dump()
        return decision


@pytest.fixture
def sensor() -> Sensor:
    """At ten in the morning, with two days before today, everything asked for."""
    sensor = Sensor()
    sensor.logs = {LONG_BEFORE: mark(1), BEFORE: mark(1), DAY: mark(1)}
    assert sensor.tick(at(10)).ask == {LONG_BEFORE, BEFORE, DAY}
    return sensor


def test_nothing_new_asks_for_nothing(sensor: Sensor) -> None:
    """Neither at once nor an hour later."""
    for now in (at(10, 1), at(11), at(23)):
        decision = sensor.tick(now)
        assert (decision.ask, decision.waiting, decision.busy) == (set(), {}, set())


def test_a_day_that_grows_is_asked_for_every_quarter_of_an_hour(sensor: Sensor) -> None:
    """Alone: yesterday is left out. In between the tick says until when it waits."""
    asked = []
    for minute in range(1, 61):
        sensor.logs[DAY] = mark(minute + 1)
        now = at(10) + timedelta(minutes=minute)
        decision = sensor.tick(now)
        if decision.ask:
            assert decision.ask == {DAY}
            asked.append(minute)
        else:
            last = asked[-1] if asked else 0
            assert decision.waiting == {DAY: at(10) + timedelta(minutes=last + 15)}
    assert asked == [15, 30, 45, 60]


def test_zero_minutes_mean_every_tick() -> None:
    """Nothing waits."""
    sensor = Sensor(every=timedelta())
    for minute in range(5):
        sensor.logs[DAY] = mark(minute)
        assert sensor.tick(at(10, minute)).ask == {DAY}
    assert sensor.tick(at(10, 5)).ask == set()


def test_another_file_of_the_day_is_asked_for_at_once(sensor: Sensor) -> None:
    """With the day before it, whose sessions may end there."""
    sensor.logs[DAY] = mark(1, files=2)
    assert sensor.tick(at(10, 1)).ask == {DAY, BEFORE}


def test_a_late_file_of_another_day_is_asked_for_at_once(sensor: Sensor) -> None:
    """Whether the day was known or not, and whatever waits."""
    sensor.logs[DAY] = mark(2)
    sensor.logs[LONG_BEFORE] = mark(1, files=2)
    decision = sensor.tick(at(10, 1))
    assert decision.ask == {LONG_BEFORE}
    assert decision.waiting == {DAY: at(10, 15)}
    sensor.logs[LONG_BEFORE + timedelta(days=1)] = mark(1)
    assert sensor.tick(at(10, 2)).ask == {LONG_BEFORE, LONG_BEFORE + timedelta(days=1)}


def test_the_day_before_is_asked_for_during_the_first_hour() -> None:
    """Sessions that cross midnight end then; after one o'clock growth concerns its own day alone."""
    sensor = Sensor()
    sensor.logs = {BEFORE: mark(1), DAY: mark(1)}
    sensor.tick(at(0, 1))
    asked = []
    for minute in range(2, 121):
        sensor.logs[DAY] = mark(minute)
        if ask := sensor.tick(at(0) + timedelta(minutes=minute)).ask:
            asked.append((minute, ask))
    assert asked == [(minute, {BEFORE, DAY} if minute < 60 else {DAY}) for minute in range(16, 120, 15)]


def test_a_day_is_asked_for_once_more_when_it_is_over(sensor: Sensor) -> None:
    """At once, with the day before, for the last of the stragglers; and then never again."""
    sensor.logs[DAY] = mark(2)
    assert sensor.tick(at(23, 50)).ask == {DAY}
    sensor.logs[DAY] = mark(3)
    assert sensor.tick(at(23, 55)).waiting == {DAY: NIGHT}
    assert sensor.tick(NIGHT).ask == {BEFORE, DAY}
    for minutes in (1, 16, 600, 3000):
        assert sensor.tick(NIGHT + timedelta(minutes=minutes)).ask == set()


def test_a_day_that_did_not_grow_is_not_read_again_when_it_is_over(sensor: Sensor) -> None:
    """But the day before it is: its long sessions ended in what was asked for without it."""
    assert sensor.tick(NIGHT).ask == {BEFORE}
    assert sensor.tick(NIGHT + timedelta(minutes=1)).ask == set()


def test_lines_that_come_when_the_day_is_over(sensor: Sensor) -> None:
    """They are neither lost nor worth a run each."""
    sensor.tick(NIGHT)
    sensor.logs[DAY] = mark(4)
    assert sensor.tick(NIGHT + timedelta(minutes=1)).waiting == {DAY: NIGHT + EVERY}
    assert sensor.tick(NIGHT + EVERY).ask == {DAY, BEFORE}
    sensor.logs[DAY] = mark(5)
    assert sensor.tick(NIGHT + timedelta(days=7)).ask == {DAY, BEFORE}


def test_only_a_day_on_which_a_run_works_waits_for_it(sensor: Sensor) -> None:
    """The others are asked for meanwhile; it is asked for when the run is finished."""
    sensor.logs[DAY] = mark(2)
    sensor.logs[LONG_BEFORE] = mark(2)
    decision = sensor.tick(at(11), LONG_BEFORE)
    assert (decision.ask, decision.busy) == ({DAY}, {LONG_BEFORE})
    assert sensor.tick(at(11, 1), LONG_BEFORE).busy == {LONG_BEFORE}
    assert sensor.tick(at(11, 2)).ask == {LONG_BEFORE}
    assert sensor.tick(at(11, 3)).ask == set()


def test_a_day_before_on_which_a_run_works_is_owed(sensor: Sensor) -> None:
    """New logs do not wait for a run on the day before; that day gets its turn after the run."""
    sensor.logs[DAY] = mark(1, files=2)
    decision = sensor.tick(at(10, 1), BEFORE)
    assert (decision.ask, decision.busy) == ({DAY}, {BEFORE})
    assert sensor.tick(at(10, 2), BEFORE).ask == set()
    assert sensor.tick(at(10, 3)).ask == {BEFORE}
    assert sensor.tick(at(10, 4)).ask == set()


def test_logs_that_are_gone_for_a_while_are_nothing_new(sensor: Sensor) -> None:
    """A folder that was not mounted costs no run of all its days."""
    logs = dict(sensor.logs)
    sensor.logs = {}
    assert sensor.tick(at(10, 30)).ask == set()
    sensor.logs = logs
    assert sensor.tick(at(10, 31)).ask == set()


def test_the_cursor_is_small_and_comes_back_as_it_was() -> None:
    """Ten years of days that are over: about ten bytes each, once they are not new any more."""
    sensor = Sensor()
    sensor.logs = {DAY - timedelta(days=number): mark(number) for number in range(3650)}
    assert len(sensor.tick(at(10)).ask) == 3650
    sensor.tick(at(10, 20))
    assert sensor.cursor is not None
    assert len(sensor.cursor) < 3650 * 10
    assert Cursor.parse(sensor.cursor).dump() == sensor.cursor
    sensor.logs[DAY - timedelta(days=2000)] = mark(1)
    assert sensor.tick(at(10, 21)).ask == {DAY - timedelta(days=number) for number in (2000, 2001)}


def test_the_former_cursor_costs_one_run_of_today() -> None:
    """It was a fingerprint for each day, whose first digits are those kept now."""
    sensor = Sensor()
    sensor.logs = {LONG_BEFORE: mark(1), BEFORE: mark(1), DAY: mark(1)}
    sensor.cursor = json.dumps({str(day): mark.extent for day, mark in sensor.logs.items()})
    assert sensor.tick(at(10)).ask == {BEFORE, DAY}
    assert sensor.tick(at(10, 1)).ask == set()


@pytest.mark.parametrize("cursor", ["", "what", "[]", "7", '{"settled": 3}', '{"2025-13-01": "x"}', "{}"])
def test_a_cursor_of_somebody_else_is_as_none(cursor: str) -> None:
    """The days are asked for anew."""
    sensor = Sensor()
    sensor.logs, sensor.cursor = {DAY: mark(1)}, cursor
    assert sensor.tick(at(10)).ask == {DAY}
