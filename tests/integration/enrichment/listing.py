"""Lists in tests: serving them, the database's clock by hand, and what the rows say."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of


class Clock:
    """The database's clock, set by hand; it goes on, for slots are waited for on it."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._since = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self._since)


def at(enricher: Enricher, moment: datetime | Clock) -> Clock:
    """Let an enricher's database have a new clock that begins at the moment, or one that others have, too."""
    clock = moment if isinstance(moment, Clock) else Clock(moment)
    enricher.database._clock = clock
    return clock


def serve(simulator: Simulator, body: str, times: int = 1) -> None:
    """The next answers for any list are this text."""
    simulator.set_fault("lists", Fault(kind="reply", status=200, body=body, times=times))


def lines(*addresses: str) -> str:
    return "".join(f"{address}\n" for address in addresses)


def rows_by_ip(enricher: Enricher) -> dict[str, Any]:
    table = table_of(EnrichedSession)
    with enricher.database.read() as connection:
        return {row.source_ip: row for row in connection.execute(select(table))}


def tor(simulator: Simulator, form: str = "addresses", percent: int = 50, **more: Any) -> dict[str, Any]:
    return {
        "name": "exits",
        "says": "tor",
        "url": f"{simulator.url('lists')}/{form}/11.0.0.0-24/{percent}",
        **more,
    }
