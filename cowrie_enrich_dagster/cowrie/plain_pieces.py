"""Pieces of sessions as plain JSON values and back: what is known of a session that may go on."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .deeds import Deeds
from .packed import value_set
from .piece import Piece
from .summed import Doings, Summed

_PIECE = {name: getattr(Piece("", "", None), name) for name in Summed.__slots__}
_DOINGS = {field.name: getattr(Doings(), field.name) for field in fields(Doings)}
_DEEDS = {field.name: getattr(Deeds(), field.name) for field in fields(Deeds)}
_COUNTED = ("logins", "offers", "tunnels")
"""Of deeds: items with the moment of the first and their number."""


def plain_piece(piece: Piece) -> dict[str, Any]:
    """A piece, what was done in it and its `others`; what is as in an empty one is left out.

    So are its marks, which are of this process: what is not later than all that it has cannot be told from a
    repetition.
    """
    plain = _told(piece, _PIECE)
    plain.pop("marks", None)
    if piece.doings is not None:
        plain["doings"] = _plain_doings(piece.doings)
    if piece.others is not None:
        plain["others"] = [plain_piece(other) for other in piece.others]
    return plain


def piece_of(plain: dict[str, Any]) -> Piece:
    """The inverse of `plain_piece`, but for the marks."""
    values = _with_tuples(plain)
    if "ends" in plain:
        values["ends"] = {name: tuple(first) for name, first in plain["ends"].items()}
    if "doings" in plain:
        values["doings"] = _doings_of(plain["doings"])
    if "others" in plain:
        values["others"] = [piece_of(other) for other in plain["others"]]
    piece = Piece("", "", None)
    for name, value in values.items():
        setattr(piece, name, value)
    return piece


def _told(of: Piece | Doings | Deeds, empty: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, usual in empty.items() if (value := getattr(of, name)) != usual}


def _with_tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if type(value) is list else value for name, value in plain.items()}


def _plain_doings(doings: Doings) -> dict[str, Any]:
    plain = _told(doings, _DOINGS)
    if doings.passwords:
        plain["passwords"] = [password.hex() for password in doings.passwords]
    if doings.deeds is not None:
        plain["deeds"] = _plain_deeds(doings.deeds)
    return plain


def _doings_of(plain: dict[str, Any]) -> Doings:
    values = _with_tuples(plain)
    if "passwords" in plain:
        values["passwords"] = value_set(map(bytes.fromhex, plain["passwords"]))
    if "deeds" in plain:
        values["deeds"] = _deeds_of(plain["deeds"])
    return Doings(**values)


def _plain_deeds(deeds: Deeds) -> dict[str, Any]:
    plain = _told(deeds, _DEEDS)
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
