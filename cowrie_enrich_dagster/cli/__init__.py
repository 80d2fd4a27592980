"""`cowrie-enrich`: the pipeline and its upkeep from the command line.

Data goes to stdout, everything said along the way to stderr. Exit 0: done, completely or partially (deferred
lookups are no failure); 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cowrie_enrich_dagster.cli import cache, db, look, run, state
from cowrie_enrich_dagster.cli.app import Commands
from cowrie_enrich_dagster.cli.output import out
from cowrie_enrich_dagster.services.base import VERSION
from cowrie_enrich_dagster.simulator import simulate

app = typer.Typer(cls=Commands, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
for command in (
    *(run.run, run.plan, run.drain, run.refresh),
    *(state.quota, look.export, state.metrics, state.doctor),
    *(simulate, look.report, look.who, look.session),
):
    app.command()(command)
app.add_typer(cache.app, name="cache")
app.add_typer(db.app, name="db")


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
