"""The documentation names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.export.fields import Wanted, fields_for
from cowrie_enrich_dagster.storage.tables import Base, EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import LookupStatus, Scope
from tests.dictionary import rewritten

DOCS = Path(__file__).parents[2] / "docs"
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
CONFIGURE = (DOCS / "configure.md").read_text(encoding="utf-8")
DICTIONARY = (DOCS / "data-dictionary.md").read_text(encoding="utf-8")
PACKAGE = "cowrie_enrich_dagster"
KNOWN_TO_ALL = {"readable", "service_names", "terminal", "vocabulary"}
SECTIONS = {part.partition("\n")[0]: part for part in DICTIONARY.split("\n## ")}


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_the_dictionary_has_every_column(table: str) -> None:
    """Each table has a section of its own that names each of its columns."""
    missing = [
        column.name
        for column in Base.metadata.tables[table].columns
        if f"`{column.name}`" not in SECTIONS[table]
    ]
    assert missing == []


def test_the_dictionary_says_of_columns_what_the_tables_say() -> None:
    """`python -m tests.dictionary` writes it."""
    assert rewritten(DICTIONARY) == DICTIONARY


def test_the_dictionary_explains_every_word() -> None:
    """Each status and scope that can stand in a row is explained."""
    words = [*LookupStatus, *Scope]
    assert [word for word in words if f"| `{word}` |" not in SECTIONS["Words"]] == []


def test_the_export_has_every_column() -> None:
    """No column of `enriched_sessions` is left out of the exports."""
    columns = table_of(EnrichedSession).columns
    sources = " ".join(str(field.source) for field in fields_for(Wanted(passwords=True)))
    assert [c.name for c in columns if not re.search(rf"\b{c.name}\b", sources)] == []


def test_every_service_is_in_the_lists() -> None:
    """The README's variables, the dictionary's times to live, the order in which they are believed."""
    variables = README.partition("`<SERVICE>` is one of `")[2].partition("`")[0]
    assert sorted(variables.lower().split()) == sorted(services.ALL)
    ttls = SECTIONS["enrichment_cache"].partition("TTL of")[2]
    assert [name for name in services.ALL if not re.search(rf"\b{name}\b", ttls)] == []
    ranks = CONFIGURE.partition("the one with the lower rank is believed:")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", ranks) == list(services.ALL)


@pytest.mark.parametrize("page", ["configure.md", "security.md"])
def test_every_service_is_described(page: str) -> None:
    """Who is asked, and what each is told, is written down for each service."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in services.ALL if f"`{name}`" not in text] == []


def test_the_architecture_names_files_that_are_there() -> None:
    """Every path on the page, from the package on; every room has its line."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = DOCS.parent / "cowrie_enrich_dagster"
    paths = set(re.findall(r"`((?:\.\./)?[a-z_/]+(?:\.py|/))`", text))
    assert len(paths) > 80
    assert [path for path in sorted(paths) if not (package / path).exists()] == []
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(rooms - paths) == []


def test_the_architecture_says_of_each_room_what_it_imports() -> None:
    """No more and no less, what everybody may know apart."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=False, cache_dir=None)
    rooms: dict[str, set[str]] = {}
    for module in graph.modules - {PACKAGE}:
        imported = {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module)}
        rooms.setdefault(module.split(".")[1], set()).update(imported)
    told = {}
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## What each room may touch")[2]
    for names, imports in re.findall(r"^\| (`.*?`) \| (.*?) \|", section, re.MULTILINE):
        of_row = frozenset(re.findall(r"`(\w+)(?:\.py|/)`", names))
        told[of_row] = set(re.findall(r"`(\w+)`", imports))
    assert sorted(name for of_row in told for name in of_row) == sorted(rooms)
    for of_row, imports in told.items():
        assert imports == set().union(*(rooms[name] for name in of_row)) - of_row - KNOWN_TO_ALL, of_row
