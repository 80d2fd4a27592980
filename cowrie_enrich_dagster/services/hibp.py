"""Have I Been Pwned: which passwords are in known breaches, asked so that no password can be told from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import requests

from cowrie_enrich_dagster.services.base import (
    Answer,
    Facts,
    InvalidAnswer,
    Limits,
    Service,
    ServiceConfig,
    answer_from,
    ask,
    content,
)
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject

PREFIX = re.compile(r"[0-9A-F]{5}")
SUFFIX = re.compile(r"[0-9A-F]{35}")
LINE = re.compile(rb"([0-9A-F]{35}):([0-9]{1,12})")

MIN_LINES = 800
"""A padded answer has no fewer lines (https://haveibeenpwned.com/API/v3#PwnedPasswordsPadding), so one that
has was cut off: what it lacks must not pass for "never breached"."""


class PwnedPasswords:
    """`GET /range/{5 hex}`, documented at https://haveibeenpwned.com/API/v3#SearchingPwnedPasswordsByRange.

    A key is the first 5 hexadecimal digits of a password's SHA-1; the answer, the rest of every breached hash
    that begins so (k-anonymity). Every prefix has an answer: nothing is ever `not_found`. Padding hides its
    length from observers of the connection. 403 means that the User-Agent is missing.
    """

    name = "hibp"
    rank = 70
    subject = Subject.PASSWORD_SHA1_PREFIX
    ttl = timedelta(days=60)
    not_found_ttl = timedelta(days=1)
    limits = Limits(
        rate=2.0,
        source="https://haveibeenpwned.com/API/v3#PwnedPasswords: no rate limit; two a second is ours"
        " (noted 2026-11-23)",
    )
    default_url = "https://api.pwnedpasswords.com"
    needs_key = False
    limit_statuses = frozenset({429})
    auth_statuses = frozenset({401, 403})
    batch_size = 1
    own_moment: tuple[str, ...] = ()
    tells = frozenset({"breached"})

    def fetch(
        self, keys: Sequence[str], http: requests.Session, config: ServiceConfig
    ) -> Mapping[str, Answer]:
        """See `Service.fetch`. The payload is `{"prefix": key, "suffixes": {suffix: times seen}}`."""
        (key,) = keys
        if not PREFIX.fullmatch(key):
            raise ValueError("a key is 5 hexadecimal digits in upper case, and nothing longer")
        headers = {"Add-Padding": "true", "Accept": "text/plain"}
        response = ask(http, config, f"/range/{key}", headers=headers)
        return {key: answer_from(lambda: _answer(content(response), key))}

    def check(self, key: str, payload: Mapping[str, Any]) -> Answer:
        """See `Service.check`."""
        suffixes = payload.get("suffixes")
        if payload.get("prefix") != key or not isinstance(suffixes, dict) or not suffixes:
            raise InvalidAnswer("no range of this prefix")
        if not all(SUFFIX.fullmatch(name) and type(times) is int for name, times in suffixes.items()):
            raise InvalidAnswer("not only suffixes of hashes with their counts")
        return Answer(LookupStatus.FOUND, dict(payload))

    def facts(self, payload: Mapping[str, Any]) -> Facts:
        """Nothing: a range says nothing of an address or a file."""
        return Facts()


def _answer(body: bytes, key: str) -> Answer:
    lines = body.removeprefix(b"\xef\xbb\xbf").split()
    if len(lines) < MIN_LINES:
        raise InvalidAnswer(f"{len(lines)} lines, where a padded range has {MIN_LINES} or more")
    suffixes = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None:
            raise InvalidAnswer("a line that is not SUFFIX:COUNT")
        if times := int(match[2]):  # padding has the count 0
            suffixes[match[1].decode()] = times
    return Answer(LookupStatus.FOUND, {"prefix": key, "suffixes": suffixes})


SERVICE: Service = PwnedPasswords()
