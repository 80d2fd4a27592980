"""What a page is: one vendor's API as the simulator imitates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Protocol

from cowrie_enrich_dagster.simulator.model import HeaderStyle

REFUSED_KEY = "refused-key"
"""The API key that every page refuses; any other will do."""


@dataclass(frozen=True)
class Request:
    """An HTTP request below the service's prefix: `path` begins with `/`, still percent-encoded."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Page(Protocol):
    """One vendor's API. What it says depends on the request alone, so that reruns see the same world.

    A module of this package whose name has no leading underscore offers its page as `PAGE`.
    """

    name: str
    """The service's name, and the path prefix it is served under."""
    decoy: str
    """A key that nobody asks about; the fault `wrong_key` answers about it."""
    limit_headers: HeaderStyle
    """How the vendor tells what is left of a limit."""

    def keys(self, request: Request) -> tuple[str, ...]:
        """The keys that a request asks about; none where it is not a lookup."""

    def refusal(self, request: Request) -> Reply | None:
        """What a caller gets who does not say who it is as the vendor wants, before any limit is counted."""

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        """The vendor's answer to a request about these keys."""
