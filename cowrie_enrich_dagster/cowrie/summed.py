"""The sums that events of a session are added up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .deeds import Deeds
from .packed import ValueSet

First = tuple[Any, ...]
"""A moment, then what was logged at it; of several the earliest is kept, of equal ones the smallest."""


@dataclass(slots=True, eq=False)
class Doings:
    """What was done in a session and is known of its client: of most nothing, they only come and go."""

    login_failures: int = 0
    login_successes: int = 0
    commands: int = 0
    commands_failed: int = 0
    downloads: int = 0
    uploads: int = 0
    tunnel_requests: int = 0
    tunnel_data: int = 0
    attempt: First | None = None
    success: First | None = None
    client_version: First | None = None
    hassh: First | None = None
    arch: First | None = None
    terminal: First | None = None
    ja4h: First | None = None
    ja4: First | None = None
    deeds: Deeds | None = None
    passwords: ValueSet[bytes] = ()


@dataclass(slots=True, eq=False)
class Summed:
    """What events say of their session, whatever the order they come in. Moments are texts, as in `Event`."""

    began: str
    ended: str
    event_count: int = 0
    has_connect: bool = False
    connect: First | None = None  # address, ports and protocol from an event that had them all
    ends: dict[str, First] | None = None  # else each of them from the best event that had it
    closed_at: str | None = None
    closed: First | None = None
    doings: Doings | None = None
