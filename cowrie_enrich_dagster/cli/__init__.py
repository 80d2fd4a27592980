"""`cowrie-enrich`: the pipeline and its upkeep from the command line.

Data goes to stdout, everything said along the way to stderr. Exit 0: done, completely or partially (deferred
lookups are no failure); 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cowrie_enrich_dagster.cli import cache, db, look, run, state
from cowrie_enrich_dagster.cli.app import Commands
from cowrie_enrich_dagster.cli.output import out
from cowrie_enrich_dagster.services.base import VERSION
from cowrie_enrich_dagster.simulator import simulate

app = typer.Typer(
    cls=Commands, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # a paragraph is one, however its lines are broken here
)  # fmt: skip
_FILL, _LOOK, _KEEP = "Enrich", "Look", "Keep running"
_COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    _FILL: (run.plan, run.run, run.drain, run.refresh),
    _LOOK: (look.report, look.who, look.session, look.export),
    _KEEP: (state.doctor, state.quota, state.metrics, simulate),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(cache.app, name="cache", rich_help_panel=_KEEP)
app.add_typer(db.app, name="db", rich_help_panel=_KEEP)


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"cowrie-enrich {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
