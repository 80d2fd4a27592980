"""`cowrie-enrich doctor`: the settings in effect, and whether each part answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cowrie_enrich_dagster.cache import RedisStatus
from cowrie_enrich_dagster.enrichment import ANONYMOUS, Enricher
from cowrie_enrich_dagster.enrichment.ingest import survey_logs
from cowrie_enrich_dagster.enrichment.nat import ask_about_nat
from cowrie_enrich_dagster.readable import instant
from cowrie_enrich_dagster.services.maxmind import DatabaseUnreadable, database_types
from cowrie_enrich_dagster.settings import EffectiveSetting, Settings, effective
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import DatabaseUnusable, NoDatabaseYet

CONNECT_TIMEOUT_S = 3.0
_NAMED_REASONS = 8
POLITE_S = 300.0


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
    enricher = Enricher(settings, makes_database=False)
    try:
        database, is_current = _database(enricher)
        parts = [
            _logs(enricher, index_is_current=is_current),
            *(_sources(enricher) if is_current else ()),
            *(_lists(enricher) if is_current else ()),
            database,
            _redis(enricher),
            _filesystem(settings),
            *_services(enricher, limits_are_known=is_current),
            _webhook(settings),
        ]
    finally:
        enricher.database.close()
    idle = [name for name in settings.services if name not in enricher.services]
    shown = [
        setting
        for setting in effective(settings)
        if setting.source != "default" or not any(name in setting.name.lower() for name in idle)
    ]
    return Findings(shown, parts)


def _logs(enricher: Enricher, *, index_is_current: bool) -> Part:
    root = enricher.settings.log_dir
    if root is None:
        return Part("logs", "failed", "COWRIE_LOG_DIR is not set")
    if not root.is_dir():
        return Part("logs", "failed", f"COWRIE_LOG_DIR names {root}, which is not a folder")
    files, passed_over = survey_logs(enricher.database if index_is_current else None, root)
    told = [f"passed over: {passed}" for passed in passed_over[:_NAMED_REASONS]]
    detail = "; ".join([f"{files} log files under {root}", *told])
    return Part("logs", "ok" if files else "warning", detail)


def _sources(enricher: Enricher) -> Iterator[Part]:
    for question in ask_about_nat(enricher.database):
        yield Part("sources", "warning", question)


def _lists(enricher: Enricher) -> Iterator[Part]:
    for one in enricher.list_reports():
        if one.status == "never":
            yield Part(f"list:{one.list}", "ok", "not looked at yet: a run does")
            continue
        detail = f"{one.entries} entries" if one.entries is not None else "no good one yet"
        if one.good_at is not None:
            detail += f", good at {one.good_at:%Y-%m-%d %H:%M} UTC"
        state: Literal["ok", "warning"] = "warning" if one.problem else "ok"
        yield Part(f"list:{one.list}", state, "; ".join(filter(None, [detail, one.problem])))


def database_setting(settings: Settings) -> str:
    """The setting that says where the database is."""
    return "COWRIE_ENRICH_HOME" if settings.embedded_database else "DATABASE_URL"


def _database(enricher: Enricher) -> tuple[Part, bool]:
    """The part, and whether the database answers and has the schema of this version."""
    try:
        with enricher.database.read() as connection:
            connection.execute(text("SELECT 1"))
        have, want = migrate.current(enricher.database), migrate.head(enricher.database)
    except NoDatabaseYet as problem:
        return _no_database_yet(enricher, problem), False
    except (SQLAlchemyError, DatabaseUnusable) as problem:
        setting = database_setting(enricher.settings)
        return Part("database", "failed", f"{setting}: {_first_line(problem)}"), False
    if have == want:
        return Part("database", "ok", f"schema {have}"), True
    if enricher.database.is_sqlite:
        state = f"schema {have}" if have else "no tables yet"
        detail = f"{state}; run, drain, Dagster or cowrie-enrich db upgrade bring it to {want}"
        return Part("database", "ok", detail), False
    detail = f"schema {have or 'missing'}, needed {want}: cowrie-enrich db upgrade"
    return Part("database", "failed", detail), False


def _no_database_yet(enricher: Enricher, problem: NoDatabaseYet) -> Part:
    """Fine before the first run, if that can make it; a look makes nothing."""
    folder = Path(enricher.database.url.database or "").absolute().parent
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Part("database", "ok", str(problem))
    setting = database_setting(enricher.settings)
    why = f"the folder {folder} cannot be made" if there != folder else f"{folder} cannot be written to"
    return Part("database", "failed", f"{setting}: {why}")


def _redis(enricher: Enricher) -> Part:
    tier = enricher.cache.redis
    if tier is None:
        return Part("redis", "off", "ENABLE_REDIS_CACHE is false")
    status = tier.status()
    if not status.reachable:
        return Part("redis", "warning", f"{status.reason}; runs go on without it")
    detail = f"{status.used_memory} bytes used of {status.maxmemory or 'unlimited'}"
    detail += f", eviction {status.eviction_policy}"
    warnings = list(_memory_warnings(status, enricher.settings.redis.max_memory))
    return Part("redis", "warning" if warnings else "ok", "; ".join([detail, *warnings]))


def _memory_warnings(status: RedisStatus, expected: str | None) -> Iterator[str]:
    """What will go wrong when Redis is full, and what is not as [enrichment.cache] says."""
    if status.maxmemory == 0:
        yield "it may use all memory of its machine: set maxmemory"
    elif status.eviction_policy == "noeviction":
        yield "full, it takes no more answers: set maxmemory-policy allkeys-lru"
    if expected and status.maxmemory is not None and bytes_of(expected) != status.maxmemory:
        yield f"redis_max_memory says {expected}"


def bytes_of(size: str) -> int:
    """A size as Redis writes it: `1k` is 1000 bytes, `1kb` 1024, and so on."""
    digits = size.rstrip("bBkKmMgG")
    unit = size[len(digits) :].lower()
    powers = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3}
    base: int = 1024 if len(unit) == 2 else 1000
    power: int = powers[unit[:1]]
    return int(digits) * int(base**power)


def _filesystem(settings: Settings) -> Part:
    folder = settings.cache_dir
    if folder is None:
        return Part("filesystem", "off", "CACHE_DIR is not set")
    if not folder.is_dir():
        return Part("filesystem", "warning", f"CACHE_DIR names {folder}, not a folder: no filesystem tier")
    return Part("filesystem", "ok", str(folder))


def _webhook(settings: Settings) -> Part:
    """Whether it can be reached, by a connection alone and without its URL, which is a secret."""
    if settings.webhook_url is None:
        return Part("webhook", "off", "ENRICH_WEBHOOK_URL is not set")
    where, through = _way_to(settings.webhook_url.get_secret_value())
    if why := _out_of_reach(through or where):
        return Part("webhook", "warning", f"{why}; runs go on without it")
    return Part("webhook", "ok", "reachable")


def _services(enricher: Enricher, *, limits_are_known: bool) -> Iterator[Part]:
    for name in enricher.services:
        if not enricher.has_key(name):
            setting = "DB_PATH" if name == "maxmind" else "API_KEY"
            yield Part(name, "off", f"{name.upper()}_{setting} is not set")
            continue
        if name == "maxmind":
            yield _maxmind(enricher)
            continue
        where, through = _way_to(enricher.source(name).config.api_url)
        if why := _out_of_reach(through or where):
            yield Part(name, "failed", f"{_shown(through or where)} {why}")
            continue
        warnings: list[str] = []
        notes: list[str] = []
        if name == "dshield" and enricher.is_anonymous:
            warnings.append(ANONYMOUS)
        if name == "dshield" and enricher.settings.services[name].first_cooldown < POLITE_S:
            notes.append("after a bare 429 DShield asks for a pause of 300 s: DSHIELD_FIRST_COOLDOWN=300")
        limit = enricher.source(name).limiter.snapshot() if limits_are_known else None
        if limit and limit.cooldown_until:
            until = instant(limit.cooldown_until)
            warnings.append(f"no request before {until} ({limit.cooldown_reason})")
        reached = f"{_shown(where)} reachable"
        if through:
            reached = f"{_shown(where)} through the proxy {_shown(through)}, which is reachable"
        detail = "; ".join([reached, *warnings, *notes])
        yield Part(name, "warning" if warnings else "ok", detail)


_Where = tuple[str, int]
_PORTS = {"https": 443, "http": 80, "whois": 43}


def _out_of_reach(where: _Where) -> str | None:
    """Why no connection is made there; None where one is."""
    try:
        socket.create_connection(where, CONNECT_TIMEOUT_S).close()
    except OSError as problem:
        return f"cannot be reached ({_first_line(problem)})"
    return None


def _way_to(url: str) -> tuple[_Where, _Where | None]:
    """Host and port of a service, and of the proxy that runs reach it through, if they do."""
    proxy = None
    if url.startswith("http"):
        proxy = select_proxy(url, get_environ_proxies(url))
    where, through = (
        (part.hostname or "", part.port or _PORTS.get(part.scheme, 80))
        for part in (urlsplit(url), urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy or ''}"))
    )
    return where, through if proxy else None


def _shown(where: _Where) -> str:
    return f"{where[0]}:{where[1]}"


def _maxmind(enricher: Enricher) -> Part:
    try:
        types = database_types(enricher.source("maxmind").config.database)
    except DatabaseUnreadable as problem:
        return Part("maxmind", "failed", f"MAXMIND_DB_PATH: {_first_line(problem)}")
    return Part("maxmind", "ok", ", ".join(types))


def _first_line(problem: BaseException) -> str:
    cause = getattr(problem, "orig", None) or problem
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
