"""`cowrie-enrich doctor`: the settings in effect, and whether each part answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cowrie_enrich_dagster.cowrie import find_log_files
from cowrie_enrich_dagster.enrichment.enricher import Enricher
from cowrie_enrich_dagster.settings import EffectiveSetting, Settings, effective
from cowrie_enrich_dagster.storage import migrate

CONNECT_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Part:
    """One part of the installation: `ok`, `off` (by choice), `warning` (it runs without) or `failed`."""

    name: str
    state: Literal["ok", "off", "warning", "failed"]
    detail: str


@dataclass(frozen=True)
class Findings:
    """The settings (defaults of services that take no part left out) and all parts; healthy: none failed."""

    settings: list[EffectiveSetting]
    parts: list[Part]

    @property
    def healthy(self) -> bool:
        return all(part.state != "failed" for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "settings": [asdict(setting) for setting in self.settings],
            "parts": [asdict(part) for part in self.parts],
        }


def examine(settings: Settings) -> Findings:
    """Try every part once. Services are reached by a TCP connection only: a look must not cost a call."""
    enricher = Enricher(settings)
    try:
        parts = [_logs(settings), _database(enricher), _redis(enricher), *_services(enricher)]
    finally:
        enricher.database.close()
    idle = [name for name in settings.services if name not in enricher.services]
    shown = [
        setting
        for setting in effective(settings)
        if setting.source != "default" or not any(name in setting.name.lower() for name in idle)
    ]
    return Findings(shown, parts)


def _logs(settings: Settings) -> Part:
    root = settings.log_dir
    if root is None:
        return Part("logs", "failed", "COWRIE_LOG_DIR is not set")
    if not root.is_dir():
        return Part("logs", "failed", f"COWRIE_LOG_DIR names {root}, which is not a folder")
    files = find_log_files(root)
    detail = f"{len(files)} log files under {root}"
    return Part("logs", "ok" if files else "warning", detail)


def _database(enricher: Enricher) -> Part:
    try:
        with enricher.database.read() as connection:
            connection.execute(text("SELECT 1"))
        have, want = migrate.current(enricher.database), migrate.head(enricher.database)
    except SQLAlchemyError as problem:
        return Part("database", "failed", f"DATABASE_URL: {_first_line(problem)}")
    if have == want:
        return Part("database", "ok", f"schema {have}")
    if enricher.settings.embedded_database:
        return Part(
            "database", "ok", f"schema {have or 'not created yet'}; the next run upgrades it to {want}"
        )
    return Part("database", "failed", f"schema {have or 'missing'}, needed {want}: cowrie-enrich db upgrade")


def _redis(enricher: Enricher) -> Part:
    tier = enricher.cache.redis
    if tier is None:
        return Part("redis", "off", "ENABLE_REDIS_CACHE is false")
    status = tier.status()
    if not status.reachable:
        return Part("redis", "warning", f"{status.reason}; runs go on without it")
    used, limit = status.used_memory, status.maxmemory
    return Part(
        "redis", "ok", f"{used} bytes used of {limit or 'unlimited'}, eviction {status.eviction_policy}"
    )


def _services(enricher: Enricher) -> Iterator[Part]:
    for name in enricher.services:
        if not enricher.has_key(name):
            setting = "DB_PATH" if name == "maxmind" else "API_KEY"
            yield Part(name, "off", f"{name.upper()}_{setting} is not set")
            continue
        url = urlsplit(enricher.source(name).config.api_url)
        port = url.port or {"https": 443, "http": 80, "whois": 43}.get(url.scheme)
        if not url.hostname or port is None:
            yield Part(name, "ok", "local")
            continue
        try:
            socket.create_connection((url.hostname, port), CONNECT_TIMEOUT_S).close()
        except OSError as problem:
            yield Part(name, "failed", f"{url.hostname}:{port} cannot be reached ({_first_line(problem)})")
            continue
        contact = name == "dshield" and not enricher.settings.services[name].email
        detail = "; set DSHIELD_EMAIL: its operators refuse anonymous clients" if contact else ""
        yield Part(name, "warning" if contact else "ok", f"{url.hostname}:{port} reachable{detail}")


def _first_line(problem: BaseException) -> str:
    cause = getattr(problem, "orig", None) or problem
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
