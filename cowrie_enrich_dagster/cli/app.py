"""What every command stands on: the settings, the pipeline and the database, and how a command ends.

Exit 0: done, completely or partially; 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup

from cowrie_enrich_dagster.cli.output import Complaints, complain
from cowrie_enrich_dagster.enrichment import ANONYMOUS, Enricher
from cowrie_enrich_dagster.enrichment.doctor import database_setting
from cowrie_enrich_dagster.settings import ConfigError, Settings, load_settings
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable
from cowrie_enrich_dagster.vocabulary import Days


class Commands(TyperGroup):
    """The commands; whatever cannot be read or written ends them with one line on stderr."""

    def invoke(self, ctx: Any) -> Any:  # a `Context` of click's, or of typer's own copy of click
        """Run a command."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # whoever read has gone, as `head` does: click ends in silence
                raise
            _abandon_stdout()
            where = f"{problem.filename}: " if problem.filename else ""
            fail(1, f"{where}{problem.strerror or problem}")


DaysOption = Annotated[str, typer.Option("--days", help="One UTC day (YYYY-MM-DD) or a range A..B.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last on stdout.")]


def fail(code: int, message: str) -> NoReturn:
    """End the command with this exit code; the message goes to stderr."""
    complain("error", message)
    raise typer.Exit(code)


def _abandon_stdout() -> None:
    # What could not be written is still in its buffer, and would fail once more when the process ends.
    with suppress(OSError), open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device)
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # a stopped container gives its claims back like Ctrl-C does


@contextmanager
def open_settings() -> Iterator[Settings]:
    """The settings; what goes wrong with them, or in the block, is told in a line."""
    logging.basicConfig(level=logging.WARNING, handlers=[Complaints()])
    try:
        settings = load_settings()
    except ConfigError as problem:
        fail(2, str(problem))
    for warning in settings.warnings:
        complain("warning", warning)
    setting = database_setting(settings)
    try:
        yield settings
    except (ConfigError, migrate.SchemaOutdated, migrate.UnknownRevision) as problem:
        fail(2, str(problem))
    except DatabaseUnusable as problem:
        fail(2, f"{setting}: {problem}")
    except DBAPIError as problem:
        fail(1, f"the database ({setting}): {str(problem.orig).strip() or type(problem.orig).__name__}")
    except KeyboardInterrupt:
        fail(1, "interrupted; the next run goes on where this one stopped")


@contextmanager
def open_enricher(*, asks: bool = False, reads_logs: bool = False) -> Iterator[Enricher]:
    """The pipeline; a command that `asks` services, or plans to, is told first what they will not like.

    A SQLite file is made and upgraded for those that ask or read logs; others only look into it.
    """
    with open_settings() as settings:
        signal.signal(signal.SIGTERM, _interrupt)
        with Enricher(settings, makes_database=asks or reads_logs) as enricher:
            if (asks or reads_logs) and enricher.is_anonymous:
                complain("warning", ANONYMOUS)
            yield enricher


@contextmanager
def open_database(*, makes_file: bool = False) -> Iterator[Database]:
    """The database alone, at whatever schema it is."""
    with open_settings() as settings:
        database = Database(settings.database_url.get_secret_value(), makes_file=makes_file)
        try:
            yield database
        finally:
            database.close()


def days_of(text: str) -> Days:
    """The value of `--days`; ends the command if it is none."""
    try:
        return Days.parse(text)
    except ValueError as problem:
        fail(2, f"--days: {problem}")


def check_output(output: Path | None) -> None:
    """End the command if this file could not be written, before anything is done for it."""
    if output is None:
        return
    folder = output.absolute().parent
    if not folder.is_dir():
        fail(2, f"--output: {folder} is not a folder")
    if output.exists() and not output.is_file():
        fail(2, f"--output: {output} is there and is not a file")
    if not os.access(folder, os.W_OK):
        fail(2, f"--output: nothing can be written to {folder}")
