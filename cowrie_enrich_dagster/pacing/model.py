"""The words of pacing: what we intend (`Policy`), what is known (`State`), what is decided (`Grant`, `Wait`).

Every moment is in seconds since the epoch on the database's clock, every duration in seconds, every rate in
requests a second.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

WINDOW_SECONDS: Mapping[str, int] = {"minute": 60, "day": 86_400, "month": 31 * 86_400}
"""The calendar windows (UTC) that are counted, and how long each lasts at most."""

MAX_HOLD_S = 31 * 86_400.0
"""No answer of a server, and no clock that once was wrong, stops a service for longer than this."""


BALANCE = "balance"
"""The `HeaderQuota.window` of what is left of a contract, whose end no header tells."""


class Reason(str, Enum):
    """Why a request may not be sent yet."""

    SPACING = "spacing"
    MINUTE_WINDOW = "minute_window"
    DAY_WINDOW = "day_window"
    MONTH_WINDOW = "month_window"
    QUOTA = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    AUTH_FAILED = "auth_failed"

    @property
    def is_told(self) -> bool:
        """Whether the service itself stopped us; the others are our own counting."""
        return self in (Reason.QUOTA, Reason.RATE_LIMITED, Reason.UNAVAILABLE, Reason.AUTH_FAILED)

    def __str__(self) -> str:
        return str(self.value)


def fingerprint(credential: str | None) -> str | None:
    """16 hexadecimal digits that tell one credential from another without revealing it; None for none."""
    if not credential:
        return None
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Policy:
    """What we intend to send to one service at most, and how its answers are read.

    `windows` maps `minute`, `day` and `month` to the requests allowed in each; `capped` names those whose
    number the operator set: no header raises it. `limit_statuses` are the HTTP statuses that mean "slow
    down", `auth_statuses` those that mean "this credential is refused" (`blocks_refused`: and so it is not
    used for an hour). `used_up` is the word in a refusal that means a day's quota, not the pace.
    `first_cooldown` is the first step of the ladder. Spacing is `margin` longer than the rate asks for, so
    that a request which is late by less than that cannot crowd the punctual one behind it (0: exact spacing).

    Raises `ValueError` for a rate, burst, window or margin that no server can mean.
    """

    service: str
    rate: float
    burst: int = 1
    windows: Mapping[str, int] = field(default_factory=dict)
    limit_statuses: frozenset[int] = frozenset({429})
    auth_statuses: frozenset[int] = frozenset()
    blocks_refused: bool = True
    capped: frozenset[str] = frozenset()
    used_up: str = ""
    respect_retry_after: bool = True
    first_cooldown: float = 60.0
    margin: float = 0.015
    credential: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("first cooldown", self.first_cooldown)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.service}: {name} must be a positive number, not {value!r}")
        if self.burst < 1:
            raise ValueError(f"{self.service}: burst must be at least 1, not {self.burst!r}")
        if not 0 <= self.margin < 1:
            raise ValueError(f"{self.service}: margin must be in [0, 1), not {self.margin!r}")
        for name, limit in self.windows.items():
            if name not in WINDOW_SECONDS:
                raise ValueError(f"{self.service}: window {name!r} is none of {', '.join(WINDOW_SECONDS)}")
            if limit < 1:
                raise ValueError(f"{self.service}: the {name} window must allow at least 1 request")


@dataclass(frozen=True)
class WindowCount:
    """Requests `used` in one calendar window that ends at `resets_at`; `told`: a response has said so."""

    used: int
    limit: int | None
    resets_at: float
    told: bool = False

    @property
    def is_exhausted(self) -> bool:
        return self.limit is not None and self.used >= self.limit


@dataclass(frozen=True)
class Search:
    """Where the search for a server's real rate stands.

    `good` is the last rate that held, `ceiling` the one that failed; the next try is due `quiet_s` after
    `since`.
    """

    good: float
    ceiling: float
    since: float
    quiet_s: float


@dataclass(frozen=True)
class Unsent:
    """A slot whose request is not known to have left: its number, its moment, the TAT before."""

    number: int
    at: float
    tat_before: float


@dataclass(frozen=True)
class State:
    """What is known of one service's limit: its row of `service_limits`, as written at `updated_at`."""

    service: str
    tat: float = 0.0
    cooldown_until: float = 0.0
    cooldown_reason: Reason | None = None
    penalty_until: float = 0.0
    consecutive_failures: int = 0
    configured_rate: float | None = None
    configured_burst: int | None = None
    learned_rate: float | None = None
    learning: Search | None = None
    windows: Mapping[str, WindowCount] = field(default_factory=dict)
    recent: tuple[float, ...] = ()
    unsent: tuple[Unsent, ...] = ()
    credential: str | None = None
    credential_blocked_until: float = 0.0
    requests_total: int = 0
    limited_total: int = 0
    updated_at: float = 0.0


@dataclass(frozen=True)
class Grant:
    """One request may be written at the moment `at`. `number` counts the service's slots.

    `counted_in` are the ends of the windows that count it, by their names.
    """

    at: float
    tat_before: float
    number: int
    counted_in: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """No request may be sent for another `seconds`, that is before the moment `until`."""

    until: float
    seconds: float
    reason: Reason


@dataclass(frozen=True)
class HeaderQuota:
    """What a response says of one quota window; None where it says nothing. `reset_s` is a duration.

    `window` is the name the response gives it; `BALANCE` for a number of requests without any window.
    """

    window: str | None
    limit: int | None
    remaining: int
    reset_s: float | None


@dataclass(frozen=True)
class Observation:
    """What came back for the request sent at `sent_at` in slot `number`; see `meaning.Signs`."""

    sent_at: float
    number: int
    status: int
    retry_after: int | None = None
    quotas: tuple[HeaderQuota, ...] = ()
    is_challenge: bool = False
    says_used_up: bool = False
