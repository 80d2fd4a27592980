"""Moving in from cowrieprocessor: its cache files, and its table `enrichment_cache`, as answers of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import Engine, create_engine, inspect, select, text

from cowrie_enrich_dagster.cache import (
    UNKNOWN_FILES,
    BadRecord,
    CacheEntry,
    FilesystemCache,
    ScannedFile,
    Unstorable,
)
from cowrie_enrich_dagster.enrichment.reference import read_record
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage.engine import Database, normalise_url
from cowrie_enrich_dagster.storage.tables import SessionIp, table_of

TTLS = {name: service.ttl for name, service in ALL.items()}
NOT_FOUND_TTLS = {name: service.not_found_ttl for name, service in ALL.items()}
_TABLE = "enrichment_cache"
_ROWS = 1_000


class NothingToImport(Exception):
    """The database has no table of cowrieprocessor's to import; the message says what it has."""


def reference_files(base: Path, database: Database) -> FilesystemCache:
    """The filesystem tier, in which the records of cowrieprocessor mean what they mean here.

    The key of a path that is a hash is found among the addresses that `database` knows.
    """

    @lru_cache(maxsize=1)
    def addresses() -> dict[str, str]:
        with database.read() as connection:
            known = connection.execute(select(table_of(SessionIp).c.src_ip).distinct()).scalars()
            return {sha256(address.encode()).hexdigest(): address for address in known}

    keys: Callable[[str], str | None] = lambda digest: addresses().get(digest)  # noqa: E731
    return FilesystemCache(base, TTLS, reading=read_record, not_found_ttls=NOT_FOUND_TTLS, keys=keys)


def reference_table(url: str) -> Iterator[ScannedFile]:
    """The rows of cowrieprocessor's `enrichment_cache` at `url`, which is only read.

    Raises ValueError for a URL of another engine, `NothingToImport` where there is no such table, and
    SQLAlchemy's `DBAPIError` where there is no such database.
    """
    engine = _read_only(url)
    try:
        columns = _columns(engine)
        if not {"service", "cache_key", "cache_value", "created_at"} <= columns:
            raise NothingToImport(f"it has no table {_TABLE} of cowrieprocessor's")
        if "fetched_at" in columns:
            raise NothingToImport("it is a database of this project: restore it from a backup instead")
        query = text(f"SELECT service, cache_key, cache_value, created_at FROM {_TABLE}")
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS) as connection:
            for row in connection.execute(query):
                yield _entry(*row)
    finally:
        engine.dispose()


def _read_only(url: str) -> Engine:
    parsed = normalise_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.is_file():
            raise NothingToImport(f"{path} is not a file")
        return create_engine(f"sqlite+pysqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true")
    options = f"{parsed.query.get('options', '')} -c default_transaction_read_only=on".strip()
    return create_engine(parsed.update_query_dict({"options": options}))


def _columns(engine: Engine) -> set[str]:
    seen = inspect(engine)
    return {column["name"] for column in seen.get_columns(_TABLE)} if seen.has_table(_TABLE) else set()


def _entry(service: str, key: str, value: Any, created_at: Any) -> ScannedFile:
    where = Path(f"{service}/{key}")
    name = "virustotal" if service == UNKNOWN_FILES else service
    if name not in TTLS:
        return ScannedFile(where, problem="not a service that is known here")
    try:
        record = orjson.loads(value) if isinstance(value, (str, bytes)) else value
        told = read_record(service, key, record)
        fetched_at = _moment(created_at)
        if told.fetched_at is not None:
            fetched_at = min(fetched_at, told.fetched_at)
        ttl = (TTLS if told.payload is not None else NOT_FOUND_TTLS)[name]
        entry = CacheEntry.of_answer(name, told.key, told.payload, fetched_at=fetched_at, ttl=ttl)
        return ScannedFile(where, entry)
    except (BadRecord, Unstorable, ValueError) as problem:
        return ScannedFile(where, problem=str(problem))


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise BadRecord("it does not say when it was fetched")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
