"""`cowrie-enrich cache`: look at, clean and fill the enrichment cache."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from cowrie_enrich_dagster.cli.app import (
    JsonOption,
    fail,
    open_enricher,
)
from cowrie_enrich_dagster.cli.output import (
    err,
    print_figures,
    print_json,
    print_table,
)
from cowrie_enrich_dagster.enrichment.moving import NothingToImport
from cowrie_enrich_dagster.readable import moment
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.services.feeds import FEEDS

app = typer.Typer(no_args_is_help=True, help="Look at, clean and fill the enrichment cache.")
_SOURCE_WORDS = {"env": "the variable", "file": "the file"}


@app.command()
def stats(json: JsonOption = False) -> None:
    """Entries, ages and sizes by service in the database tier."""
    with open_enricher() as enricher:
        by_service = enricher.cache.database.stats()
    if json:
        print_json(by_service)
        return
    if not by_service:
        err.print("no answer is kept yet")
        return
    counts, ends = ["entries", "found", "not_found", "expired", "bytes"], ["oldest", "newest"]
    rows = [
        (
            service,
            *(of[name] for name in counts),
            *(moment(datetime.fromisoformat(of[end]).date()) for end in ends),
        )
        for service, of in by_service.items()
    ]
    columns = [name.replace("_", " ") for name in ("service", *counts, *ends)]
    print_table("Answers in the database", columns, rows)


@app.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
) -> None:
    """Delete answers that have expired, and what lists said before the oldest session."""
    with open_enricher() as enricher:
        counts = enricher.cleanup(dry_run=dry_run)
        list_entries = enricher.prune_lists(dry_run=dry_run)
    figures = {"dry_run": dry_run, "expired": counts, "list_entries": list_entries}
    print_figures("Expired answers", figures)


@app.command()
def purge(
    service: Annotated[str | None, typer.Option(help="Only this service or feed.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only these keys (needs --service).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete answers whatever their age: all, of one service, or of some keys; they will be asked again."""
    if service is not None and service not in (known := (*ALL, *FEEDS)):
        fail(2, f"--service: {service!r} is not one of {', '.join(known)}")
    if key and service is None:
        fail(2, "--key needs --service")
    if not yes:
        typer.confirm("Answers that were paid for will be deleted. Go on?", abort=True)
    with open_enricher() as enricher:
        print_figures("Deleted answers", {"purged": enricher.purge(service, key or None)})


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="The base folder of cowrieprocessor's cache, or the URL of its database (postgresql://... or"
            " sqlite:///...). A URL with a password comes from a variable (env:NAME) or a file (file:PATH)."
        ),
    ],
) -> None:
    """Move answers of cowrieprocessor into the database, ages kept. May be repeated and resumed."""
    url = _source_url(source)
    if url is None and not Path(source).is_dir():
        fail(2, f"{source} is not a folder")
    with open_enricher() as enricher:
        try:
            report = enricher.import_table(url) if url else enricher.import_files(Path(source))
        except (NothingToImport, ValueError) as problem:
            fail(2, f"{_SOURCE_WORDS.get(source.partition(':')[0], 'the URL')}: {problem}")
        except DBAPIError as problem:
            fail(1, f"the database to import from: {str(problem.orig).strip()}")
    print_figures("Imported answers", report.as_dict())


def _source_url(source: str) -> str | None:
    """The database URL that `source` is or names; None for a folder."""
    kind, _, name = source.partition(":")
    if kind == "env":
        url = os.environ.get(name, "").strip()
        return url or fail(2, f"the variable {name} is not set")
    if kind == "file":
        return Path(name).read_text(encoding="utf-8").strip()
    if "://" not in source:
        return None
    if ("@" in source and ":" in source.partition("://")[2].rpartition("@")[0]) or "password=" in source:
        fail(2, "a password does not belong on a command line: name a variable (env:NAME) or a file")
    return source
