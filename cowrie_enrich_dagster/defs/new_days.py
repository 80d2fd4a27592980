"""Which days of the logs are to be enriched now, given what was asked for before: the rules, without Dagster.

- A day that was not seen before, or that a file holds which did not before, is asked for at once.
- A day that merely grows is asked for when ENRICH_EVERY_MINUTES have passed since it was asked for last, and
  once more when it is over.
- The day before such a day is asked for along with it where one of its sessions may end in what is new: with
  a new day or file, with growth during the first hour of the day, and when the day is over (or grows after
  that). So an ordinary session that crosses midnight is whole within the hour, and any within a day.
- A day on which an unfinished run works waits for that run, and only such a day.
"""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import NamedTuple

from cowrie_enrich_dagster.enrichment.ingest import DayMark

CROSSING = timedelta(hours=1)
_DAY = timedelta(days=1)
SHORT = 8  # hex digits: of a day that is settled one change in 4,000,000,000 is taken for none
_NOTHING = "-" * SHORT


class Asked(NamedTuple):
    """The marks with which a day was asked for last, and when (seconds since the epoch)."""

    files: str
    extent: str
    at: int


@dataclass
class Cursor:
    """What was asked for. `settled` days are over, were asked for after that, and not lately.

    Of a settled day the first digits of `DayMark.extent` are kept, so that a cursor takes 10 bytes a day: it
    is written with each tick. `owed` are days to be asked for when the run that works on them is finished.
    """

    settled: dict[date, str] = field(default_factory=dict)
    recent: dict[date, Asked] = field(default_factory=dict)
    owed: set[date] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """The inverse of `dump`; a text of the former form settles every day, any other is as none."""
        try:
            plain = json.loads(text or "{}")
            if "settled" not in plain:
                return cls({date.fromisoformat(day): mark[:SHORT] for day, mark in plain.items()})
            settled = {
                date.fromisoformat(f"{month}-{number + 1:02}"): mark
                for month, marks in plain["settled"].items()
                for number in range(len(marks) // SHORT)
                if (mark := marks[number * SHORT : (number + 1) * SHORT]) != _NOTHING
            }
            recent = {date.fromisoformat(day): Asked(*asked) for day, asked in plain["recent"].items()}
            return cls(settled, recent, set(map(date.fromisoformat, plain["owed"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def dump(self) -> str:
        """As text: the settled days of a month in one string."""
        months = sorted({(day.year, day.month) for day in self.settled})
        settled = {
            f"{year}-{month:02}": "".join(
                self.settled.get(date(year, month, number + 1), _NOTHING)
                for number in range(monthrange(year, month)[1])
            )
            for year, month in months
        }
        recent = {str(day): asked for day, asked in sorted(self.recent.items())}
        return json.dumps({"settled": settled, "recent": recent, "owed": sorted(map(str, self.owed))})


@dataclass
class Decision:
    """The days to ask for; those that wait, until when; those that wait for a run; what to remember."""

    cursor: Cursor
    ask: set[date] = field(default_factory=set)
    waiting: dict[date, datetime] = field(default_factory=dict)
    busy: set[date] = field(default_factory=set)


def decide(
    found: Mapping[date, DayMark], known: Cursor, now: datetime, every: timedelta, busy: set[date]
) -> Decision:
    """What to ask for of the days `found` in the logs; unfinished runs work on the days `busy`."""
    decision = Decision(Cursor(dict(known.settled), dict(known.recent), set()))
    owed = known.owed & found.keys()
    for day, mark in found.items():
        is_due, with_day_before = _judge(day, mark, known, now, every, decision.waiting)
        if is_due and day in busy:
            decision.busy.add(day)
            continue
        if is_due:
            decision.ask.add(day)
        if is_due or with_day_before:
            _remember(decision.cursor, day, mark, now)
        if with_day_before and day - _DAY in found:
            owed.add(day - _DAY)
    decision.cursor.owed = (owed & busy) - decision.ask
    decision.busy |= decision.cursor.owed
    for day in owed - busy - decision.ask:
        decision.ask.add(day)
        decision.waiting.pop(day, None)
        if day in decision.cursor.recent:
            _remember(decision.cursor, day, found[day], now)
    _settle(decision.cursor, now, every)
    return decision


def _judge(
    day: date, mark: DayMark, known: Cursor, now: datetime, every: timedelta, waiting: dict[date, datetime]
) -> tuple[bool, bool]:
    """Whether the day is to be asked for, and whether the day before is."""
    begin = datetime.combine(day, time(), timezone.utc)
    end = begin + _DAY
    asked = known.recent.get(day)
    if asked is None:
        is_due = now < end or known.settled.get(day) != mark.extent[:SHORT]
        return is_due, is_due
    asked_at = datetime.fromtimestamp(asked.at, timezone.utc)
    has_grown = mark.extent != asked.extent
    if mark.files != asked.files:
        return True, True
    if asked_at < end <= now:
        return has_grown, True
    if has_grown and now < asked_at + every:
        waiting[day] = asked_at + every if now >= end else min(asked_at + every, end)
        return False, False
    return has_grown, has_grown and not begin + CROSSING <= now < end


def _remember(cursor: Cursor, day: date, mark: DayMark, now: datetime) -> None:
    cursor.settled.pop(day, None)
    cursor.recent[day] = Asked(mark.files, mark.extent, int(now.timestamp()))


def _settle(cursor: Cursor, now: datetime, every: timedelta) -> None:
    for day, asked in list(cursor.recent.items()):
        at = datetime.fromtimestamp(asked.at, timezone.utc)
        if datetime.combine(day + _DAY, time(), timezone.utc) <= at <= now - every:
            del cursor.recent[day]
            cursor.settled[day] = asked.extent[:SHORT]
