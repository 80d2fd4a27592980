"""Events in any order to pieces of sessions, day by day."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import orjson

from cowrie_enrich_dagster.vocabulary import Days

from .events import ID_CHARS, SENSOR_CHARS, Event, Identify, parse_event
from .fields import clean
from .kinds import CONNECT, HANDLERS
from .packed import with_new_mark
from .piece import NEVER, Piece
from .read_report import DayCounts, ReadReport
from .sessions import Row
from .timeline import settled

Key = tuple[str, str]
"""Sensor and session id."""
Heads = Mapping[Key, Collection[str]]
_OfDay = dict[str, dict[str, Piece]]
"""By sensor and id."""


class OutOfPlace(Exception):
    """An event lies where no event of its day should be; the message names the day."""


class Sessioniser:
    """Gathers the events of the UTC days `first_day` to `last_day` into pieces of sessions.

    What one id on one sensor did on a day is parted at each connect. What lies on other days changes no
    piece: a day comes out the same whether it is read alone or with others.

    Memory: the pieces of the days that are not finished yet. Counts go to `report`.
    """

    def __init__(
        self,
        first_day: date,
        last_day: date,
        report: ReadReport,
        only: Heads | None = None,
        all_days: Days | None = None,
        known: Mapping[Key, Piece] | None = None,
    ) -> None:
        """With `only` nothing is gathered but these keys, whose connects are known (see `tangled`).

        `all_days` are the days that are read by anybody: an event of any other is merely counted. `known` are
        pieces of the first day, which events are added to.
        """
        self._unfinished_from = first_day
        self._last_day = last_day
        self._report = report
        self._only = only
        self._all_days = all_days
        self._days: dict[date, _OfDay] = {}
        self._by_text: dict[str, _OfDay] = {}  # the same days, of sensors that events name as they are called
        for (sensor_name, session), piece in (known or {}).items():
            of_day = self._days.get(first_day) or self._begin(first_day)
            (of_day.get(sensor_name) or self._begin_sensor(first_day, sensor_name))[session] = piece

    def taker(self, sensor: str, identify: Identify = hash) -> Callable[[Any], None]:
        """What takes the decoded records of a log whose events may not name their `sensor`.

        It raises InvalidEvent and OutOfPlace, and does what `add` of a parsed event does. Nearly all events
        are of a day and a sensor met before, have a moment as Cowrie writes it, and come in the order of
        time; for these it takes fewer steps.
        """
        add, report, by_text = self.add, self._report, self._by_text
        dumps, is_sorted, moment = orjson.dumps, orjson.OPT_SORT_KEYS, datetime.fromisoformat
        takes_new = self._only is None

        def take(record: Any) -> None:
            try:
                stamp = record["timestamp"]
                sessions = by_text[stamp[:10]][record["sensor"]]
                session, kind = record["session"], record["eventid"]
                handle = HANDLERS[kind]
                piece = sessions.get(session)
                at = stamp[:26]
                identity = identify(dumps(record, None, is_sorted))
                usual = stamp[10:20:9] == "T." and stamp[26:] == "Z" and moment(at).tzinfo is None
                if piece is None:
                    usual = usual and takes_new and len(session) <= ID_CHARS and session.isalnum()
                else:
                    usual = usual and at > piece.ended and piece.others is None and kind != CONNECT
            except (AttributeError, KeyError, TypeError, ValueError):
                usual = False
            if not usual:
                add(parse_event(record, sensor, identify))
                return
            if piece is None:
                piece = sessions[session] = Piece.at(at, at if kind == CONNECT else NEVER)
            else:
                piece.ended = at
            report.events += 1
            # It was not taken before: its moment is later than those of all others.
            piece.marks = with_new_mark(piece.marks, identity)
            piece.event_count += 1
            handle(piece, at, record)
            if piece.connect is None:
                piece.note_ends(kind, at, record)

        return take

    def add(self, event: Event) -> None:
        """Take one event; if its day is finished or not asked for, count it. Raises OutOfPlace."""
        sensor, session, kind, at, day, identity, fields = event
        report = self._report
        report.events += 1
        of_day = self._days.get(day)
        if of_day is None:
            if not self._unfinished_from <= day <= self._last_day:
                if self._all_days and self._all_days.first <= day <= self._all_days.last:
                    raise OutOfPlace(f"an event of {day} lies among those of other days")
                report.events_of_other_days += 1
                return
            of_day = self._begin(day)
        sessions = of_day.get(sensor)
        if sessions is None:
            sessions = self._begin_sensor(day, sensor)
        known = sessions.get(session)
        if known is None:
            if self._only is not None:
                return
            known = sessions[session] = Piece.at(at, at if kind == CONNECT else NEVER)
        if not known.add(kind, at, identity, fields):
            report.duplicate_events += 1

    def _begin(self, day: date) -> _OfDay:
        of_day = self._days[day] = {}
        self._by_text[day.isoformat()] = {}
        for (sensor, session), heads in (self._only or {}).items():
            sessions = of_day.get(sensor) or self._begin_sensor(day, sensor)
            sessions[session] = Piece.with_heads(heads)
        return of_day

    def _begin_sensor(self, day: date, sensor: str) -> dict[str, Piece]:
        sessions = self._days[day][sensor] = {}
        if clean(sensor, SENSOR_CHARS) == sensor:  # not so the name of a folder, which may be longer
            self._by_text[day.isoformat()][sensor] = sessions
        return sessions

    def tangled(self, day: date) -> Heads:
        """The keys whose events of the day have to be read again, with all their connects.

        A connect came after events that were on either side of it. That takes a log which is out of order,
        and an id used again.
        """
        return {
            (sensor, session): known.heads
            for sensor, sessions in self._days.get(day, {}).items()
            for session, known in sessions.items()
            if known.is_tangled
        }

    def replace(self, day: date, other: Sessioniser) -> None:
        """Put what another one has gathered of the day in the place of what this one has."""
        for sensor, sessions in other._days.get(day, {}).items():
            self._days[day][sensor].update(sessions)

    def pieces(self, day: date) -> dict[Key, Piece]:
        """What is gathered of the day so far, the pieces themselves."""
        return {
            (sensor, session): piece
            for sensor, sessions in self._days.get(day, {}).items()
            for session, piece in sessions.items()
        }

    def drop(self, day: date, keys: Iterable[Key]) -> None:
        """What is gathered of these keys on the day is not given out."""
        for sensor, session in keys:
            del self._days[day][sensor][session]

    def finish(self, day: date) -> Iterator[list[Row]]:
        """Yield the pieces of each key of the day, in order, by sensor and id, as rows (see `Session.row`).

        All events of the day must have been added.
        """
        counts = self._report.days.setdefault(day, DayCounts())
        known = self._days.pop(day, {})
        text = day.isoformat()
        self._by_text.pop(text, None)
        self._unfinished_from = day + timedelta(days=1)
        for sensor in sorted(known):
            sessions = known.pop(sensor)
            for session_id in sorted(sessions):
                # Given up one by one, so that the caller's rows can take their place.
                first = sessions.pop(session_id)
                if first.others is None:
                    counts.pieces += 1
                    counts.events += first.event_count
                    yield [first.row(session_id, sensor, text)]
                    continue
                pieces = settled(
                    [piece.session(session_id, sensor, text) for piece in first.all() if piece.event_count]
                )
                counts.pieces += len(pieces)
                counts.events += sum(piece.event_count for piece in pieces)
                yield [piece.row() for piece in pieces]
