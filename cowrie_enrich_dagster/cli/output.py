"""What commands print: data to `out`, everything said along the way to `err`.

What others wrote goes through `escape` first: then neither markup nor control characters in it do anything.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from rich import box
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

from cowrie_enrich_dagster.readable import number
from cowrie_enrich_dagster.terminal import visible
from cowrie_enrich_dagster.vocabulary import Progress

_WIDTH = None if sys.stdout.isatty() else 140  # a pipe has no width; tables in a log should not be folded
out = Console(width=_WIDTH, soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def escape(text: str) -> str:
    """Text of others, for `out` and `err`: neither markup nor control characters do anything."""
    return escape_markup(visible(text, keep="\n"))


def complain(kind: str, message: str) -> None:
    """Say what is wrong, `kind` being `error` or `warning`; a terminal breaks its lines between words."""
    colour = "red" if kind == "error" else "yellow"
    for line in message.splitlines() or [""]:  # each marked, so that none is taken for something else
        text = f"[{colour}]{kind}:[/{colour}] {escape(line.strip())}"
        err.print(text, soft_wrap=not err.is_terminal)


class Complaints(logging.Handler):
    """Log records as complaints, save `NEWS`: whoever stands at a terminal wants neither clock nor line of
    code."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # or basicConfig gives it one with more

    def emit(self, record: logging.LogRecord) -> None:
        """See the class."""
        if hasattr(record, "is_news"):
            err.print(escape(self.format(record)))
        else:
            complain("error" if record.levelno >= logging.ERROR else "warning", self.format(record))


def print_table(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """A table with every cell escaped, numbers to the right; a dash where there is nothing."""
    right = [all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    # Folded, not cut: a path or a sentence is of use only whole.
    table = Table(
        *(
            Column(name, overflow="fold", justify="right" if is_number else "left")
            for name, is_number in zip(columns, right, strict=True)
        ),
        title=title, title_justify="left", title_style="bold", show_header=any(columns), header_style="dim",
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for row in rows:
        table.add_row(*map(_cell, row))
    out.print()
    out.print(table)


def _is_number(value: Any) -> bool:
    return value in ("", None) or isinstance(value, int) or str(value).endswith("%")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int) else escape(str(value))


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
            parts = (value or {"": "none"}).items() if isinstance(value, Mapping) else [("", value)]
        rows += [(f"{name} {part}".strip().replace("_", " "), figure) for part, figure in parts]
    print_table(title, ["", ""], rows)


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


def tell(markup: str) -> None:
    """Print a sentence, on a terminal with line breaks between words."""
    out.print(markup, soft_wrap=not out.is_terminal)


def say(sentences: Iterable[str]) -> None:
    """Print sentences that may hold what others wrote."""
    for sentence in sentences:
        tell(escape(sentence))
