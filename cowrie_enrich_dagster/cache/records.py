"""What a stored record tells, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class BadRecord(Exception):
    """A record that is not an answer; the message says why, without quoting it."""


@dataclass(frozen=True)
class Told:
    """An answer about `key`; without `payload` nothing is known. `fetched_at`: where the record says it."""

    key: str
    payload: dict[str, Any] | None
    fetched_at: datetime | None = None


Reading = Callable[[str, str | None, Any], Told]
"""Turns the record of a service, about a key (None: about what it names), into what it tells.

Raises `BadRecord`.
"""


def as_it_is(service: str, key: str | None, record: Any) -> Told:
    """The reading of records that are the services' own answers."""
    if not isinstance(record, dict):
        raise BadRecord(f"JSON {type(record).__name__} instead of an object")
    if key is None:
        raise BadRecord("it names no key")
    refuse_blank(record)
    return Told(key, record)


def refuse_blank(record: Any) -> None:
    """Raise `BadRecord` for a record without a value in it: the reference wrote its failures that way."""
    if all(value in (None, "") for value in leaves(record)):
        raise BadRecord("blank: a failure written as if it were an answer")


def leaves(record: Any) -> Iterator[Any]:
    """Every value that is not itself an object or a list."""
    pending = [record]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        else:
            yield value
