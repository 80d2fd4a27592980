"""Writes docs/licences.md: under which licence each distribution stands that the project installs.

Run as `python -m tests.licences` after requirements changed. What is told is what the distributions' own
metadata tell, by `License-Expression` (PEP 639), else their classifiers, else the field `License`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "cowrie-enrich-dagster"
PAGE = Path(__file__).parents[1] / "docs" / "licences.md"
HEAD = """# Licences of what is installed beside the project

As the distributions' own metadata tell them on Python 3.11; written by `python -m tests.licences`. The
project's own licence is MIT ([LICENSE](../LICENSE)). It ships none of these: `pip` and the build of the image
fetch them.
"""


def needed(*extras: str) -> set[str]:
    """The names of all distributions that the project, with these extras, leads to on this Python."""
    found: set[str] = set()
    open_ends = [(PROJECT, frozenset(extras))]
    looked_at = set(open_ends)
    while open_ends:
        name, wanted = open_ends.pop()
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # what only another platform needs
            continue
        found.add(name)
        for requirement in map(Requirement, requirements):
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                end = canonicalize_name(requirement.name), frozenset(requirement.extras)
                if end not in looked_at:
                    looked_at.add(end)
                    open_ends.append(end)
    return found - {PROJECT}


def licence_of(found: Distribution) -> str:
    """In a line."""
    told = found.metadata
    if expression := told.get("License-Expression"):
        return expression
    classifiers = [
        words.rpartition(" :: ")[2]
        for words in told.get_all("Classifier") or []
        if words.startswith("License :: ") and words != "License :: OSI Approved"
    ]
    return ", ".join(classifiers) or (told.get("License") or "not told").strip().partition("\n")[0][:80]


def row(name: str) -> str:
    found = distribution(name)
    summary = re.sub(r"[|<>]", " ", found.metadata.get("Summary") or "")
    return f"| {name} | {licence_of(found)} | {summary.strip()[:90]} |"


def table(names: Iterable[str]) -> str:
    return "\n".join(["| distribution | licence | what it is |", "|---|---|---|", *map(row, sorted(names))])


def page() -> str:
    running, all_of_them = needed(), needed("dev", "test")
    return (
        f"{HEAD}\n## To run\n\n{table(running)}\n\n## Only to test and develop\n\n"
        f"{table(all_of_them - running)}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
