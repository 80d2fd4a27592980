"""Pwned Passwords' range (`GET /range/{5 hex}`), as Have I Been Pwned answers it.

https://haveibeenpwned.com/API/v3#SearchingPwnedPasswordsByRange: text, a line for each breached hash of the
range; with `Add-Padding: true` invented ones with the count 0 among them. No key; a missing User-Agent gets
403. The passwords that bots try most are breached here too.
"""

from __future__ import annotations

import hashlib
import re

from cowrie_enrich_dagster.simulator.model import HeaderStyle
from cowrie_enrich_dagster.simulator.pages._world import draw
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

PADDED_TO = 1000
PREFIX = re.compile(r"[0-9A-Fa-f]{5}")

_COMMON = (
    *("123456", "password", "admin", "root", "12345", "1234", "123456789", "12345678", "qwerty", "123", "1"),
    *(
        "test",
        "user",
        "ubuntu",
        "guest",
        "support",
        "default",
        "pass",
        "111111",
        "000000",
        "654321",
        "abc123",
    ),
    *("letmein", "passw0rd", "P@ssw0rd", "toor", "raspberry", "oracle", "postgres", "mysql", "nagios", "pi"),
)


def _breached() -> dict[str, list[str]]:
    by_prefix: dict[str, list[str]] = {}
    for password in _COMMON:
        digest = hashlib.sha1(password.encode()).hexdigest().upper()  # noqa: S324 (the API's own hash)
        by_prefix.setdefault(digest[:5], []).append(digest[5:])
    return by_prefix


_BREACHED = _breached()


class PwnedPasswords:
    """See `Page`."""

    name = "hibp"
    decoy = "00000"
    limit_headers: HeaderStyle = "none"

    def keys(self, request: Request) -> tuple[str, ...]:
        key = request.path.removeprefix("/range/")
        return (key,) if key and request.path.startswith("/range/") else ()

    def refusal(self, request: Request) -> Reply | None:
        if request.headers.get("User-Agent"):
            return None
        return Reply(403, b"A user agent is required", "text/plain")

    def reply(self, request: Request, keys: tuple[str, ...]) -> Reply:
        if not keys or request.method != "GET":
            return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
        if not PREFIX.fullmatch(keys[0]):
            return Reply(400, b"The hash prefix was not in a valid format", "text/plain")
        padded = request.headers.get("Add-Padding", "").lower() == "true"
        return Reply(200, "\r\n".join(_lines(keys[0].upper(), padded)).encode(), "text/plain")


def _lines(prefix: str, padded: bool) -> list[str]:
    chance = draw(b"range", prefix.encode())
    seen = {suffix: chance.randint(10_000, 40_000_000) for suffix in _BREACHED.get(prefix, ())}
    for _ in range(chance.randint(850, 950)):
        seen.setdefault(f"{chance.getrandbits(140):035X}", int(chance.paretovariate(0.8)))
    while padded and len(seen) < PADDED_TO:
        seen.setdefault(f"{chance.getrandbits(140):035X}", 0)
    return [f"{suffix}:{times}" for suffix, times in sorted(seen.items())]


PAGE: Page = PwnedPasswords()
