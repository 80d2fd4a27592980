"""Events in any order to pieces of sessions, day by day."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta

from cowrie_enrich_dagster.vocabulary import Days

from .events import Event
from .kinds import CONNECT
from .piece import NEVER, Piece
from .read_report import DayCounts, ReadReport
from .sessions import Row
from .timeline import settled

Key = tuple[str, str]
"""Sensor and session id."""
Heads = Mapping[Key, Collection[str]]


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
        self._days: dict[date, dict[Key, Piece]] = {first_day: dict(known)} if known else {}

    def add(self, event: Event) -> None:
        """Take one event; if its day is finished or not asked for, count it. Raises OutOfPlace."""
        sensor, session, kind, at, day, identity, fields = event
        report = self._report
        report.events += 1
        pieces = self._days.get(day)
        if pieces is None:
            if not self._unfinished_from <= day <= self._last_day:
                if self._all_days and self._all_days.first <= day <= self._all_days.last:
                    raise OutOfPlace(f"an event of {day} lies among those of other days")
                report.events_of_other_days += 1
                return
            pieces = self._days[day] = self._beforehand()
        key = (sensor, session)
        known = pieces.get(key)
        if known is None:
            if self._only is not None:
                return
            known = pieces[key] = Piece.at(at, at if kind == CONNECT else NEVER)
        if not known.add(kind, at, identity, fields):
            report.duplicate_events += 1

    def _beforehand(self) -> dict[Key, Piece]:
        return {key: Piece.with_heads(heads) for key, heads in (self._only or {}).items()}

    def tangled(self, day: date) -> Heads:
        """The keys whose events of the day have to be read again, with all their connects.

        A connect came after events that were on either side of it. That takes a log which is out of order,
        and an id used again.
        """
        return {key: known.heads for key, known in self.pieces(day).items() if known.is_tangled}

    def replace(self, day: date, other: Sessioniser) -> None:
        """Put what another one has gathered of the day in the place of what this one has."""
        self._days[day].update(other.pieces(day))

    def pieces(self, day: date) -> dict[Key, Piece]:
        """What is gathered of the day so far, the pieces themselves."""
        return self._days.get(day, {})

    def finish(self, day: date) -> Iterator[list[Row]]:
        """Yield the pieces of each key of the day, in order, by sensor and id, as rows (see `Session.row`).

        All events of the day must have been added.
        """
        counts = self._report.days.setdefault(day, DayCounts())
        known = self._days.pop(day, {})
        self._unfinished_from = day + timedelta(days=1)
        text = day.isoformat()
        for key in sorted(known):
            first = known.pop(key)  # given up one by one, so that the caller's rows can take their place
            sensor, session_id = key
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
