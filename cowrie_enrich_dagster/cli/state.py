"""How the installation is: `quota`, `metrics`, `doctor`."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cowrie_enrich_dagster.cli.app import (
    JsonOption,
    check_output,
    fail,
    open_enricher,
    open_settings,
)
from cowrie_enrich_dagster.cli.output import (
    err,
    escape,
    print_json,
    print_table,
    tell,
)
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.doctor import examine
from cowrie_enrich_dagster.lookups.ledger import LedgerEntry
from cowrie_enrich_dagster.metrics import render, write_textfile
from cowrie_enrich_dagster.metrics_server import serve
from cowrie_enrich_dagster.readable import duration, instant, number


def quota(json: JsonOption = False) -> None:
    """The quota ledger: used and left per window, cooldowns and why, learned rates, backlog and its end."""
    with open_enricher() as enricher:
        entries = enricher.ledger()
    if json:
        print_json([entry.as_dict() for entry in entries])
        return
    for entry in entries:
        status = entry.status
        learned = status.effective_rate < status.configured_rate
        tell(
            f"[bold]{status.service}[/bold]  {status.effective_rate:g} requests/s"
            + (f" (learned; configured {status.configured_rate:g})" if learned else "")
            + f", backlog {number(entry.backlog)}"
            + _backlogs_end(entry)
        )
        if status.cooldown_until:
            until = instant(status.cooldown_until)
            tell(f"  no request before {until}: {escape(str(status.cooldown_reason))}")
        for window in status.windows:
            left = ""
            if window.limit is not None and window.left is not None:
                left = f", {number(window.left)} of {number(window.limit)} left"
            used = f"{number(window.used)} used{left}"
            tell(f"  {window.name}: {used}, resets {instant(window.resets_at)}")


def _backlogs_end(entry: LedgerEntry) -> str:
    if not entry.backlog:
        return ""
    if entry.is_never:
        return f", never done at this pace: {entry.arriving_per_day:.0f} new ones come in a day"
    return f", done in {duration(entry.eta_s)}"


def metrics(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file for node_exporter's textfile collector (*.prom)."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Serve them to Prometheus at [ADDRESS:]PORT until it is stopped.")
    ] = None,
) -> None:
    """Prometheus metrics: quota, cooldowns, rates, backlog, cache, latest runs. Default: to stdout."""
    if listen is not None and output is not None:
        fail(2, "--listen takes no --output")
    check_output(output)
    with open_enricher() as enricher:
        if listen is not None:
            _serve(enricher, listen)
        elif output is None:
            sys.stdout.write(render(enricher).decode())
        else:
            write_textfile(enricher, output)


def doctor(json: JsonOption = False) -> None:
    """Show the settings in effect (secrets masked) and whether each part answers. Exit 1 if one does not."""
    with open_settings() as settings:
        findings = examine(settings)
    if json:
        print_json(findings.as_dict())
    else:
        shown = [(setting.name, setting.value, setting.source) for setting in findings.settings]
        print_table("Settings", ["name", "value", "from"], shown)
        print_table(
            "Parts", ["part", "state", "detail"], [(p.name, p.state, p.detail) for p in findings.parts]
        )
    if not findings.healthy:
        raise typer.Exit(1)


def _serve(enricher: Enricher, listen: str) -> None:
    """Serve at `[ADDRESS:]PORT`, said on stderr; Ctrl-C or SIGTERM ends it, and that is no failure."""
    match = re.fullmatch(r"(?:\[?([0-9A-Za-z.:-]+?)\]?:)?([0-9]{1,5})", listen)
    if match is None or int(match[2]) > 65535:
        fail(2, f"--listen: {listen!r} is not [ADDRESS:]PORT")
    host = match[1] or "127.0.0.1"
    try:
        port = serve(enricher, host, int(match[2]))
    except OSError as problem:
        fail(2, f"--listen: {listen}: {problem.strerror or problem}")
    err.print(escape(f"metrics at http://{f'[{host}]' if ':' in host else host}:{port}/metrics"))
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
