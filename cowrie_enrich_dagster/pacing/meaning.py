"""What a response means for us, decided here alone: limiter, lookup, checks and operator hear the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace

from cowrie_enrich_dagster.pacing.model import Policy
from cowrie_enrich_dagster.pacing.retry_after import get_retry_after_seconds, header_text

SEEN_BYTES = 64 * 1024
"""Of the body of a refusal, as much is looked at."""

_CHALLENGE_MARKS = (b"/cdn-cgi/challenge-platform/", b"__cf_chl_", b"cf_chl_opt", b"<title>just a moment...")
_UNAVAILABLE = 503


class Meaning(str, Enum):
    """`ANSWER`: the body tells (it may be any); all others say nothing about what was asked."""

    ANSWER = "answer"
    LIMITED = "rate_limited"
    USED_UP = "quota_used_up"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    FAULT = "fault"

    @property
    def is_limit(self) -> bool:
        """Whether waiting is all that is asked of us."""
        return self in (Meaning.LIMITED, Meaning.USED_UP)


@dataclass(frozen=True)
class Signs:
    """What of a response bears on its meaning; `names_wait`: it has a Retry-After that can be read."""

    status: int
    names_wait: bool = False
    is_challenge: bool = False
    says_used_up: bool = False


def signs_of(policy: Policy, status: int, headers: Mapping[str, str], body: bytes) -> Signs:
    """Read the signs off a response; `body` may be cut off, and empty for one that was not read."""
    seen = body[:SEEN_BYTES]
    holder = SimpleNamespace(headers=headers)
    return Signs(
        status,
        names_wait=get_retry_after_seconds(holder) is not None,
        is_challenge=status in (403, _UNAVAILABLE) and _is_challenge(holder, seen),
        says_used_up=bool(policy.used_up) and policy.used_up.encode() in seen,
    )


def meaning_of(policy: Policy, signs: Signs) -> Meaning:
    """What a response with these signs means, at the service of this policy.

    A service that says when to come back is limiting, even with a status by which it refuses keys. A page of
    a network in front of the service (a challenge to prove that one is no robot) comes before any of that.
    """
    status = signs.status
    if signs.is_challenge:
        return Meaning.UNAVAILABLE
    if status in policy.limit_statuses:
        return Meaning.USED_UP if signs.says_used_up else Meaning.LIMITED
    if status in policy.auth_statuses:
        return Meaning.LIMITED if signs.names_wait else Meaning.REFUSED
    if status == _UNAVAILABLE:
        return Meaning.UNAVAILABLE
    return Meaning.FAULT if status >= 500 or status in (401, 403) else Meaning.ANSWER


def in_words(policy: Policy, signs: Signs) -> str:
    """The same for the operator, in our own words: nothing of the response is quoted but its status."""
    meaning, code = meaning_of(policy, signs), f"HTTP {signs.status}"
    if signs.is_challenge:
        return f"unavailable: a challenge page stands before the service ({code})"
    return {
        Meaning.ANSWER: code,
        Meaning.LIMITED: f"rate limited ({code})",
        Meaning.USED_UP: f"the quota is used up ({code})",
        Meaning.REFUSED: f"our key or contact address is refused ({code})",
        Meaning.UNAVAILABLE: f"unavailable ({code})",
        Meaning.FAULT: f"a fault of the service ({code})",
    }[meaning]


def _is_challenge(holder: SimpleNamespace, body: bytes) -> bool:
    # https://developers.cloudflare.com/cloudflare-challenges/challenge-types/challenge-pages/detect-response/
    if header_text(holder, "cf-mitigated").lower() == "challenge":
        return True
    lowered = body.lower()
    return any(mark in lowered for mark in _CHALLENGE_MARKS)
