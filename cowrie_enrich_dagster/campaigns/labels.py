"""A short name for a campaign, of what joins its sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LABEL_CHARS = 80
_HASH_CHARS = 12
_TELLING = ("script", "host", "key", "file")
"""Kinds of artefacts, those first that tell a reader most."""


def label(artefacts: Sequence[Mapping[str, Any]]) -> str:
    """`script: cd /tmp; wget <url>…`: the most telling of what joins half as many sessions as any artefact.

    Artefacts come as `{kind, value, sessions}`, their values fit to be read.
    """
    most = max(one["sessions"] for one in artefacts)
    kind, _, value = min(
        (_TELLING.index(one["kind"]), -one["sessions"], one["value"])
        for one in artefacts
        if 2 * one["sessions"] >= most
    )
    text = f"{_TELLING[kind]}: {value}"
    most_chars = len("file: ") + _HASH_CHARS + 1 if _TELLING[kind] == "file" else LABEL_CHARS
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"
