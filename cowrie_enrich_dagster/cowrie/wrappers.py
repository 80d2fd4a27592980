"""Records of collectors of logs: where in them the one event is that they carry."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from .events import InvalidEvent, is_cowries
from .salvage import split_records

_MAX_STEPS = 3
# Fields that hold a line as it was read, of docker and fluentd, filebeat and logstash, ECS, Splunk (files and
# its collector's), journald, Loki, CloudWatch, Graylog, Google.
_TEXTS = (
    *("log", "message", "event.original", "original", "_raw", "event", "MESSAGE", "line"),
    *("@message", "full_message", "short_message", "textPayload"),
)
# What else is in the records of those who ship lines. A field of a honeypot's own record, which may be called
# `message` as well, can hold what an attacker typed.
_SHIPPERS = frozenset(
    {"@timestamp", "@version", "stream", "agent", "beat", "ecs", "kubernetes", "container_id"}
    | {"container_name", "_source", "_index", "result", "_raw", "_time", "__REALTIME_TIMESTAMP", "labels"}
    | {"sourcetype", "source_type", "@message", "@logStream", "logStreamName", "short_message"}
    | {"logName", "insertId"}
)
_FLUENT_BITS = {"date", "log"}
"""All that Fluent Bit puts into its records of lines."""


class Step(NamedTuple):
    """From a record to the value of one of its fields: an object, or a text that holds one."""

    key: str
    is_text: bool


def way_to_event(record: Any) -> tuple[Step, ...] | None:
    """The steps from a record to the event of Cowrie's in it, none if it is one; None if there is none.

    What has an `eventid` of its own is never a wrapper of what one of its fields holds.
    """
    return _way(record, _MAX_STEPS, shipped=False)


def _way(record: Any, steps: int, *, shipped: bool) -> tuple[Step, ...] | None:
    if type(record) is not dict:
        return None
    if "eventid" in record:
        return () if is_cowries(record) else None
    if not steps:
        return None
    shipped = shipped or len(record) == 1 or record.keys() == _FLUENT_BITS or not _SHIPPERS.isdisjoint(record)
    for key, value in record.items():
        way = _way(value, steps - 1, shipped=shipped)
        if way is not None:
            return (Step(key, is_text=False), *way)
    for key in _TEXTS if shipped else ():
        value = record.get(key)
        if type(value) is str and value.lstrip().startswith("{"):
            try:
                way = _way(_object(key, value), steps - 1, shipped=shipped)
            except InvalidEvent:
                continue
            if way is not None:
                return (Step(key, is_text=True), *way)
    return None


def unwrap(record: Any, way: tuple[Step, ...]) -> Any:
    """What lies at the end of the way, or the first thing on it with an `eventid`. Raises InvalidEvent."""
    for key, is_text in way:
        if type(record) is not dict:
            raise InvalidEvent("not a JSON object")
        if "eventid" in record:
            return record
        value = record.get(key)
        if is_text:
            if type(value) is not str:
                raise InvalidEvent(f"{key}: missing or not a string")
            value = _object(key, value)
        elif type(value) is not dict:
            raise InvalidEvent(f"{key}: missing or not a JSON object")
        record = value
    return record


def _object(key: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        pieces = list(split_records(text))
        if len(pieces) != 1 or pieces[0].record is None:
            reason = pieces[0].reason if pieces else "empty"
            raise InvalidEvent(f"{key}: {reason}") from None
        return pieces[0].record
