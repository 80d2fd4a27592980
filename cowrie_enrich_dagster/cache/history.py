"""What newer answers replaced, and what expired: `observations`, where what was known stays known.

An answer that says what the one before it said is not kept again: the row of the first tells the other
moments at which it was told, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, bindparam, text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import UtcDateTime

Moments = Mapping[str, tuple[str, ...]]
"""By service the path of what tells in an answer when it was made, and nothing else."""

_DIALECT = {
    "sqlite": {
        "appended": "json_insert(coalesce(told_at, '[]'), '$[#]', c.fetched_at)",
        "without": "json_remove({payload}, '$.{path}')",
        "whole": "json({payload})",
        "dot": ".",
    },
    "postgresql": {
        "appended": "coalesce(told_at, '[]') || to_jsonb("
        "to_char(c.fetched_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'))",
        "without": "{payload} #- '{{{path}}}'",
        "whole": "{payload}",
        "dot": ",",
    },
}


def archive(
    database: Database, connection: Connection, moments: Moments, service: str, keys: Sequence[str]
) -> None:
    """Copy the present answers about `keys` into the history, before they are replaced."""
    chosen = f"c.service = :service AND {database.among('c.cache_key')}"
    values: dict[str, object] = {"service": service, "keys": to_json(list(keys))}
    held = text(f"SELECT 1 FROM enrichment_cache AS c WHERE {chosen} LIMIT 1")
    if connection.execute(held, values).first():  # mostly there is none, and to copy nothing takes long
        _copy(database, connection, moments, chosen, values)


def archive_expired(database: Database, moments: Moments, lists: Collection[str]) -> None:
    """Copy every expired answer into the history, but for `lists`: whole ones, copied out of already."""
    chosen = f"c.expires_at <= :now AND NOT ({database.among('c.service')})"
    with database.write() as connection:
        now = database.now(connection)
        _copy(database, connection, moments, chosen, {"now": now, "keys": to_json(list(lists))})


def _copy(
    database: Database, connection: Connection, moments: Moments, chosen: str, values: dict[str, object]
) -> None:
    dialect = _DIALECT["sqlite" if database.is_sqlite else "postgresql"]

    def said(payload: str) -> str:
        without = {
            service: dialect["without"].format(payload=payload, path=dialect["dot"].join(path))
            for service, path in moments.items()
        }
        cases = " ".join(f"WHEN '{service}' THEN {rest}" for service, rest in without.items())
        whole = dialect["whole"].format(payload=payload)
        return f"CASE c.service {cases} ELSE {whole} END" if cases else whole

    # The newest that the history has of the key is as new, or says the same: then only the moment is new.
    told_again = f"""
        UPDATE observations AS o SET told_at = {dialect["appended"]}, told_until = c.fetched_at
        FROM enrichment_cache AS c
        WHERE {chosen} AND o.service = c.service AND o.key = c.cache_key AND o.feed IS NULL
          AND o.status = c.status AND coalesce(o.told_until, o.fetched_at) < c.fetched_at
          AND {said("o.payload")} {database.is_same} {said("c.cache_value")}
          AND NOT EXISTS (
            SELECT 1 FROM observations AS newer
            WHERE newer.service = o.service AND newer.key = o.key AND newer.feed IS NULL
              AND newer.fetched_at > o.fetched_at)
    """
    told_anew = f"""
        INSERT INTO observations (service, key, fetched_at, status, payload)
        SELECT c.service, c.cache_key, c.fetched_at, c.status, c.cache_value FROM enrichment_cache AS c
        WHERE {chosen} AND NOT EXISTS (
            SELECT 1 FROM observations AS o
            WHERE o.service = c.service AND o.key = c.cache_key AND o.feed IS NULL
              AND o.fetched_at <= c.fetched_at AND coalesce(o.told_until, o.fetched_at) >= c.fetched_at)
        ON CONFLICT (service, key, fetched_at) DO NOTHING
    """
    for statement in (told_again, told_anew):
        clause = text(statement)
        if "now" in values:
            clause = clause.bindparams(bindparam("now", type_=UtcDateTime()))
        connection.execute(clause, values)
