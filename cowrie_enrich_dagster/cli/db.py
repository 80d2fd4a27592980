"""`cowrie-enrich db`: the database's schema, where it stands, up and down."""

from __future__ import annotations

from typing import Annotated

import typer

from cowrie_enrich_dagster.cli.app import (
    open_database,
)
from cowrie_enrich_dagster.cli.output import (
    err,
    escape,
    print_figures,
)
from cowrie_enrich_dagster.storage import migrate

app = typer.Typer(no_args_is_help=True, help="The database schema: where it stands, up, down.")


@app.command()
def current() -> None:
    """The schema the database is at, and the one this version works on."""
    with open_database() as database:
        print_figures("Schema", {"current": migrate.current(database), "head": migrate.head(database)})


@app.command()
def upgrade(revision: Annotated[str, typer.Argument()] = "head") -> None:
    """Bring the schema up to a revision; a SQLite file is made, and copied before it goes to the newest."""
    with open_database(makes_file=True) as database:
        if database.is_sqlite and revision == "head":
            migrate.require_current(database, makes=True)
        else:
            migrate.upgrade(database, revision)
        print_figures("Schema", {"current": migrate.current(database)})


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision such as v11; base drops everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the schema down to a revision; drops only what later revisions added."""
    with open_database() as database:
        goes = migrate.dropped_by(database, revision)
        if goes and not yes:
            err.print("These go, with all they hold:", *map(escape, goes), sep="\n  ")
            typer.confirm("Go on?", abort=True, err=True)
        migrate.downgrade(database, revision)
        print_figures("Schema", {"current": migrate.current(database)})
