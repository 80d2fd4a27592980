"""What commands print: data to `out`, everything said along the way to `err`.

What others wrote goes through `escape` first: then neither markup nor control characters in it do anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column, Table

from cowrie_enrich_dagster.terminal import visible
from cowrie_enrich_dagster.vocabulary import Progress

_WIDTH = None if sys.stdout.isatty() else 140  # a pipe has no width; tables in a log should not be folded
out = Console(width=_WIDTH, soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def escape(text: str) -> str:
    """Text of others, for `out` and `err`: neither markup nor control characters do anything."""
    return escape_markup(visible(text, keep="\n"))


def print_table(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """A table with every cell escaped; a dash where there is none."""
    # Folded, not cut: a path or a sentence is of use only whole.
    table = Table(*(Column(name, overflow="fold") for name in columns), title=title, title_justify="left")
    for row in rows:
        table.add_row(*("–" if cell is None else escape(str(cell)) for cell in row))
    out.print(table)


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """A table on a terminal; JSON elsewhere, for scripts."""
    if not out.is_terminal:
        print_json(figures)
        return
    rows: list[tuple[Any, ...]] = []
    for name, value in figures.items():
        if isinstance(value, list):
            parts: Iterable[tuple[str, Any]] = [("", ": ".join(map(str, one.values()))) for one in value]
        else:
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
        rows += [(f"{name} {part}".strip().replace("_", " "), figure) for part, figure in parts]
    print_table(title, ["", "value"], rows)


def print_json(value: object) -> None:
    """One line of JSON; on a terminal with what it would obey written out."""
    text = orjson.dumps(value).decode()
    sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + "\n")


def progress_line(service: str, done: int, wanted: int) -> None:
    """How far something is, as a line on stderr."""
    err.print(f"{service}: {done} of {wanted}")


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """A bar a service, with rate and time left, on a terminal; a line every few seconds elsewhere."""
    if not err.is_terminal:
        yield progress_line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=err, transient=True) as bars:

        def show(service: str, done: int, wanted: int) -> None:
            if service not in tasks:
                tasks[service] = bars.add_task(escape(service), total=wanted)
            bars.update(tasks[service], completed=done, total=wanted)

        yield show


def say(sentences: Iterable[str]) -> None:
    """Print sentences, on a terminal with line breaks between words."""
    for sentence in sentences:
        out.print(escape(sentence), soft_wrap=not out.is_terminal)
