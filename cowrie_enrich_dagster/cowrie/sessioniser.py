"""Events in any order to pieces of sessions, day by day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from cowrie_enrich_dagster.vocabulary import Days

from .events import ID_CHARS, SENSOR_CHARS, SHALLOW_BYTES, Event, Take, identity_of, parse_event
from .fields import clean
from .kinds import CONNECT, HANDLERS
from .packed import MarkSet, with_new_mark
from .piece import NEVER, Piece
from .read_report import DayCounts, ReadReport
from .sessions import Row
from .timeline import settled


class Again(NamedTuple):
    """What is known of a key that is read again: its connects, and whether its repetitions are counted."""

    heads: Collection[str]
    is_counted: bool


Key = tuple[str, str]
"""Sensor and session id."""
Tangled = Mapping[Key, Again]
_OfDay = dict[str, dict[str, Piece]]
"""By sensor and id."""


class OutOfPlace(Exception):
    """An event lies where no event of its day should be; the message names the day."""


class Sessioniser:
    """Gathers the events of the UTC days `first_day` to `last_day` into pieces of sessions.

    What one id on one sensor did on a day is parted at each connect. What lies on other days changes no
    piece: a day comes out the same whether it is read alone or with others.

    An event that is there twice counts once. While each comes later than those before it of its key, none
    can be, and nothing is kept to tell by. The first that does not leaves its key to be read again (see
    `tangled`), and from then on what tells events apart is kept of every key that comes.

    Memory: the pieces of the days that are not finished yet. Counts go to `report`.
    """

    def __init__(
        self,
        first_day: date,
        last_day: date,
        report: ReadReport,
        only: Tangled | None = None,
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
        self._marks = only is not None
        self._tangled: dict[date, set[Key]] = {}
        self._repeated = 0  # events of `only`, and not counted before
        for (sensor_name, session), piece in (known or {}).items():
            of_day = self._days.get(first_day) or self._begin(first_day)
            (of_day.get(sensor_name) or self._begin_sensor(first_day, sensor_name))[session] = piece

    def taker(self, sensor: str) -> Take:
        """What takes the decoded records of a log whose events may not name their `sensor`.

        It raises InvalidEvent and OutOfPlace, and does what `add` of a parsed event does. Nearly all events
        are of a day and a sensor met before, have a moment as Cowrie writes it, and come in the order of
        time; for these it takes fewer steps.
        """
        add, report, by_text = self.add, self._report, self._by_text
        moment, takes_new = datetime.fromisoformat, self._only is None

        def take(record: Any, size: int) -> None:
            marks: MarkSet | None
            try:
                stamp = record["timestamp"]
                sessions = by_text[stamp[:10]][record["sensor"]]
                session, kind = record["session"], record["eventid"]
                handle = HANDLERS[kind]
                piece = sessions.get(session)
                at = stamp[:26]
                usual = stamp[10:20:9] == "T." and stamp[26:] == "Z" and moment(at).tzinfo is None
                if piece is None:
                    usual = usual and len(session) <= ID_CHARS and session.isalnum()
                    if usual and not takes_new:
                        return
                    marks = b"" if self._marks else None
                else:
                    usual = usual and at > piece.ended and piece.others is None and kind != CONNECT
                    marks = piece.marks
                if usual and (marks is not None or size > SHALLOW_BYTES):
                    identity = identity_of(record)
                    marks = None if marks is None else with_new_mark(marks, identity)
            except (AttributeError, KeyError, TypeError, ValueError):
                usual = False
            if not usual:
                add(parse_event(record, sensor))
                return
            if piece is None:
                piece = sessions[session] = Piece(at, at if kind == CONNECT else NEVER, marks)
            else:
                piece.ended = at
                piece.marks = marks
            report.events += 1
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
            head, marks = at if kind == CONNECT else NEVER, b"" if self._marks else None
            known = sessions[session] = Piece(at, head, marks)
        key = (sensor, session)
        if not known.add(kind, at, identity, fields):
            report.duplicate_events += 1
            self._repeated += self._only is not None and not self._only[key].is_counted
        if known.is_tangled:
            self._tangled.setdefault(day, set()).add(key)
            self._marks = True

    def _begin(self, day: date) -> _OfDay:
        of_day = self._days[day] = {}
        self._by_text[day.isoformat()] = {}
        for (sensor, session), again in (self._only or {}).items():
            sessions = of_day.get(sensor) or self._begin_sensor(day, sensor)
            sessions[session] = Piece.with_heads(again.heads)
        return of_day

    def _begin_sensor(self, day: date, sensor: str) -> dict[str, Piece]:
        sessions = self._days[day][sensor] = {}
        if clean(sensor, SENSOR_CHARS) == sensor:  # not so the name of a folder, which may be longer
            self._by_text[day.isoformat()][sensor] = sessions
        return sessions

    def tangled(self, day: date) -> Tangled:
        """The keys whose events of the day have to be read again, with all their connects.

        An event of theirs did not come in order: it may repeat another one, or be a connect that came after
        events on either side of it.
        """
        of_day, keys = self._days.get(day, {}), self._tangled.get(day, ())
        pieces = {(sensor, session): of_day[sensor][session] for sensor, session in keys}
        return {key: Again(piece.heads, piece.marks is not None) for key, piece in pieces.items()}

    def replace(self, day: date, other: Sessioniser) -> None:
        """Put what another one has gathered of the day in the place of what this one has."""
        for sensor, sessions in other._days.get(day, {}).items():
            self._days[day][sensor].update(sessions)
        self._report.duplicate_events += other._repeated

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
        self._tangled.pop(day, None)
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
