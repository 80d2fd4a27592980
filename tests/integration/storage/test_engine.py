"""What a transaction is, on both engines."""

from __future__ import annotations

from sqlalchemy import text

from cowrie_enrich_dagster.storage.engine import Database


def waits_for_the_disk(database: Database, *, lasting: bool) -> bool:
    asked = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"
    with database.write(lasting=lasting) as connection:
        return connection.execute(text(asked)).scalar_one() in (2, "on")


def test_only_what_may_be_lost_does_not_wait_for_the_disk(database: Database) -> None:
    """A claim that a power cut undoes is taken anew; an answer that was paid for stays, after a claim too."""
    waited = [waits_for_the_disk(database, lasting=lasting) for lasting in (True, False, True)]
    assert waited == [True, False, True]
