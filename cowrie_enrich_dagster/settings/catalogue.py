"""Every setting there is, read off the annotated fields of the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import getitem
from typing import Annotated, Any, NamedTuple, cast, get_args

from pydantic import BaseModel, SecretStr, TypeAdapter

from cowrie_enrich_dagster.settings.fields import From
from cowrie_enrich_dagster.settings.model import RedisSettings, ServiceSettings, Settings

_SWITCH_WORDS = "true, false, 1, 0, yes, no, on, off"


@dataclass(frozen=True)
class Setting:
    """One setting. `path` leads to its value in `Settings`, e.g. `("services", "dshield", "rate")`."""

    path: tuple[str, ...]
    env: str | None
    toml: tuple[str, str] | None
    label: str
    """The one name that means this setting alone: its variable, or its key in sensors.toml."""
    accepts: str
    unset: str
    is_secret: bool
    is_switch: bool
    adapter: TypeAdapter[Any]
    is_private: bool = False

    @property
    def dotted(self) -> str:
        """`path` as one word."""
        return ".".join(self.path)

    @property
    def service(self) -> str:
        """The service it belongs to, or an empty string."""
        return self.path[1] if self.path[0] == "services" else ""


def toml_name(table: str, key: str) -> str:
    """How a key of sensors.toml is named to the operator."""
    return f"[enrichment.{table}] {key}"


def all_settings(service_names: Sequence[str]) -> list[Setting]:
    """Every setting, for these services."""
    found = [*_of_model(Settings, (), service_names), *_of_model(RedisSettings, ("redis",), service_names)]
    for name in service_names:
        found += _of_model(ServiceSettings, ("services", name), service_names)
    return found


class _Field(NamedTuple):
    name: str
    source: From
    adapter: TypeAdapter[Any]
    is_secret: bool
    is_switch: bool


def fields_of(model: type[BaseModel]) -> list[tuple[str, From, TypeAdapter[Any]]]:
    """The fields that are read: name, where from, and what validates a value."""
    return [(field.name, field.source, field.adapter) for field in _fields(model)]


@cache
def _fields(model: type[BaseModel]) -> tuple[_Field, ...]:
    return tuple(
        _Field(
            name=name,
            source=source,
            adapter=TypeAdapter(cast(Any, getitem(Annotated, (info.annotation, *info.metadata)))),
            is_secret=SecretStr in _types(info.annotation),
            is_switch=info.annotation is bool,
        )
        for name, info in model.model_fields.items()
        for source in info.metadata
        if isinstance(source, From)
    )


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _types(argument)


def _of_model(
    model: type[BaseModel], prefix: tuple[str, ...], service_names: Sequence[str]
) -> Iterator[Setting]:
    service = prefix[-1] if model is ServiceSettings else ""
    names = {"service": service, "SERVICE": service.upper(), "services": ", ".join(service_names)}
    for field in _fields(model):
        source = field.source
        if source.only not in (None, service):
            continue
        env = source.env and source.env.format(**names)
        toml = source.toml and (source.toml[0], source.toml[1].format(**names))
        of_all_services = bool(service) and source.only is None and env == source.env
        yield Setting(
            path=(*prefix, field.name),
            env=env,
            toml=toml,
            label=toml_name(*toml) if toml and (of_all_services or not env) else str(env),
            accepts=_SWITCH_WORDS if field.is_switch else source.accepts.format(**names),
            unset=source.unset,
            is_secret=field.is_secret,
            is_switch=field.is_switch,
            adapter=field.adapter,
            is_private=source.is_private,
        )
