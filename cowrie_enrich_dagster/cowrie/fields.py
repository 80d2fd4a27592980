"""Fields of events, read with care: attackers wrote them, and Cowrie's versions differ in their types."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from .addresses import normalised_address

TEXT_CHARS = 256
_ADDRESS_CHARS = 64
_MAX_DURATION_MS = 10 * 365 * 86400 * 1000
_NUMBERS = frozenset({int, float, str})
_SURROGATES = re.compile("[\ud800-\udfff]")
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/]", re.ASCII)
_REPR = re.compile(r"""b?(['"])(.*)\1""", re.DOTALL)
_ESCAPE = re.compile(r"""\\(?:x([0-9a-f]{2})|([nrt\\'"]))""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD in place of lone surrogates, which UTF-8 cannot encode."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def clean(text: str, limit: int) -> str:
    """`text` without NUL and lone surrogates, at most `limit` characters: what every database can hold."""
    return _clean_shared(text, limit) if len(text) <= TEXT_CHARS else _clean(text, limit)


def _clean(text: str, limit: int) -> str:
    clipped = text[: limit * 2].replace("\0", "")[:limit]
    return clipped if clipped.isascii() else without_surrogates(clipped)


# Most values repeat, and each comes fresh from the JSON decoder: the cache makes equal ones one object.
_clean_shared = lru_cache(maxsize=16384)(_clean)


def text_field(fields: dict[str, Any], name: str, limit: int = TEXT_CHARS) -> str | None:
    """The field as text: a number as its digits; None if absent, empty or anything that is not a scalar."""
    value = fields.get(name)
    if type(value) is not str:
        if not isinstance(value, (int, float)):
            return None
        value = str(value)
    return clean(value, limit) or None


def raw_text_field(fields: dict[str, Any], name: str) -> str | None:
    """Like `text_field`, but as logged: uncut, uncleaned, perhaps empty."""
    value = fields.get(name)
    if isinstance(value, (int, float)):
        return str(value)
    return value if isinstance(value, str) else None


def int_field(fields: dict[str, Any], name: str, most: int) -> int | None:
    """The field as an integer of 0..`most`, also if written as a string of digits; None if it is none."""
    value = fields.get(name)
    if type(value) is not int:
        if type(value) is not str or len(value) > 10 or not value.isdecimal():
            return None
        value = int(value)
    return value if 0 <= value <= most else None


def address_field(fields: dict[str, Any], name: str) -> str | None:
    """The field as an address in its one spelling; text that is no address stays as it is, clipped."""
    value = fields.get(name)
    if type(value) is not str:
        return None
    address = normalised_address(value) if len(value) <= TEXT_CHARS else None
    return address or clean(value, _ADDRESS_CHARS) or None


def sha256_field(fields: dict[str, Any], name: str) -> str | None:
    """The field as a lower-case SHA-256; None if it is none."""
    value = fields.get(name)
    return value.lower() if type(value) is str and _SHA256.fullmatch(value) else None


def file_hash_field(fields: dict[str, Any]) -> str | None:
    """A file's SHA-256, from `shasum` or the name it was kept under; None if neither tells it."""
    known = sha256_field(fields, "shasum")
    kept_as = fields.get("outfile")
    if known is not None or type(kept_as) is not str:
        return known
    name = kept_as.rpartition("/")[2]
    return name.lower() if _SHA256.fullmatch(name) else None


def url_field(fields: dict[str, Any], limit: int) -> str | None:
    """`url` if it is one: older Cowrie also has `stdin`, `redir` or the path of a file that was written."""
    url = text_field(fields, "url", limit)
    return url if url and _URL.match(url) else None


def version_field(fields: dict[str, Any]) -> str | None:
    """What the client calls itself; older Cowrie logs it as Python shows it: `b'SSH-2.0-Go'`, with quotes."""
    version = raw_text_field(fields, "version")
    if version is None:
        return None
    shown = _REPR.fullmatch(version) if version[:1] in ("b", "'", '"') else None
    return clean((_as_said(shown) if shown else version).strip(), TEXT_CHARS) or None


def _as_said(shown: re.Match[str]) -> str:
    """What Python shows, with the bytes that it escaped."""
    text = shown[2][: 4 * TEXT_CHARS]
    if "\\" not in text:
        return text
    said = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPED[found[2]], text)
    return said.encode("latin-1", "replace").decode("utf-8", "replace") if shown[0][0] == "b" else said


def duration_field(fields: dict[str, Any]) -> int | None:
    """A closed session's milliseconds, from `duration_ms` or, in older Cowrie, `duration` in seconds."""
    known: Any = fields.get("duration_ms")
    if type(known) is int and 0 <= known <= _MAX_DURATION_MS:
        return known
    for name, factor in (("duration_ms", 1.0), ("duration", 1000.0)):
        value: Any = fields.get(name)
        if type(value) not in _NUMBERS:
            continue
        try:
            milliseconds = float(value) * factor
        except (ValueError, OverflowError):
            continue
        if 0 <= milliseconds <= _MAX_DURATION_MS:  # which nothing is that is not finite
            return round(milliseconds)
    return None
