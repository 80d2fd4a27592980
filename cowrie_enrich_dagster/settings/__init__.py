"""Settings from the environment and `sensors.toml`: `load_settings()` gives one frozen `Settings`.

Not built on pydantic-settings: it reads `os.environ` itself, raises at the first source that fails, and does
not say which source a value came from; here every problem is reported at once and every value has its source.
"""

from cowrie_enrich_dagster.settings.effective import EffectiveSetting, effective
from cowrie_enrich_dagster.settings.lists import PRESETS, ListSettings
from cowrie_enrich_dagster.settings.load import ConfigError, checked, load_settings
from cowrie_enrich_dagster.settings.model import (
    DEFAULT_SERVICE_NAMES,
    RedisSettings,
    ServiceSettings,
    Settings,
)

__all__ = [
    "DEFAULT_SERVICE_NAMES",
    "PRESETS",
    "ConfigError",
    "EffectiveSetting",
    "ListSettings",
    "RedisSettings",
    "ServiceSettings",
    "Settings",
    "checked",
    "effective",
    "load_settings",
]
