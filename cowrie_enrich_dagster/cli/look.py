"""The commands that only look at sessions: `export`, `report`, `who`, `session`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cowrie_enrich_dagster.cli import cards
from cowrie_enrich_dagster.cli.app import (
    DaysOption,
    JsonOption,
    check_output,
    days_of,
    fail,
    open_enricher,
)
from cowrie_enrich_dagster.cli.output import (
    err,
    escape,
    out,
    print_json,
    say,
)
from cowrie_enrich_dagster.cowrie.addresses import normalised_address
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.export import ExportFormat, Wanted, export_days
from cowrie_enrich_dagster.report.cards import address_card, session_cards
from cowrie_enrich_dagster.report.figures import figures_of, outline_of
from cowrie_enrich_dagster.report.words import headline
from cowrie_enrich_dagster.vocabulary import Days


def export(
    days: DaysOption,
    file_format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file (written whole or not at all); default: stdout."),
    ] = None,
    with_passwords: Annotated[
        bool, typer.Option("--with-passwords", help="Parquet, CSV and JSON: passwords, as they were typed.")
    ] = False,
    with_answers: Annotated[
        bool, typer.Option("--with-answers", help="Parquet, CSV and JSON: what each service answered.")
    ] = False,
) -> None:
    """Write enriched sessions: parquet, csv (safe in spreadsheets), json (ECS, a line each), stix (2.1).

    Or a blocklist: the addresses that tried something, one a line.
    """
    span = days_of(days)
    if output is None and file_format is ExportFormat.PARQUET:
        fail(2, "--format parquet is not text: name a file with --output")
    check_output(output)
    with open_enricher() as enricher:
        wanted = Wanted(with_passwords, with_answers)
        report = export_days(enricher.database, span, file_format, output, wanted)
    what = {ExportFormat.STIX: "sightings", ExportFormat.BLOCKLIST: "addresses"}.get(file_format, "sessions")
    where = "" if output is None else f" to {output}, {report.size} bytes"
    err.print(f"{report.rows} {what} written{escape(where)}")
    if not report.rows:
        err.print(f"nothing is enriched for {span} yet; `run` or Dagster does it")


def report(
    days: DaysOption,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page's file; default: report-DAYS.html in this folder."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Who attacked on the days, with what, what is new, and what is not known yet: one page, or JSON.

    The page loads nothing from anywhere and may be sent as it is.
    """
    span = days_of(days)
    if json and output is not None:
        fail(2, "--json goes to stdout: it takes no --output")
    path = (output or Path(f"report-{span}.html")).absolute()
    if not json:
        check_output(path)
    with open_enricher() as enricher:
        figures = figures_of(enricher, span)
    if json:
        print_json(figures.as_dict())
        return
    # Only here: matplotlib takes a second to load.
    from cowrie_enrich_dagster.report.page import write_page

    size = write_page(figures, path)
    say(headline(figures))
    err.print(escape(f"the page: {path} ({size // 1024} KiB)"))


def who(address: Annotated[str, typer.Argument(help="An IP address.")], json: JsonOption = False) -> None:
    """The card of an address: what it did, when, where, what each service says, as of when; its campaigns."""
    wanted = normalised_address(address)
    if wanted is None:
        fail(2, f"{address!r} is not an IP address")
    with open_enricher() as enricher:
        card = address_card(enricher.database, wanted)
    if card is None:
        fail(1, f"no session on record came from {wanted}")
    if json:
        print_json(card.as_dict())
    else:
        out.print(cards.address(card), soft_wrap=False)


def session(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="A session's id, as Cowrie logged it.")],
    json: JsonOption = False,
) -> None:
    """The card of a session, or of each that has this id: ids are used again."""
    with open_enricher() as enricher:
        found = session_cards(enricher.database, session_id)
    if not found:
        fail(1, f"no session on record has the id {session_id}")
    if json:
        print_json([card.as_dict() for card in found])
        return
    for place, card in enumerate(found):
        if place:
            out.print()
        out.print(cards.session(card), soft_wrap=False)


def top_of(enricher: Enricher, days: Days) -> list[str]:
    """The top of the report on the days, and where the rest is; to be read after a run."""
    rest = f"All of it on a page: cowrie-enrich report --days {days}"
    return ["", *headline(outline_of(enricher, days)), rest]
