"""Which sets of artefacts are one campaign, and what it is called.

A campaign is a connected component: sets are joined by each artefact they share. Its id is the
`artefact_id` of the artefact that was seen first (of several in the same session: by kind, then by id). So it
depends on the sessions alone, not on the order in which they came to be known. And it lasts: what is seen
later cannot be seen first, so a campaign that grows keeps its id, and of two that grow together the older id
stays. Only logs that come late can change one, by showing an older artefact.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from .rules import CAMPAIGN_SESSIONS

KINDS = ("key", "file", "host", "script")


class ArtefactSet(NamedTuple):
    """The artefacts `(kind, artefact_id)` that may join, how many sessions have them all, and since when.

    `was_forgotten`: it had more sessions, whose days were forgotten; `first_seen` counts them.
    """

    set_id: str
    artefacts: tuple[tuple[str, str], ...]
    sessions: int
    first_seen: datetime
    was_forgotten: bool = False


def campaigns_of(sets: Iterable[ArtefactSet]) -> dict[str, list[str]]:
    """The sets of every campaign by its id; a set that is in no campaign is left out.

    Whatever shares an artefact with one of `sets` must be among them.
    """
    root_of: dict[str, str] = {}

    def root(artefact: str) -> str:
        above = root_of.setdefault(artefact, artefact)
        while above != root_of[above]:
            root_of[above] = root_of[root_of[above]]
            above = root_of[above]
        root_of[artefact] = above
        return above

    known = [one for one in sets if one.artefacts]
    first: dict[str, tuple[datetime, int, str]] = {}
    for one in known:
        top = root(one.artefacts[0][1])
        for kind, artefact in one.artefacts:
            root_of[root(artefact)] = top
            seen = (one.first_seen, KINDS.index(kind), artefact)
            first[artefact] = min(seen, first.get(artefact, seen))
    together: dict[str, list[ArtefactSet]] = {}
    for one in known:
        together.setdefault(root(one.artefacts[0][1]), []).append(one)
    return {
        min(first[artefact] for one in group for _, artefact in one.artefacts)[2]: [
            one.set_id for one in group
        ]
        for group in together.values()
        if _is_campaign(group)
    }


def _is_campaign(group: list[ArtefactSet]) -> bool:
    sessions = sum(one.sessions for one in group)
    # One that was a campaign stays one while any of its sessions is kept.
    return sessions >= CAMPAIGN_SESSIONS or (sessions > 0 and any(one.was_forgotten for one in group))
