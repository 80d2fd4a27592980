"""The words of the queue: a key that is wanted, how a lookup ended, what is open; and its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Date, bindparam, text
from sqlalchemy.sql.elements import TextClause

from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import LookupStatus

CLAIM_TTL = timedelta(seconds=20)
ASKED_TTL = timedelta(seconds=60)
"""A key that is being asked about is ours for as long as its request may take, and as long again: whoever is
frozen between question and answer finds it unasked by others."""
WAKE_EVERY = timedelta(seconds=1)
"""How often who claims looks for what has slept enough, and for claims that have expired."""

UNSEEN_FOR = timedelta(days=30)
LEFT = f"left the queue: not seen for {UNSEEN_FOR.days} days, and its turn never came at this pace"
"""Why a lookup was given up whose key nobody has seen again (`leave`)."""

_MOMENTS = (
    "now", "until", "furthest", "next_attempt_at", "valid_until", "claim_expires_at", "opened_before", "since"
)  # fmt: skip
_DAYS = ("first", "last", "seen_before")


class Wanted(NamedTuple):
    """A key to be asked about, what that is worth (see `order`), the last UTC day it was seen, and the
    columns it is asked for (None: all)."""

    key: str
    priority: int = 0
    last_day: date = date(1970, 1, 1)
    purpose: str | None = None


@dataclass(frozen=True)
class Among:
    """Some keys of a service: an SQL condition on the column `key`, with its parameters."""

    condition: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


EVERY_KEY = Among("true")


@dataclass(frozen=True)
class Outcome:
    """How one claimed lookup ended.

    An answer carries `valid_until`; anything else carries `next_attempt_at`, when it may be tried again.
    """

    key: str
    status: LookupStatus
    valid_until: datetime | None = None
    next_attempt_at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True)
class OpenLookups:
    """The open rows among some keys: how many are due, being asked right now, or waiting for their time."""

    due: int
    claimed: int
    later: int
    next_attempt_at: datetime | None

    @property
    def total(self) -> int:
        return self.due + self.claimed + self.later


class News(NamedTuple):
    """A lookup that ended at `ended_at`."""

    service: str
    key: str
    ended_at: datetime


class LastStatus(NamedTuple):
    """How the latest lookup of a key ended, and why it is not answered (None: nothing was said of that)."""

    status: LookupStatus
    detail: str | None = None


@lru_cache
def queue_sql(statement: str) -> TextClause:
    """A statement on `lookups`, whose moments and days are bound as such by their names."""
    clause = text(statement)
    moments = [bindparam(name, type_=UtcDateTime()) for name in _MOMENTS if f":{name}" in statement]
    days = [bindparam(name, type_=Date()) for name in _DAYS if f":{name}" in statement]
    return clause.bindparams(*moments, *days)
