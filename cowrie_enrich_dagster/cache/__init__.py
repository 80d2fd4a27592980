"""What services have answered, remembered: Redis before the database before the reference's files."""

from cowrie_enrich_dagster.cache.database_tier import DatabaseCache
from cowrie_enrich_dagster.cache.entry import (
    MAX_PAYLOAD_BYTES,
    CacheEntry,
    UndecodableEntry,
    Unstorable,
    is_fresh,
    is_storable_key,
)
from cowrie_enrich_dagster.cache.filesystem_tier import UNKNOWN_FILES, FilesystemCache, ScannedFile
from cowrie_enrich_dagster.cache.history import archive, archive_expired
from cowrie_enrich_dagster.cache.hybrid import Fetch, Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.cache.importer import ImportReport, import_directory, import_records
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.records import BadRecord, Reading, Told, refuse_blank
from cowrie_enrich_dagster.cache.redis_tier import RedisCache, RedisStatus
from cowrie_enrich_dagster.cache.tiers import CacheTier, versioned

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "UNKNOWN_FILES",
    "BadRecord",
    "CacheEntry",
    "CacheMetrics",
    "CacheTier",
    "DatabaseCache",
    "Fetch",
    "FilesystemCache",
    "Hit",
    "HybridEnrichmentCache",
    "ImportReport",
    "Reading",
    "RedisCache",
    "RedisStatus",
    "ScannedFile",
    "Told",
    "UndecodableEntry",
    "Unstorable",
    "archive",
    "archive_expired",
    "import_directory",
    "import_records",
    "is_fresh",
    "is_storable_key",
    "refuse_blank",
    "versioned",
]
