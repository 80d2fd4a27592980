"""What may be set for one run in the launchpad: config types that refuse a wrong value before the run starts.

A value is checked as the setting of that name is, and refused in the same words. Plain types on purpose:
Dagster's `StringSource` would let anybody name a variable of the environment and read what is in it.
"""

from __future__ import annotations

import os
from typing import Any

from dagster import Field
from dagster._config import ConfigScalar, ConfigScalarKind, PostProcessingError
from pydantic import SecretStr
from sqlalchemy import URL, make_url

from cowrie_enrich_dagster.enrichment import configured_pace
from cowrie_enrich_dagster.settings import ConfigError, Settings, checked, load_settings

_KINDS = {
    str: ConfigScalarKind.STRING,
    int: ConfigScalarKind.INT,
    float: ConfigScalarKind.FLOAT,
    bool: ConfigScalarKind.BOOL,
}
_PORT = 5432
_HARMLESS = ("search_path", "sslmode")


class _Checked(ConfigScalar):
    """A scalar that is read as the setting `dotted` is."""

    def __init__(self, dotted: str, kind: type) -> None:
        self.dotted = dotted
        name = "".join(part.title().replace("_", "") for part in dotted.split("."))
        super().__init__(key=f"CowrieEnrich{name}", given_name=name, scalar_kind=_KINDS[kind])

    @property
    def field(self) -> str:
        """What the launchpad calls it."""
        return {"database_url": "url", "max_wait_s": "max_wait_seconds"}.get(
            self.dotted, self.dotted.rpartition(".")[2]
        )

    def post_process(self, value: Any) -> Any:
        """The value as it is used; Dagster calls this when a run is asked for, and again when it starts."""
        try:
            return self.read(value)
        except ConfigError as problem:
            raise PostProcessingError(str(problem)) from None

    def read(self, value: Any) -> Any:
        """The value; raises `ConfigError`."""
        return checked(self.dotted, value, self.field)


class _AtMost(_Checked):
    """The rate or burst of a service, which may only be lowered."""

    def read(self, value: Any) -> Any:
        own = super().read(value)
        _, service, field = self.dotted.split(".")
        most = getattr(configured_pace(load_settings(), service), field)
        if own > most:
            raise ConfigError(f"{service}: {field} = {own:g} is more than the {most:g} that is configured")
        return own


class _Url(_Checked):
    """A database without anything secret in its URL."""

    def post_process(self, value: Any) -> Any:
        # Not by PostProcessingError, whose message quotes the value: it may hold the password it has not to.
        return self.read(value)

    def read(self, value: Any) -> Any:
        database_for_a_run(load_settings(), value)
        return value


def optional(dotted: str, kind: type, text: str) -> Field:
    """A field that is as configured unless it is filled in."""
    if dotted == "database_url":
        scalar: _Checked = _Url(dotted, kind)
    elif dotted.endswith((".rate", ".burst")):
        scalar = _AtMost(dotted, kind)
    else:
        scalar = _Checked(dotted, kind)
    return Field(scalar, is_required=False, description=text)


def database_for_a_run(settings: Settings, text: str) -> SecretStr:
    """The URL that was typed, with the configured password if it is for the server that has it.

    Raises `ConfigError` for a URL with a password, or with parameters that could hold one or lead elsewhere.
    """
    try:
        typed = make_url(checked("database_url", text, "url").get_secret_value())
    except ConfigError:  # whose words tell how to write a password, too
        raise ConfigError(
            "url is not accepted; accepted: postgresql://user@host/name or sqlite:////file"
        ) from None
    if typed.password is not None or set(typed.query) - set(_HARMLESS):
        raise ConfigError(
            f"url holds a password, or parameters other than {' and '.join(_HARMLESS)}; leave them out: the "
            "password of DATABASE_URL goes along to its own server, and only there"
        )
    configured = make_url(settings.database_url.get_secret_value())
    if typed.get_backend_name() == "sqlite":
        return SecretStr(text)
    if _same_server(typed, configured):
        typed = typed.set(username=configured.username, password=configured.password)
        typed = typed.set(query={**configured.query, **typed.query})
    elif os.environ.get("PGPASSWORD"):
        raise ConfigError("url names another server than DATABASE_URL, and PGPASSWORD would be sent to it")
    return SecretStr(typed.render_as_string(hide_password=False))


def _same_server(typed: URL, configured: URL) -> bool:
    """Whether it is the configured server and its user: libpq's parameters may lead elsewhere."""
    if {"host", "hostaddr", "port", "service", "user"} & configured.query.keys():
        return False
    return (
        configured.get_backend_name() != "sqlite"
        and (typed.host, typed.port or _PORT) == (configured.host, configured.port or _PORT)
        and typed.username in (None, configured.username)
    )
