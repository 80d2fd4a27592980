"""The settings in force, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from pydantic import SecretStr
from sqlalchemy import make_url

from cowrie_enrich_dagster.settings.catalogue import Setting, all_settings
from cowrie_enrich_dagster.settings.fields import Source
from cowrie_enrich_dagster.settings.lists import PRESETS
from cowrie_enrich_dagster.settings.model import Settings


@dataclass(frozen=True)
class EffectiveSetting:
    """One setting: `name` is its variable or key in sensors.toml; secrets in `value` are masked."""

    name: str
    value: str
    source: Source


def effective(settings: Settings) -> list[EffectiveSetting]:
    """Every setting with its value and where that came from, without anything secret."""
    return [
        EffectiveSetting(
            name=setting.label,
            value=_shown(setting, reduce(_step, setting.path, settings)),
            source=settings.sources.get(setting.dotted, "default"),
        )
        for setting in all_settings(tuple(settings.services))
    ] + [
        EffectiveSetting(
            name=f"[[enrichment.lists]] {one.name}",
            value=str(one),
            source="environment" if one in PRESETS.values() else "sensors.toml",
        )
        for one in settings.lists
    ]


def _step(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)


def _shown(setting: Setting, value: Any) -> str:
    if value is None:
        return f"({setting.unset})"
    if setting.is_private:
        return "********"
    if isinstance(value, SecretStr):
        return _masked_url(value) if setting.path == ("database_url",) else "********"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or f"({setting.unset})"
    return str(value)


_HARMLESS = {
    *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "host"),
    *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "mode", "port"),
    *("search_path", "sslcert", "sslmode", "sslrootcert", "target_session_attrs", "timeout", "uri", "user"),
}
"""Parameters of libpq and of SQLite that say nothing secret."""


def _masked_url(secret: SecretStr) -> str:
    url = make_url(secret.get_secret_value())
    # libpq takes passwords as query parameters too; what is not known to be harmless may be one.
    hidden = {key: "hidden" for key in url.query if key not in _HARMLESS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)
