"""Parquet: a column per field, moments in UTC to the microsecond, what is JSON as its text."""

from __future__ import annotations

from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean, Date, Integer, String, Text

from cowrie_enrich_dagster.export.fields import FIELDS, batches
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days

_TYPES = {
    Text: pa.string(),
    String: pa.string(),
    Integer: pa.int64(),
    BigInteger: pa.int64(),
    Boolean: pa.bool_(),
    Date: pa.date32(),
    UtcDateTime: pa.timestamp("us", tz="UTC"),
}
SCHEMA = pa.schema([(field.name, _TYPES[type(field.source.type)]) for field in FIELDS])


def write(database: Database, days: Days, stream: IO[bytes]) -> int:
    """Write one row group per batch of sessions; returns how many sessions."""
    rows = 0
    with (
        pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer,
        batches(database, days, [field.source for field in FIELDS]) as found,
    ):
        for batch in found:
            columns = zip(zip(*batch, strict=True), SCHEMA, strict=True)
            arrays = [pa.array(values, column.type) for values, column in columns]
            writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
            rows += len(batch)
    return rows
