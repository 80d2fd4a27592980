"""Reading the settings: environment over sensors.toml over defaults, all problems reported at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from sqlalchemy import URL

from cowrie_enrich_dagster.settings.catalogue import Setting, all_settings, toml_name
from cowrie_enrich_dagster.settings.fields import Source
from cowrie_enrich_dagster.settings.model import (
    DEFAULT_SERVICE_NAMES,
    RedisSettings,
    ServiceSettings,
    Settings,
)
from cowrie_enrich_dagster.settings.moved import moved_keys, moved_variables
from cowrie_enrich_dagster.settings.read_lists import TABLE as LISTS_TABLE
from cowrie_enrich_dagster.settings.read_lists import read_lists
from cowrie_enrich_dagster.settings.values import REJECTED, Context, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HOME, _DATABASE_URL, _SENSORS_TOML = ("home",), ("database_url",), ("sensors_toml",)
_CACHE_ENABLED, _CACHE_DIR, _REDIS_ENABLED = ("cache_enabled",), ("cache_dir",), ("redis", "enabled")
_PRESETS = ("list_presets",)
_TABLES = ("cache", "rate_limits")
_LISTS = "lists"
_OUR_PREFIXES = ("ENRICH_", "COWRIE_ENRICH_")
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_SHOWN_CHARACTERS = 80


class ConfigError(Exception):
    """The settings cannot be used. `problems` has a line each, naming source, key and what is accepted."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(self.problems))


def load_settings(
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    service_names: Sequence[str] = DEFAULT_SERVICE_NAMES,
) -> Settings:
    """Read the settings from `environ` (default: the process's) and sensors.toml.

    Relative paths count from `cwd` (default: the process's). The file is the one SENSORS_TOML names, else
    `sensors.toml` in `cwd` if there is one. An empty variable counts as not set. A secret `X` may be given as
    the path of a file, in `X_FILE`. Raises `ConfigError` with every problem found.
    """
    environ = os.environ if environ is None else environ
    return _Reading(environ, Path.cwd() if cwd is None else cwd.absolute(), tuple(service_names)).run()


def checked(dotted: str, value: Any, name: str) -> Any:
    """One value for the setting at this path, such as `redis.port`; raises `ConfigError` in its words.

    `name` is what the message calls it.
    """
    setting = next(one for one in all_settings(DEFAULT_SERVICE_NAMES) if one.dotted == dotted)
    context: Context = {"cwd": Path.cwd(), "service": setting.service, "services": DEFAULT_SERVICE_NAMES}
    try:
        return setting.adapter.validate_python(value, context=context)
    except ValidationError as error:
        raise ConfigError(_not_accepted(setting, value, name, setting.accepts, error)) from None


def _not_accepted(setting: Setting, value: Any, name: str, accepts: str, error: ValidationError) -> str:
    # Nothing of pydantic's own message, nor the exception as a cause: both quote the value.
    why = next((f", {e['msg']}" for e in error.errors() if e["type"] == REJECTED), "")
    shown = "" if setting.is_secret else f" = {_quoted(value)}"
    return f"{name}{shown} is not accepted{why}; accepted: {accepts}"


class _Reading:
    def __init__(self, environ: Mapping[str, str], cwd: Path, service_names: tuple[str, ...]) -> None:
        self.environ = environ
        self.cwd = cwd
        self.service_names = service_names
        self.settings = all_settings(service_names)
        self.values: dict[tuple[str, ...], Any] = {}
        self.sources: dict[tuple[str, ...], Source] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def run(self) -> Settings:
        self._read_environment()
        self._warn_of_unknown_variables()
        self._read_file()
        if self.values.get(_PRESETS) and ("lists",) not in self.values:
            self._read_lists("environment", [])
        self._derive()
        if self.problems:
            # A variable that all services share is found bad once for each.
            raise ConfigError(*dict.fromkeys(self.problems))
        return self._build()

    # --- environment

    def _read_environment(self) -> None:
        for setting in self.settings:
            if setting.env and (text := self._text(setting, setting.env)):
                word = _SWITCH.get(text.lower(), text) if setting.is_switch else text
                key = setting.env if self.environ.get(setting.env) else f"{setting.env}_FILE"
                self._accept(setting, word, "environment", "environment", key, setting.accepts)

    def _text(self, setting: Setting, name: str) -> str:
        text = self.environ.get(name, "")
        if setting.is_secret:
            return self._secret(name, text.strip("\r\n"))
        if name == "REDIS_PORT" and text.startswith("tcp://"):
            # Kubernetes sets it so in every pod beside a Service that is called "redis".
            self.warnings.append("REDIS_PORT is a Kubernetes service link (tcp://...), not a port: not used")
            return ""
        return text.strip()

    def _secret(self, name: str, text: str) -> str:
        file = self.environ.get(f"{name}_FILE", "").strip()
        if not file:
            return text
        if text:
            self.problems.append(f"environment: {name} and {name}_FILE are both set; accepted: one of them")
            return ""
        try:
            text = (self.cwd / file).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, ValueError) as error:
            self.problems.append(
                f"environment: {name}_FILE = {_quoted(file)} cannot be read ({_why(error)});"
                " accepted: a text file that holds the secret"
            )
            return ""
        if not text:
            self.warnings.append(f"{name}_FILE names an empty file: {name} counts as not set")
        return text

    def _warn_of_unknown_variables(self) -> None:
        known = {setting.env for setting in self.settings if setting.env}
        known |= {f"{setting.env}_FILE" for setting in self.settings if setting.is_secret}
        prefixes = (*_OUR_PREFIXES, *(f"{name.upper()}_" for name in self.service_names))
        for name in sorted(self.environ):
            if name.startswith(prefixes) and name not in known and self.environ[name].strip():
                hint = did_you_mean(name, sorted(known))
                self.warnings.append(f"environment variable {name} is not a setting{hint}: not used")

        self.warnings.extend(moved_variables(self.environ))

    # --- sensors.toml

    def _read_file(self) -> None:
        path = self.values.get(_SENSORS_TOML)
        if path is None:
            path = self.cwd / "sensors.toml"
            if not os.path.lexists(path):  # a broken link is there, and is an error
                return
            self.values[_SENSORS_TOML] = path
        named = "environment: SENSORS_TOML names" if _SENSORS_TOML in self.sources else "sensors.toml:"
        try:
            # utf-8-sig: editors on Windows begin the file with a byte order mark.
            document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:  # the last for endless "[[[["
            self.problems.append(
                f"{named} {path}, which cannot be read ({_why(error)}); accepted: a TOML file"
            )
            return
        self.warnings.extend(f"{path}: {words}" for words in moved_keys(document, self.environ))
        enrichment = document.get("enrichment", {})
        if isinstance(enrichment, dict) and _LISTS in enrichment:
            self._read_lists(str(path), enrichment.pop(_LISTS))
        tables = self._tables(path, enrichment)
        self._check_keys(path, tables)
        for setting in self.settings:
            if setting.toml and setting.toml[1] in (table := tables.get(setting.toml[0], {})):
                value, key = table[setting.toml[1]], toml_name(*setting.toml)
                accepts = "true or false" if setting.is_switch else setting.accepts
                self._accept(setting, value, "sensors.toml", str(path), key, accepts)

    def _read_lists(self, where: str, entries: object) -> None:
        presets = self.values.get(_PRESETS) or ()
        lists, problems = read_lists(presets, entries, self._context(""), _quoted)
        self.values[("lists",)] = lists
        self.problems += [f"{where}: {problem}" for problem in problems]

    def _tables(self, path: Path, enrichment: Any) -> dict[str, dict[str, Any]]:
        if not isinstance(enrichment, dict):
            self.problems.append(f"{path}: enrichment is not a table; accepted: {_table_names()}")
            return {}
        tables = {}
        for name, table in enrichment.items():
            if name not in _TABLES:
                hint = did_you_mean(name, (*_TABLES, _LISTS))
                self.problems.append(
                    f"{path}: [enrichment] has no key {_quoted(name)}{hint}; accepted: {_table_names()}"
                )
            elif not isinstance(table, dict):
                self.problems.append(
                    f"{path}: enrichment.{name} is not a table; accepted: [enrichment.{name}]"
                )
            else:
                tables[name] = table
        return tables

    def _check_keys(self, path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
        for name, table in tables.items():
            known = [setting.toml[1] for setting in self.settings if setting.toml and setting.toml[0] == name]
            for key in table:
                if key not in known:
                    hint = did_you_mean(key, known)
                    self.problems.append(
                        f"{path}: [enrichment.{name}] has no key {_quoted(key)}{hint};"
                        f" accepted: {', '.join(known)}"
                    )

    # --- both

    def _accept(
        self, setting: Setting, value: Any, source: Source, where: str, key: str, accepts: str
    ) -> None:
        """Validate a value and keep it, unless a stronger source has given one."""
        try:
            parsed = setting.adapter.validate_python(
                value,
                strict=source == "sensors.toml" or setting.is_switch,
                context=self._context(setting.service),
            )
        except ValidationError as error:
            self.problems.append(_not_accepted(setting, value, f"{where}: {key}", accepts, error))
            return
        if setting.path not in self.values:
            self.values[setting.path] = parsed
            self.sources[setting.path] = source

    def _context(self, service: str) -> Context:
        return {"cwd": self.cwd, "service": service, "services": self.service_names}

    def _derive(self) -> None:
        self.values.setdefault(_HOME, self.cwd / ".cowrie-enrich")
        if _DATABASE_URL not in self.values:
            url = URL.create("sqlite", database=str(self.values[_HOME] / "enrich.db"))
            self.values[_DATABASE_URL] = SecretStr(url.render_as_string(hide_password=False))
        if not self.values.get(_CACHE_ENABLED, True):
            self._turn_tiers_off()

    def _turn_tiers_off(self) -> None:
        if self.sources.get(_REDIS_ENABLED) != "environment":
            self.values[_REDIS_ENABLED] = False
            self.sources[_REDIS_ENABLED] = "sensors.toml"
        if self.values.pop(_CACHE_DIR, None):
            self.sources[_CACHE_DIR] = "sensors.toml"
            self.warnings.append("CACHE_DIR is not used: sensors.toml has [enrichment.cache] enabled = false")

    def _build(self) -> Settings:
        def under(*prefix: str) -> dict[str, Any]:
            return {path[-1]: value for path, value in self.values.items() if path[:-1] == prefix}

        # model_construct: every value has been validated above, by its own field.
        return Settings.model_construct(
            **under(),
            redis=RedisSettings.model_construct(**under("redis")),
            services={
                name: ServiceSettings.model_construct(**under("services", name))
                for name in self.service_names
            },
            embedded_database=_DATABASE_URL not in self.sources,
            warnings=tuple(self.warnings),
            sources={".".join(path): source for path, source in self.sources.items()},
        )


def _table_names() -> str:
    return ", ".join([*(f"[enrichment.{name}]" for name in _TABLES), LISTS_TABLE])


def _quoted(value: object) -> str:
    """A value for a message, on one line: escaped, short, and no URL that might hold a secret."""
    if isinstance(value, str) and "://" in value and ("@" in value or "?" in value):
        return "(not shown: it may hold a secret)"
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # a hexadecimal number of thousands of digits
        return "(too long to show)"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
