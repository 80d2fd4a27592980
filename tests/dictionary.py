"""The tables of columns in docs/data-dictionary.md, from what storage/tables/ says of each column.

Written by `python -m tests.dictionary`; that it was is tested in tests/unit/test_docs.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from cowrie_enrich_dagster.storage.tables import Base

DICTIONARY = Path(__file__).parents[1] / "docs" / "data-dictionary.md"
_TABLE = re.compile(r"^\| Column \| Content \|\n(\|.*\n)+", re.MULTILINE)


def rewritten(dictionary: str) -> str:
    """The dictionary with the table of columns of each section that has one as it should be."""
    first, *sections = dictionary.split("\n## ")
    return "\n## ".join([first, *map(_section, sections)])


def _section(section: str) -> str:
    described = Base.metadata.tables.get(section.partition("\n")[0])
    if described is None:
        return section
    rows = [f"| `{column.name}` | {column.doc} |\n" for column in described.columns]
    table = "".join(["| Column | Content |\n", "|---|---|\n", *rows])
    return _TABLE.sub(lambda _: table, section)


if __name__ == "__main__":
    DICTIONARY.write_text(rewritten(DICTIONARY.read_text(encoding="utf-8")), encoding="utf-8")
