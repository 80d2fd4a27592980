"""What can be asked of the simulator: limits, faults, and the record it keeps of every request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

HeaderStyle = Literal["none", "x-ratelimit", "ratelimit", "x-balance"]
"""How a service tells its budget: `X-RateLimit-Limit/-Remaining/-Reset` (reset as Unix time, as AbuseIPDB
and GitHub send it), `RateLimit-Limit/-Remaining/-Reset` (reset as delay-seconds, IETF draft
httpapi-ratelimit-headers up to -07) or `X-Balance-Remaining` alone (Spur)."""

RetryAfterForm = Literal["seconds", "date", "absent"]
"""The two forms of Retry-After (RFC 9110 section 10.2.3), or none at all."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenBucket(_Model):
    """`per_minute` requests a minute, evenly refilled; `burst` of them may come at once."""

    kind: Literal["token_bucket"] = "token_bucket"
    per_minute: float = Field(gt=0)
    burst: int = Field(default=1, ge=1)


class FixedWindow(_Model):
    """`limit` requests in a window of `seconds`.

    A window aligned to `request` opens with the first request after the last window closed; one aligned to
    the `clock` opens at each multiple of `seconds` since 1970 in UTC (86,400: a day's quota, from midnight).
    """

    kind: Literal["fixed_window"] = "fixed_window"
    limit: int = Field(ge=1)
    seconds: float = Field(gt=0)
    align: Literal["request", "clock"] = "request"


Rule = Annotated[TokenBucket | FixedWindow, Field(discriminator="kind")]


class Limit(_Model):
    """The rules of one service, which all must admit a request, and its answer to one over them."""

    rules: tuple[Rule, ...]
    status: Literal[429, 401] = 429
    retry_after: RetryAfterForm = "seconds"
    ban_s: float = Field(default=0.0, ge=0)
    """After a request over the limit, all are refused for this many seconds."""
    headers: HeaderStyle | None = None
    """None: those that the vendor sends."""


class Fault(_Model):
    """What a service does instead of answering a request within its limit.

    - `reply`: sends `status`, `body` and `headers`, with `retry_after_s` in the form `retry_after`
    - `slow`: answers properly after `delay_s`; `hang`: never answers, and closes after `delay_s`
    - `reset`: breaks the connection (TCP RST)
    - `html`: a proxy's HTML page with status 200; `truncated`: the first half of the proper body
    - `wrong_key`: the proper answer about another key; `huge`: the proper answer with `size_bytes` of padding
    """

    kind: Literal["reply", "slow", "hang", "reset", "html", "truncated", "wrong_key", "huge"]
    key: str | None = None
    """Only requests about this key."""
    times: int | None = Field(default=None, ge=1)
    """Only this many requests, then no more."""
    probability: float = Field(default=1.0, gt=0, le=1)
    """Only this share of the requests, drawn with `seed`."""
    seed: int = 0
    status: int = Field(default=500, ge=200, le=599)
    body: str = '{"error":"simulated fault"}'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    """Of `body` on its way; what Latin-1 lacks is sent as question marks."""
    headers: dict[str, str] = {}
    retry_after_s: float | None = Field(default=None, ge=0)
    retry_after: RetryAfterForm = "seconds"
    delay_s: float = Field(default=1.0, ge=0)
    size_bytes: int = Field(default=5 * 1024 * 1024, ge=0)


class SimulatorConfig(_Model):
    """The limits and faults, by service, that a simulator starts with and returns to on reset."""

    limits: dict[str, Limit | None] = {}
    faults: dict[str, tuple[Fault, ...]] = {}


class Control(SimulatorConfig):
    """The body of `POST /_control`: the named services get these limits and faults, after the reset if any.

    A limit of null lifts it, an empty list of faults ends them. `reset` forgets every request, what was used
    of the limits, and all that was set since the start.
    """

    reset: bool = False


@dataclass(frozen=True)
class RequestRecord:
    """One request as it arrived. `t` is the arrival by the host's monotonic clock, in seconds; in log order.

    `status` is what was sent back, None where the connection was broken or left hanging. `over_limit` is
    whether a limit (not a fault) refused it.
    """

    t: float
    wall: float
    service: str
    keys: tuple[str, ...]
    status: int | None
    over_limit: bool
    fault: str | None
    method: str
    path: str
    user_agent: str
    client_port: int
