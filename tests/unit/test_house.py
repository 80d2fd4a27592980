"""How the package is built: files of a size that one reads at once, and imports without circles."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import grimp

import cowrie_enrich_dagster

MOST_LINES = 350
PACKAGE = Path(cowrie_enrich_dagster.__file__).parent


def test_every_file_is_read_at_once() -> None:
    """Of more lines than that, a file does more than one thing."""
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_imports_go_in_a_circle() -> None:
    """Those for types count too, and that importing a module runs the packages it is in."""
    graph = grimp.build_graph(PACKAGE.name, exclude_type_checking_imports=False, cache_dir=None)

    def needed(module: str) -> set[str]:
        found = set()
        for imported in graph.find_modules_directly_imported_by(module):
            while imported and not module.startswith(f"{imported}."):
                found.add(imported)
                imported = imported.rpartition(".")[0]
        return found - {module}

    # Raises with the circle in its message.
    assert list(TopologicalSorter({module: needed(module) for module in graph.modules}).static_order())
