"""Settings of cowrieprocessor (its sensors.example.toml and .env.example), and what to set here instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

_VARIABLES = {
    "VT_API_KEY": "VIRUSTOTAL_API_KEY",
    "REDIS_TTL_SECONDS": "[enrichment.cache] redis_ttl_seconds in sensors.toml",
    "ENABLE_DB_CACHE": "nothing: the database tier is always on",
    "COWRIEPROC_CACHE_DIR": "CACHE_DIR",
    "DB_HOST": "DATABASE_URL",
    "DB_NAME": "DATABASE_URL",
    "DB_USER": "DATABASE_URL",
    "USE_NEW_ENRICHMENT": "nothing",
}

_GLOBAL = {
    "db": "DATABASE_URL, to a database of its own",
    "cache": "[enrichment.cache], or REDIS_HOST and the others",
    "report_dir": "nothing: `cowrie-enrich export` writes where it is told",
    "log_dir": "nothing",
}
_SENSOR = {
    "logpath": "COWRIE_LOG_DIR",
    "email": "DSHIELD_EMAIL",
    "vtapi": "VIRUSTOTAL_API_KEY",
    "urlhausapi": "URLHAUS_API_KEY",
    "spurapi": "SPUR_API_KEY",
    "summarizedays": "`cowrie-enrich run --days A..B`",
}


def moved_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A warning for each variable of cowrieprocessor's that is set, in the order of the table."""
    for name, instead in _VARIABLES.items():
        if environ.get(name, "").strip() and not environ.get(instead, "").strip():
            yield f"environment variable {name} is cowrieprocessor's: not used; set {instead}"


def moved_keys(document: Mapping[str, Any], environ: Collection[str]) -> Iterator[str]:
    """A warning for each key in sensors.toml that meant something to cowrieprocessor and whose counterpart
    here is not set; no value is shown, for it may be a secret."""
    tables = [("[global]", _GLOBAL, document.get("global"))]
    sensors = document.get("sensor")
    tables += [("[[sensor]]", _SENSOR, sensor) for sensor in (sensors if isinstance(sensors, list) else [])]
    found: dict[str, None] = {}
    for place, instead, table in tables:
        if isinstance(table, dict):
            for key in table.keys() & instead.keys():
                if instead[key].partition(",")[0] not in environ:
                    found[f"{place} {key} is cowrieprocessor's: not used; set {instead[key]}"] = None
    yield from sorted(found)
