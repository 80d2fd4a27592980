"""Events in any order to sessions, day by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from .events import Event
from .reports import DayCounts, ReadReport
from .sessionday import SessionDay
from .sessions import Session

SESSION_HORIZON = timedelta(days=1)
"""A session's events count to the end of the UTC day this long after the day it began on."""

_Key = tuple[str, str]


class Sessioniser:
    """Gathers events into the sessions that began on the UTC days `first_day` to `last_day`.

    A session, one id on one sensor, begins on a day on which it has events while it had none the day before;
    the events of that day and the next one are in it. So what lies further away never changes a session, and
    a day comes out the same whether it is read alone or with others.

    Memory: the sessions of the days that are not finished yet. Counts go to `report`.
    """

    def __init__(self, first_day: date, last_day: date, report: ReadReport) -> None:
        self._first_day = first_day
        self._last_day = last_day
        self._report = report
        self._unfinished_from = first_day - SESSION_HORIZON
        self._days: dict[date, dict[_Key, SessionDay]] = {}
        self._continued: set[_Key] = set()  # with events on the day finished last and on the one after it

    def add(self, event: Event) -> None:
        """Take one event; if its day is finished, or neither asked for nor beside one that is, count it."""
        sensor, session, kind, at, day, identity, fields = event
        report = self._report
        report.events += 1
        sessions = self._days.get(day)
        if sessions is None:
            if not self._unfinished_from <= day <= self._last_day + SESSION_HORIZON:
                report.events_of_other_days += 1
                return
            sessions = self._days[day] = {}
        key = (sensor, session)
        known = sessions.get(key)
        if known is None:
            known = sessions[key] = SessionDay(at, at)
        if not known.add(kind, at, identity, fields):
            report.duplicate_events += 1

    def finish_days_up_to(self, day: date) -> Iterator[Session]:
        """Yield the sessions of all days not finished yet, up to `day`, by day, then sensor and id.

        All events of these days and of the day after `day` must have been added. Exhaust it before the next
        `add`.
        """
        while self._unfinished_from <= min(day, self._last_day):
            current = self._unfinished_from
            self._unfinished_from = current + timedelta(days=1)
            yield from self._finish(current)

    def _finish(self, day: date) -> Iterator[Session]:
        sessions = self._days.pop(day, {})
        following = self._days.get(day + SESSION_HORIZON, {})
        continued, self._continued = self._continued, set()
        counts = self._report.days.setdefault(day, DayCounts()) if day >= self._first_day else None
        for key in sorted(sessions):
            known = sessions.pop(key)  # given up one by one, so that the caller's rows can take their place
            begins = key not in continued
            later = following.get(key)
            if later is not None:
                self._continued.add(key)
                if begins:
                    known.absorb(later)
                else:
                    self._report.events_beyond_horizon += later.event_count
            if begins and counts is not None:
                counts.sessions += 1
                counts.events += known.event_count
                sensor, session_id = key
                yield known.session(session_id, sensor, day)
