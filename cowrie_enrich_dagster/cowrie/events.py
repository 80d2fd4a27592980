"""What counts as an event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, NamedTuple

import orjson

from .fields import clean
from .timestamps import parse_moment

ID_CHARS = 64
SENSOR_CHARS = 128
SHALLOW_BYTES = 500
"""No JSON that is shorter is nested too deep for `identity_of`."""
UNKNOWN_SIZE = 1 << 62
"""Of a value that need not be what orjson decodes of as many bytes."""
Take = Callable[[Any, int], None]
"""Takes one decoded JSON value, and of how many bytes it was decoded at most; raises InvalidEvent."""
_SORTED = orjson.OPT_SORT_KEYS

# The numbers in Kippo's output plugins and in Cowrie's of 2015 (listed at the head of its core/output.py), by
# the names that took their place. 5 was a command that was found, 6 one that was not: no `input` came before.
_NUMBERED = {
    1: "session.connect",
    2: "login.success",
    3: "login.failed",
    4: "log.open",
    5: "command.input",
    6: "command.input.failed",
    7: "session.file_download",
    8: "session.input",
    9: "client.version",
    10: "client.size",
    11: "session.closed",
    12: "log.closed",
    13: "client.var",
    14: "direct-tcpip.request",
    15: "direct-tcpip.data",
    16: "client.fingerprint",
}
LEGACY_KINDS = {
    f"{maker}{number:04}": f"cowrie.{kind}" for maker in ("KIPP", "COW") for number, kind in _NUMBERED.items()
}
"""Event ids of 2015 -> those since."""


class InvalidEvent(Exception):
    """A JSON value is not an event; the message names the field."""


class Event(NamedTuple):
    """One valid event: `at` is its moment in UTC as text, `day` its date, `identity` a hash of the content.

    `at` is `2025-11-01T10:00:00.123456`: so moments are in order as texts are.

    `identity` has 64 bits and is the same for equal content within one process. It is Python's hash of bytes,
    keyed at random for each process, so attackers cannot write two events that share it.
    """

    sensor: str
    session: str
    kind: str
    at: str
    day: date
    identity: int
    fields: dict[str, Any]


def is_cowries(record: dict[str, Any]) -> bool:
    """Whether a decoded object looks like an event of Cowrie's, valid or not."""
    kind = record.get("eventid")
    return (
        type(kind) is str
        and (kind.startswith("cowrie.") or kind in LEGACY_KINDS)
        and type(record.get("session")) is str
        and type(record.get("timestamp")) is str
    )


_new = tuple.__new__  # a third of the time of the constructor, for every line of a log
_days: dict[str, date] = {}  # "2025-11-01" -> its date; at most one entry per day of the accepted years


def parse_event(record: object, sensor: str) -> Event:
    """Check one decoded JSON value; `sensor` is used if the event does not name its own.

    Raises InvalidEvent.
    """
    if type(record) is not dict:
        raise InvalidEvent("not a JSON object")
    kind = record.get("eventid")
    if type(kind) is not str or not kind:
        raise InvalidEvent("eventid: missing, empty or not a string")
    kind = LEGACY_KINDS.get(kind, kind)
    session = record.get("session")
    if type(session) is not str or not session:
        raise InvalidEvent("session: missing, empty or not a string")
    if len(session) > ID_CHARS or not session.isalnum():
        session = _session_id(session)
    stamp = record.get("timestamp")
    if type(stamp) is not str:
        raise InvalidEvent("timestamp: missing or not a string")
    try:
        # The form of every current Cowrie, of a day met before: half the time of the general way.
        if stamp[10:20:9] != "T." or stamp[26:] != "Z":
            raise ValueError
        day = _days[stamp[:10]]
        at = stamp[:26]
        if datetime.fromisoformat(at).tzinfo is not None:
            raise ValueError
    except (KeyError, ValueError):
        at, day = _any_moment(stamp)
    try:
        identity = identity_of(record)
    except TypeError:
        raise InvalidEvent("nested too deep") from None
    own = record.get("sensor")
    if (own != sensor or len(sensor) > SENSOR_CHARS) and type(own) is str and own:
        sensor = clean(own, SENSOR_CHARS) or sensor
    return _new(Event, (sensor, session, kind, at, day, identity, record))


def identity_of(record: dict[str, Any]) -> int:
    """See `Event`. Raises TypeError for what is nested deeper than 254 levels."""
    return hash(orjson.dumps(record, None, _SORTED))


def _session_id(session: str) -> str:
    # Clipping could make two sessions one, so an id that is too long is refused.
    cleaned = clean(session, ID_CHARS + 1)
    if not cleaned or len(cleaned) > ID_CHARS:
        raise InvalidEvent(f"session: longer than {ID_CHARS} characters, or without any")
    return cleaned


def _any_moment(stamp: str) -> tuple[str, date]:
    at = parse_moment(stamp)
    if at is None:
        raise InvalidEvent("timestamp: not a moment between the years 2000 and 2100")
    return at.isoformat("T", "microseconds"), _days.setdefault(at.date().isoformat(), at.date())
