"""The sums that events of a session are added up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .deeds import Deeds
from .packed import MarkSet, ValueSet

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


class Summed:
    """What events say of their session, whatever the order they come in. Moments are texts, as in `Event`.

    `connect` is address, ports and protocol from an event that had them all, else `ends` has each of them
    from the best event that had it. `head`, `marks`, `others` and what follows are as in `Piece`.
    """

    __slots__ = (
        *("began", "ended", "event_count", "has_connect", "connect", "ends", "closed_at", "closed", "doings"),
        *("head", "marks", "others", "is_tangled"),
    )

    # Written out, and not a dataclass's: there is one for each session, made in half the time.
    def __init__(self, at: str, head: str, marks: MarkSet | None) -> None:
        """An empty one whose first event is of the moment `at`."""
        self.began = self.ended = at
        self.event_count = 0
        self.has_connect = self.is_tangled = False
        self.connect: First | None = None
        self.ends: dict[str, First] | None = None
        self.closed_at: str | None = None
        self.closed: First | None = None
        self.doings: Doings | None = None
        self.head = head
        self.marks = marks
        self.others: list[Any] | None = None
