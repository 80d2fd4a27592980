"""What response headers say of a quota, in the dialects that servers speak.

- `X-RateLimit-Limit / -Remaining / -Reset`, also `X-Rate-Limit-*` and with a window's name behind
  (`X-RateLimit-Remaining-Day`): de facto, with Reset as a duration, an epoch, or a date.
- `RateLimit-Limit / -Remaining / -Reset`: draft-ietf-httpapi-ratelimit-headers-00 to -06, durations.
- `RateLimit: limit=100, remaining=50, reset=5`: the draft's -07.
- `X-Balance-Remaining` (Spur): what is left of a contract, without a window.
- `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`: -08 and later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from cowrie_enrich_dagster.pacing.model import BALANCE, HeaderQuota
from cowrie_enrich_dagster.pacing.retry_after import as_text, parse_http_date
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

MAX_FIELDS = 64
CLOCK_TOLERANCE_S = 2.0
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_PLAIN = re.compile(
    r"(?:x-)?rate-?limit-(limit|remaining|reset)(?:-(second|minute|hour|day|month))?", re.IGNORECASE
)
_ITEM = re.compile(r'\s*"?(?P<name>[A-Za-z0-9_.:/*-]{0,64})"?\s*(?P<parameters>(?:;[^,;]{0,80}){0,12})')
_EPOCH_FROM = 1_000_000_000  # as a duration that would be 31 years
_EPOCH_MS_FROM = 1_000_000_000_000
_WINDOW_NAMES = {60: "minute", 86_400: "day"}
_MONTH_LENGTHS = range(28 * 86_400, 31 * 86_400 + 1)


def header_quotas(headers: Mapping[str, str], *, now: Clock = utc_now) -> tuple[HeaderQuota, ...]:
    """Every quota that the headers of one response name with its remainder. Never raises on odd values.

    Moments are turned into durations against `now`, or against the response's own Date header where that is
    further from `now` than rounding to whole seconds explains.
    """
    fields = {
        as_text(name).lower(): as_text(value)[:1000] for name, value in list(headers.items())[:MAX_FIELDS]
    }
    ours, theirs = now(), parse_http_date(fields.get("date", ""), now)
    sent = theirs if theirs and abs((theirs - ours).total_seconds()) > CLOCK_TOLERANCE_S else ours
    return (*_plain_quotas(fields, sent), *_structured_quotas(fields), *_balance(fields))


def _balance(fields: Mapping[str, str]) -> Iterator[HeaderQuota]:
    left = _number(fields.get("x-balance-remaining", ""))
    if left is not None:
        yield HeaderQuota(BALANCE, None, int(left), None)


def _plain_quotas(fields: Mapping[str, str], sent: datetime) -> Iterator[HeaderQuota]:
    groups: dict[str | None, dict[str, str]] = {}
    for name, value in fields.items():
        match = _PLAIN.fullmatch(name)
        if match:
            groups.setdefault(match[2] and match[2].lower(), {})[match[1].lower()] = value
    for window, group in groups.items():
        remaining = _number(group.get("remaining", ""))
        if remaining is None:
            continue
        limit = _number(group.get("limit", "").split(",")[0].split(";")[0])
        reset = _reset_seconds(group.get("reset", ""), sent)
        yield HeaderQuota(window, None if limit is None else int(limit), int(remaining), reset)


def _structured_quotas(fields: Mapping[str, str]) -> Iterator[HeaderQuota]:
    policies = dict(_items(fields.get("ratelimit-policy", "")))
    text = fields.get("ratelimit", "")
    if "=" in text.split(",")[0].split(";")[0]:
        flat = dict(pair.strip().lower().split("=", 1) for pair in text.split(",") if "=" in pair)
        items = [
            ("", {"r": flat.get("remaining", ""), "t": flat.get("reset", ""), "q": flat.get("limit", "")})
        ]
    else:
        items = list(_items(text))
    for name, parameters in items:
        remaining = _number(parameters.get("r", ""))
        if remaining is None:
            continue
        policy = policies.get(name) or (next(iter(policies.values())) if len(policies) == 1 else {})
        limit = _number(parameters.get("q") or policy.get("q", ""))
        length = _number(policy.get("w", ""))
        yield HeaderQuota(
            _window_name(length),
            None if limit is None else int(limit),
            int(remaining),
            _number(parameters.get("t", "")),
        )


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for member in text.split(","):
        match = _ITEM.fullmatch(member)
        if match and (match["name"] or match["parameters"]):
            pairs = (pair.strip().split("=", 1) for pair in match["parameters"].split(";") if "=" in pair)
            yield match["name"], {key.strip().lower(): value.strip() for key, value in pairs}


def _window_name(length_s: float | None) -> str | None:
    if length_s is None:
        return None
    return "month" if length_s in _MONTH_LENGTHS else _WINDOW_NAMES.get(int(length_s), "other")


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def _reset_seconds(text: str, sent: datetime) -> float | None:
    value = _number(text)
    if value is None:
        moment = parse_http_date(text) or _iso_moment(text)
        return max(0.0, (moment - sent).total_seconds()) if moment else None
    if value >= _EPOCH_MS_FROM:
        value /= 1000
    return max(0.0, value - sent.timestamp()) if value >= _EPOCH_FROM else float(math.ceil(value))


def _iso_moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
