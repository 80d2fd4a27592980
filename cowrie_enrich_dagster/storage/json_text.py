"""JSON as both databases accept it."""

from __future__ import annotations

from typing import Any

import orjson


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_nul(str(key)): _without_nul(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nul(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """Serialise to JSON text without NUL characters and lone surrogates, which PostgreSQL's JSONB refuses.

    Raises `TypeError` for values that are not JSON.
    """
    try:
        text = orjson.dumps(value)
        if b"\\u0000" in text:
            text = orjson.dumps(_without_nul(value))
    except TypeError:
        text = orjson.dumps(_without_nul(value))
    return text.decode()


def from_json(text: str | bytes) -> Any:
    """Parse JSON text; raises `ValueError` when it is not JSON."""
    return orjson.loads(text)
