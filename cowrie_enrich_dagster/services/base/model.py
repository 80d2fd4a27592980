"""What a service is: the protocol all of them share, and what they are asked with and answer."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import requests

from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject


@dataclass(frozen=True)
class Window:
    """A quota of `limit` requests in one calendar minute, day or month (UTC)."""

    name: Literal["minute", "day", "month"]
    limit: int


@dataclass(frozen=True)
class Limits:
    """What a service allows by default: steady `rate` (requests a second), `burst`, quota `windows`.

    `source` names the page or statement that the numbers come from, and the day on which it was read.
    `used_up` is the word in the body of a refusal by which the service says that a day's quota, not the pace,
    is the reason; empty where it has none.
    """

    rate: float
    source: str
    burst: int = 1
    windows: tuple[Window, ...] = ()
    used_up: str = ""

    def by_window(self) -> dict[str, int]:
        """The requests allowed in each window, by its name."""
        return {window.name: window.limit for window in self.windows}


@dataclass(frozen=True)
class ServiceConfig:
    """Where and as whom a service is asked. `contact` is the e-mail address put into the User-Agent.

    `database` is the file, or the folder of files, that a service without an API reads.
    """

    api_url: str
    api_key: str | None = field(default=None, repr=False)
    contact: str | None = None
    timeout_s: float = 30.0
    database: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What one service said about one key.

    `payload` is the service's own JSON for FOUND (None otherwise); `detail` says what went wrong.
    """

    status: LookupStatus
    payload: dict[str, Any] | None = None
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """A payload reduced to the columns that all services share (ECS meaning in brackets)."""

    as_number: int | None = None  # source.as.number
    as_organization: str | None = None  # source.as.organization.name
    country_iso_code: str | None = None  # source.geo.country_iso_code
    network: str | None = None  # CIDR the address belongs to
    is_scanner: bool | None = None  # known benign mass scanner
    is_proxy: bool | None = None
    is_vpn: bool | None = None
    is_tor: bool | None = None
    classification: str | None = None  # the service's own word: benign, suspicious, malicious, unknown
    abuse_score: int | None = None  # 0 (nothing against it) to 100 (certainly abusive)
    reports: int | None = None  # how often the service's contributors reported it
    malicious: int | None = None  # engines that call a file malicious
    suspicious: int | None = None  # engines that call it suspicious
    file_label: str | None = None  # the name most of them give it
    first_seen: date | None = None
    last_seen: date | None = None


class Service(Protocol):
    """One intelligence service. Implementations are stateless; one short file each.

    A module of this package whose name has no leading underscore offers its service as `SERVICE`.
    """

    name: str
    rank: int
    """Place among the services, lowest first; where two disagree on a shared column, it is believed."""
    subject: Subject
    ttl: timedelta
    not_found_ttl: timedelta
    limits: Limits
    default_url: str
    needs_key: bool
    """Whether it is not asked at all until a key is configured."""
    limit_statuses: frozenset[int]
    """HTTP statuses by which this service says "slow down" (429 everywhere; DShield's 401 too)."""
    auth_statuses: frozenset[int]
    """HTTP statuses by which it refuses our key, plan or User-Agent: asking on with the same is useless."""
    batch_size: int
    """How many keys one request may carry."""
    is_free: bool
    """Whether an address more costs (nearly) no call: it is one of hundreds in a request that no quota
    counts, or is looked up in a file. What spares calls, such as a list of scanners, then spares nothing."""
    own_moment: tuple[str, ...]
    """Where in an answer stands when its maker last touched it, which says nothing about the key; or ()."""
    tells: frozenset[str]
    """The facts (fields of `Facts`; `breached` of passwords) that its answers may tell."""

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """Ask once (one request) about up to `batch_size` keys; every key gets an Answer.

        `http` paces what is sent; a service that does not speak HTTP takes its slot from it (see `gate_of`).
        Raises ValueError, with nothing sent, for a key that is not of its `subject`, and
        `requests.RequestException`: `HTTPError` (with its response) for a status that says nothing about the
        keys (limits, refused keys, server faults), others when the service could not be reached.
        """

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """What a payload that was kept elsewhere says about `key`, read as if it had just been sent.

        Raises `InvalidAnswer` for one that is no answer about it, ValueError for what is no key.
        """

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """Reduce a FOUND payload to the shared columns; never raises on odd shapes."""


class InvalidAnswer(Exception):
    """A body that is not what the service documents; the message says how, without quoting the body."""


@runtime_checkable
class Gate(Protocol):
    """What a session offers to requests that do not go through it."""

    def slot(self) -> AbstractContextManager[None]:
        """Wait for the right to send one request; the block connects and sends it."""

    def watched(self, connection: socket.socket) -> AbstractContextManager[None]:
        """While the block lasts, a stop of the run breaks the connection."""


def gate_of(http: requests.Session) -> Gate:
    """The session as what paces requests that are not HTTP.

    Raises TypeError for a session that is no `Gate`: nothing is ever sent unpaced.
    """
    if not isinstance(http, Gate):
        raise TypeError(f"{type(http).__name__} paces HTTP only: it has no slot()")
    return http
