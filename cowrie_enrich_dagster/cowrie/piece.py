"""What is known of a session on one day, while its events still come in, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from .kinds import CONNECT, END_FIELDS, HANDLERS
from .packed import with_mark
from .sessions import Row, Session
from .summed import First, Summed
from .told import end_of_row

NEVER = ""
"""Before every moment."""
_NOT_YET = "~"
"""After every moment."""
_TUNNEL_KINDS = ("cowrie.direct-tcpip.", "cowrie.tunnelproxy-tcpip.", "cowrie.tcpip-forward")
_NONE: First = (None, None, None)


class Piece(Summed):
    """The events of one id on one UTC day, from one connect to the next, summed up; they come in any order.

    Moments are texts, as in `Event`. `head` is when it connected; `NEVER`: it holds what came before any
    connect of the day. The piece that was there first stands for the `others` of its id and day, too.
    `marks` tell the events of all of them apart; None: none are kept. If it `is_tangled` all of them have to
    be read again: an event cannot be told from a repetition, or what is summed up would have to be parted.
    Memory: some hundred bytes, 8 to 16 for each event that is marked, and the deeds, which are bounded.
    """

    __slots__ = ()
    others: list[Piece] | None

    @classmethod
    def with_heads(cls, heads: Iterable[str]) -> Piece:
        """An empty one for what comes before these connects, with empty others for each of them."""
        first, *others = (cls(_NOT_YET, head, b"") for head in (NEVER, *heads))
        for piece in (first, *others):
            piece.ended = NEVER
        first.others = others
        return first

    def add(self, kind: str, at: str, identity: int, fields: dict[str, Any]) -> bool:
        """Take one event of this day; False, and nothing changes, if its mark tells that it was before."""
        if self.marks is not None:
            marks = with_mark(self.marks, identity)
            if marks is None:
                return False
            self.marks = marks
        elif at <= max((piece.ended for piece in self.all() if piece.event_count), default=NEVER):
            self.is_tangled = True
        home = self
        if self.others is not None or at < self.head or (kind == CONNECT and at != self.head):
            home = self._home_of(kind, at)
        home.event_count += 1
        if at > home.ended:
            home.ended = at
        if at < home.began:
            home.began = at
        handle = HANDLERS.get(kind)
        if handle is not None:
            handle(home, at, fields)
        if home.connect is None:
            home.note_ends(kind, at, fields)
        return True

    @property
    def heads(self) -> list[str]:
        """When it and the others connected."""
        return [piece.head for piece in self.all() if piece.head != NEVER]

    def all(self) -> list[Piece]:
        """It and the others, in time order."""
        return sorted([self, *(self.others or ())], key=lambda piece: piece.head)

    def _home_of(self, kind: str, at: str) -> Piece:
        """The one of all pieces that an event belongs to, which may be new."""
        before = [piece for piece in self.all() if piece.head <= at]
        home = before[-1] if before else None
        if kind != CONNECT:
            return home or self._other(at, NEVER)
        if home is None:
            return self._other(at, at)
        if home.head == at:
            return home
        if at <= home.began:  # whatever came before it in the log came after it in time
            home.head = at
            return home
        # What is summed up already cannot be parted: it is read again, now that all connects are known.
        self.is_tangled |= at <= home.ended
        return self._other(at, at)

    def _other(self, at: str, head: str) -> Piece:
        other = Piece(at, head, None)
        self.others = [*(self.others or ()), other]
        return other

    def row(self, session_id: str, sensor: str, day: str) -> Row:
        """It as a row of `Session`'s fields, given the rest of what is known about it."""
        connect, closed_at, doings = self.connect, self.closed_at, self.doings
        if connect is not None:
            _, src_ip, src_port, dst_port, protocol = connect
        else:
            ends = self.ends or {}
            src_ip, src_port, dst_port, protocol = (ends.get(name, _NONE)[2] for name in END_FIELDS)
        row = (
            session_id,
            sensor,
            day,
            src_ip,
            src_port,
            dst_port,
            protocol,
            self.began.replace("T", " "),
            self.ended.replace("T", " "),
            None if closed_at is None else closed_at.replace("T", " "),
            self._length() if self.closed is None else self.closed[1],
            1 if self.has_connect else 0,
            0 if closed_at is None else 1,
            self.event_count,
        )
        return row if doings is None else row + end_of_row(doings)

    def session(self, session_id: str, sensor: str, day: str) -> Session:
        """It as a session."""
        return Session.of_row(self.row(session_id, sensor, day))

    def _length(self) -> int:
        """Milliseconds from the first event to the last."""
        span = datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.began)
        return round(span / timedelta(milliseconds=1))

    def note_ends(self, kind: str, at: str, fields: dict[str, Any]) -> None:
        """Take note of the addresses, ports and protocol that an event tells, while no connect has all."""
        # Connect events come first whenever they were logged. A tunnel's events have its ports, which the
        # client claims; their address is the session's, but only Cowrie's output puts it there.
        is_tunnel = kind.startswith(_TUNNEL_KINDS)
        rank = 0 if kind == CONNECT else 2 if is_tunnel else 1
        for name, read in END_FIELDS.items():
            if is_tunnel and name in ("src_port", "dst_port"):
                continue
            value = read(fields)
            if value is not None:
                self._note_end(name, (rank, at, value))

    def _note_end(self, name: str, first: First) -> None:
        if self.ends is None:
            self.ends = {}
        known = self.ends.get(name)
        if known is None or first < known:
            self.ends[name] = first
