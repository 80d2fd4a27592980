"""The commands that only look: `report`, `who`, `session`. Added to `cowrie-enrich` by `cli`, which see."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from cowrie_enrich_dagster import cli_cards
from cowrie_enrich_dagster.cli import (
    DaysOption,
    JsonOption,
    _check_output,
    _days,
    _enricher,
    _fail,
    _print_json,
    app,
    err,
    escape,
    out,
)
from cowrie_enrich_dagster.cowrie.addresses import normalised_address
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report.cards import address_card, session_cards
from cowrie_enrich_dagster.report.figures import figures_of, outline_of
from cowrie_enrich_dagster.report.words import headline
from cowrie_enrich_dagster.vocabulary import Days


@app.command()
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
    span = _days(days)
    if json and output is not None:
        _fail(2, "--json goes to stdout: it takes no --output")
    path = (output or Path(f"report-{span}.html")).absolute()
    if not json:
        _check_output(path)
    with _enricher() as enricher:
        figures = figures_of(enricher, span)
    if json:
        _print_json(figures.as_dict())
        return
    # Only here: matplotlib takes a second to load.
    from cowrie_enrich_dagster.report.page import write_page

    size = write_page(figures, path)
    say(headline(figures))
    err.print(escape(f"the page: {path} ({size // 1024} KiB)"))


@app.command()
def who(address: Annotated[str, typer.Argument(help="An IP address.")], json: JsonOption = False) -> None:
    """The card of an address: what it did, when, where, what each service says, as of when; its campaigns."""
    wanted = normalised_address(address)
    if wanted is None:
        _fail(2, f"{address!r} is not an IP address")
    with _enricher() as enricher:
        card = address_card(enricher.database, wanted)
    if card is None:
        _fail(1, f"no session on record came from {wanted}")
    if json:
        _print_json(card.as_dict())
    else:
        out.print(cli_cards.address(card), soft_wrap=False)


@app.command()
def session(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="A session's id, as Cowrie logged it.")],
    json: JsonOption = False,
) -> None:
    """The card of a session, or of each that has this id: ids are used again."""
    with _enricher() as enricher:
        cards = session_cards(enricher.database, session_id)
    if not cards:
        _fail(1, f"no session on record has the id {session_id}")
    if json:
        _print_json([card.as_dict() for card in cards])
        return
    for place, card in enumerate(cards):
        if place:
            out.print()
        out.print(cli_cards.session(card), soft_wrap=False)


def say(sentences: Iterable[str]) -> None:
    """Print sentences, on a terminal with line breaks between words."""
    for sentence in sentences:
        out.print(escape(sentence), soft_wrap=not out.is_terminal)


def top_of(enricher: Enricher, days: Days) -> list[str]:
    """The top of the report on the days, and where the rest is; to be read after a run."""
    rest = f"All of it on a page: cowrie-enrich report --days {days}"
    return ["", *headline(outline_of(enricher, days)), rest]
