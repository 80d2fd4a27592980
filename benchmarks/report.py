"""What every benchmark hands in: figures by section, what the design asks of some, a table and JSON.

The table goes to stdout; with `--json` it goes to stderr and one JSON object to stdout.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

_HOLDS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}
_WIDTH = 100  # also where the output goes to a file


@dataclass(frozen=True)
class Reach:
    """What a figure is to reach."""

    sign: Literal["<=", ">=", "="]
    bound: float

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:,}"

    def is_missed_by(self, value: float) -> bool:
        return not _HOLDS[self.sign](value, self.bound)


def at_most(bound: float) -> Reach:
    return Reach("<=", bound)


def at_least(bound: float) -> Reach:
    return Reach(">=", bound)


def exactly(bound: float) -> Reach:
    return Reach("=", bound)


@dataclass(frozen=True)
class Figure:
    """One line of the table; `is_missed` only where there is something to reach."""

    section: str
    name: str
    value: float
    reach: Reach | None

    @property
    def is_missed(self) -> bool:
        return self.reach is not None and self.reach.is_missed_by(self.value)


@dataclass
class Report:
    """The figures of one benchmark, and what they were measured on."""

    benchmark: str
    conditions: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conditions |= {
            "python": platform.python_version(),
            "cores": len(os.sched_getaffinity(0)),
            "load_before": round(os.getloadavg()[0], 2),
        }

    def add(self, section: str, name: str, value: float, reach: Reach | None = None) -> None:
        """Hand in one figure; its unit is the end of its name."""
        self.figures.append(Figure(section, name, value, reach))
        print(f"{section}: {name}: {value:,}", file=sys.stderr, flush=True)

    def finish(self, *, as_json: bool) -> int:
        """Print; the exit code is 1 when a figure misses what it is to reach."""
        console = Console(stderr=as_json, width=_WIDTH, highlight=False)
        told = ", ".join(f"{name} {value}" for name, value in self.conditions.items())
        console.print(f"{self.benchmark}: {told}", soft_wrap=True)
        console.print(self._table())
        if as_json:
            print(json.dumps(self._as_dict()))
        return int(any(figure.is_missed for figure in self.figures))

    def _table(self) -> Table:
        table = Table("figure")
        table.add_column("value", justify="right")
        table.add_column("reach", justify="right")
        table.add_column("")
        section = None
        for figure in self.figures:
            if figure.section != section:
                section = figure.section
                table.add_section()
                table.add_row(f"[bold]{section}[/bold]")
            reach = "" if figure.reach is None else str(figure.reach)
            missed = "[red]MISSED[/red]" if figure.is_missed else ""
            table.add_row(f"  {figure.name}", f"{figure.value:,}", reach, missed)
        return table

    def _as_dict(self) -> dict[str, Any]:
        figures: dict[str, dict[str, float]] = {}
        reach: dict[str, dict[str, str]] = {}
        for figure in self.figures:
            figures.setdefault(figure.section, {})[figure.name] = figure.value
            if figure.reach is not None:
                reach.setdefault(figure.section, {})[figure.name] = str(figure.reach)
        missed = [f"{figure.section}: {figure.name}" for figure in self.figures if figure.is_missed]
        return {
            "benchmark": self.benchmark,
            "conditions": self.conditions,
            "figures": figures,
            "reach": reach,
            "missed": missed,
        }


def command_line(description: str | None) -> ArgumentParser:
    """The options that every benchmark has."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser
