"""JSON lines: one ECS 8 document per session, as Elasticsearch, OpenSearch and others take them in bulk."""

from __future__ import annotations

from typing import IO, Any

import orjson

from cowrie_enrich_dagster.export.fields import FIELDS, batches
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

_PATHS = [field.name.split(".") for field in FIELDS]
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


def write(database: Database, days: Days, stream: IO[bytes]) -> int:
    """Write one line per session, fields without a value left out; returns how many."""
    rows = 0
    with batches(database, days, [field.source for field in FIELDS]) as found:
        for batch in found:
            stream.write(b"".join(orjson.dumps(_document(row), option=_OPTIONS) for row in batch))
            rows += len(batch)
    return rows


def _document(row: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ecs": {"version": "8.11.0"},
        "event": {"kind": "event", "category": ["session"], "type": ["info"], "dataset": "cowrie.session"},
        "observer": {"type": "honeypot", "product": "Cowrie"},
    }
    for field, path, value in zip(FIELDS, _PATHS, row, strict=True):
        if value is None:
            continue
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = orjson.Fragment(value) if field.is_json else value
    document["@timestamp"] = document["event"]["start"]
    return document
