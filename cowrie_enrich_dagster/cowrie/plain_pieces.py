"""Pieces of sessions as plain JSON values and back: what is known of a session that may go on."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .deeds import Deeds
from .packed import as_bytes, from_bytes, value_set
from .piece import Piece

_EMPTY = {field.name: getattr(Piece("", ""), field.name) for field in fields(Piece)}
_NO_DEEDS = {field.name: getattr(Deeds(), field.name) for field in fields(Deeds)}
_COUNTED = ("logins", "offers", "tunnels")
"""Of deeds: items with the moment of the first and their number."""


def plain_piece(piece: Piece) -> dict[str, Any]:
    """A piece, its deeds and its `others`; what is as in an empty one is left out."""
    plain = {name: value for name, empty in _EMPTY.items() if (value := getattr(piece, name)) != empty}
    if piece.marks:
        plain["marks"] = as_bytes(piece.marks).hex()
    if piece.passwords:
        plain["passwords"] = [password.hex() for password in piece.passwords]
    if piece.deeds is not None:
        plain["deeds"] = _plain_deeds(piece.deeds)
    if piece.others is not None:
        plain["others"] = [plain_piece(other) for other in piece.others]
    return plain


def piece_of(plain: dict[str, Any]) -> Piece:
    """The inverse of `plain_piece`."""
    values: dict[str, Any] = {"began": "", "ended": ""}
    values |= {name: tuple(value) if type(value) is list else value for name, value in plain.items()}
    if "marks" in plain:
        values["marks"] = from_bytes(bytes.fromhex(plain["marks"]))
    if "passwords" in plain:
        values["passwords"] = value_set(map(bytes.fromhex, plain["passwords"]))
    if "ends" in plain:
        values["ends"] = {name: tuple(first) for name, first in plain["ends"].items()}
    if "deeds" in plain:
        values["deeds"] = _deeds_of(plain["deeds"])
    if "others" in plain:
        values["others"] = [piece_of(other) for other in plain["others"]]
    return Piece(**values)


def _plain_deeds(deeds: Deeds) -> dict[str, Any]:
    plain = {name: value for name, empty in _NO_DEEDS.items() if (value := getattr(deeds, name)) != empty}
    for name in _COUNTED:
        if name in plain:
            plain[name] = [[item, *counted] for item, counted in plain[name].items()]
    if deeds.files:
        plain["files"] = list(deeds.files.items())
    return plain


def _deeds_of(plain: dict[str, Any]) -> Deeds:
    values = dict(plain)
    for name in _COUNTED:
        if name in plain:
            values[name] = {tuple(item): counted for item, *counted in plain[name]}
    if "files" in plain:
        values["files"] = {tuple(file): at for file, at in plain["files"]}
    if "lines" in plain:
        values["lines"] = [tuple(line) for line in plain["lines"]]
    return Deeds(**values)
