"""JSON lines: one ECS 8 document per session, as Elasticsearch, OpenSearch and others take them in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import orjson

from cowrie_enrich_dagster.export.fields import Field, Wanted, fields_for, rows_of
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write one line per session, fields without a value and empty lists left out; returns how many."""
    rows = 0
    fields = fields_for(wanted)
    paths = [field.name.split(".") for field in fields]
    with rows_of(database, days, fields) as found:
        for batch in found:
            stream.write(
                b"".join(orjson.dumps(_document(fields, paths, row), option=_OPTIONS) for row in batch)
            )
            rows += len(batch)
    return rows


def _document(fields: Sequence[Field], paths: Sequence[list[str]], row: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ecs": {"version": "8.11.0"},
        "event": {"kind": "event", "category": ["session"], "type": ["info"], "dataset": "cowrie.session"},
        "observer": {"type": "honeypot", "product": "Cowrie"},
    }
    for field, path, value in zip(fields, paths, row, strict=True):
        if value is None or value == []:
            continue
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = orjson.Fragment(value) if field.is_json else value
    document["@timestamp"] = document["event"]["start"]
    return document
