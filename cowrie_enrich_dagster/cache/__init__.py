"""What services have answered, remembered: Redis before the database before the reference's files."""

from cowrie_enrich_dagster.cache.database_tier import DatabaseCache
from cowrie_enrich_dagster.cache.entry import (
    MAX_PAYLOAD_BYTES,
    CacheEntry,
    UndecodableEntry,
    Unstorable,
    is_storable_key,
)
from cowrie_enrich_dagster.cache.filesystem_tier import FilesystemCache, ScannedFile
from cowrie_enrich_dagster.cache.hybrid import Fetch, Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.cache.importer import ImportReport, import_directory
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.redis_tier import RedisCache, RedisStatus
from cowrie_enrich_dagster.cache.tiers import CacheTier

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "CacheEntry",
    "CacheMetrics",
    "CacheTier",
    "DatabaseCache",
    "Fetch",
    "FilesystemCache",
    "Hit",
    "HybridEnrichmentCache",
    "ImportReport",
    "RedisCache",
    "RedisStatus",
    "ScannedFile",
    "UndecodableEntry",
    "Unstorable",
    "import_directory",
    "is_storable_key",
]
