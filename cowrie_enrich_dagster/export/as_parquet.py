"""Parquet: a column per field, moments in UTC to the microsecond, deeds as lists, JSON as its text."""

from __future__ import annotations

from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean, Date, Integer, String, Text

from cowrie_enrich_dagster.export.fields import Field, Wanted, fields_for, rows_of
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
_MEMBERS = {"success": pa.bool_(), "attempts": pa.int64(), "port": pa.int64(), "requests": pa.int64()}


def _type(field: Field) -> pa.DataType:
    if field.items == ("",):
        return pa.list_(pa.string())
    if field.items:
        return pa.list_(pa.struct([(name, _MEMBERS.get(name, pa.string())) for name in field.items]))
    return _TYPES[type(field.source.type)]


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write one row group per batch of sessions; returns how many sessions."""
    rows = 0
    fields = fields_for(wanted)
    schema = pa.schema([(field.name, _type(field)) for field in fields])
    with (
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
        rows_of(database, days, fields) as found,
    ):
        for batch in found:
            columns = zip(zip(*batch, strict=True), schema, strict=True)
            arrays = [pa.array(values, column.type) for values, column in columns]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            rows += len(batch)
    return rows
