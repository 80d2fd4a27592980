"""The artefacts of one session: what it can have in common with others."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from .masking import script_of
from .rules import MOST_OF_A_KIND, joins

ID_CHARS = 16
VALUE_CHARS = 300
"""So much of a script is kept to be read; its id is of all of it."""
_HOST = re.compile(r"(?:https?|ftps?|tftp)://(?:[^/@\s]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)")
_FETCHED_BY_ADDRESS = re.compile(r"\b(?:tftp|ftpget)\b([^;|&\n]*)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_KEY = re.compile(r"\b(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+)\s+(AAAA[A-Za-z0-9+/]{60,})")
_SHA256 = re.compile("[0-9a-f]{64}")
_READ_SCRIPTS = 4_096


class Artefact(NamedTuple):
    """`kind` is `key`, `file`, `host` or `script`; in this order they say the most of an attacker."""

    kind: str
    value: str

    @property
    def artefact_id(self) -> str:
        """Made of nothing but kind and value."""
        return sha256(f"{self.kind}\0{self.value}".encode("utf-8", "replace")).hexdigest()[:ID_CHARS]

    @property
    def shown(self) -> str:
        """The value as one line to be read."""
        line = self.value.replace("\n", "; ")
        if not line.isprintable():
            line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
        return line if len(line) <= VALUE_CHARS else line[: VALUE_CHARS - 1] + "…"


def artefacts_of(
    logins: Iterable[Mapping[str, Any]],
    command_lines: Sequence[str],
    files: Iterable[Mapping[str, Any]],
    urls: Iterable[str],
) -> list[Artefact]:
    """The artefacts of a session of these deeds, without those that join nobody (see `rules`)."""
    keys, hosts, script = _of_lines(tuple(command_lines))
    by_kind = {
        "key": [*filter(None, (login.get("key") for login in logins)), *keys],
        "file": [value for file in files if _SHA256.fullmatch(value := (file.get("sha256") or "").lower())],
        "host": [*(host for url in urls for host in _hosts_of_urls(url)), *hosts],
        "script": [script] if script else [],
    }
    return [
        Artefact(kind, value)
        for kind, values in by_kind.items()
        for value in islice((v for v in dict.fromkeys(values) if joins(kind, v)), MOST_OF_A_KIND)
    ]


def set_id(artefact_ids: Iterable[str]) -> str:
    """The id of a set of artefacts."""
    return sha256("".join(sorted(artefact_ids)).encode()).hexdigest()[:ID_CHARS]


@lru_cache(_READ_SCRIPTS)
def _of_lines(lines: tuple[str, ...]) -> tuple[list[str], list[str], str | None]:
    """The keys that typed lines put in place, the hosts they fetch from, and what is left as a script."""
    keys = [key for line in lines for key in _keys(line)]
    hosts = [host for line in lines for host in (*_hosts_of_urls(line), *_addresses_fetched_from(line))]
    return keys, hosts, script_of(lines)


def _hosts_of_urls(text: str) -> Iterator[str]:
    for host in _HOST.findall(text):
        yield host.strip("[].").lower()


def _addresses_fetched_from(line: str) -> Iterator[str]:
    for arguments in _FETCHED_BY_ADDRESS.findall(line):
        yield from _IPV4.findall(arguments)


def _keys(line: str) -> Iterator[str]:
    for written in _KEY.findall(line):
        try:
            key = base64.b64decode(written + "=" * (-len(written) % 4))
        except binascii.Error:
            continue
        # As ssh-keygen and Cowrie write it.
        yield "SHA256:" + base64.b64encode(sha256(key).digest()).decode().rstrip("=")
