"""The kinds of value a setting may hold, each parsed from text and checked.

Validators reject with `PydanticCustomError` of type `REJECTED`; those messages may be shown to the operator,
so they quote nothing of a value that may be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, TypedDict, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cowrie_enrich_dagster.vocabulary import FIRST_DAY, LAST_DAY, WANTED_GROUPS

REJECTED = "setting_rejected"
FEED_SERVICES = ("dshield", "abuseipdb")

Network = IPv4Network | IPv6Network


class Context(TypedDict, total=False):
    """What a value's meaning may depend on, given to pydantic as validation context."""

    cwd: Path
    service: str
    services: tuple[str, ...]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`(did you mean 'x'?)` with a leading space, or nothing when no known word is close."""
    close = get_close_matches(word, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reject(why: str) -> PydanticCustomError:
    """An error whose words the operator may be shown."""
    return PydanticCustomError(REJECTED, "{why}", {"why": why})


def _context(info: ValidationInfo) -> Context:
    return cast(Context, info.context or {})


def _absolute(path: Path, info: ValidationInfo) -> Path:
    cwd = _context(info).get("cwd") or Path.cwd()
    # os.path, for pathlib's expanduser raises where there is no home and resolve() follows symbolic links.
    return Path(os.path.abspath(cwd / os.path.expanduser(path)))  # noqa: PTH100, PTH111


def _iso_day(value: object) -> object:
    # pydantic alone would take "1735689600" for a day.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise reject("it is not YYYY-MM-DD")
    return value


def _within_bounds(day: date) -> date:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise reject(f"it is not from {FIRST_DAY} to {LAST_DAY}")
    return day


def split_words(value: object) -> object:
    """A comma list as its words; anything else as it is."""
    return [word for item in value.split(",") if (word := item.strip())] if isinstance(value, str) else value


def _network(text: str, where: str = "") -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise reject(f"{where}{text[:80]!r} is neither an address nor a network") from None


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [_network(item) for item in cast("list[str]", split_words(value))]


@dataclass(frozen=True)
class NetworkFile:
    """The networks that a text file lists."""

    path: Path
    networks: tuple[Network, ...]

    def __str__(self) -> str:
        return f"{self.path} ({len(self.networks)} networks)"


def _network_file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    path = _absolute(Path(value), info)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeError:
        raise reject("it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise reject(f"it cannot be read ({getattr(error, 'strerror', None) or 'no such name'})") from None
    listed = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1))
    return NetworkFile(
        path, tuple(_network(text, f"{path.name} line {number}: ") for number, text in listed if text)
    )


def _service_names(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name.lower() for name in names))
    known = _context(info).get("services", wanted)
    if not wanted:
        raise reject("it names no service")
    for name in wanted:
        if name not in known:
            raise reject(f"there is no service {name!r}{did_you_mean(name, known)}")
    return wanted


def _feed_names(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name.lower() for name in names))
    if wanted == ("none",):
        return ()
    for name in wanted:
        if name not in FEED_SERVICES:
            raise reject(f"there is no feed of {name!r}{did_you_mean(name, FEED_SERVICES)}")
    return wanted


def _wanted_columns(names: tuple[str, ...]) -> tuple[str, ...] | None:
    words = tuple(dict.fromkeys(name.lower() for name in names))
    if words == ("all",):
        return None
    every = [column for columns in WANTED_GROUPS.values() for column in columns]
    for word in words:
        if word not in WANTED_GROUPS and word not in every:
            known = [*WANTED_GROUPS, *every]
            raise reject(f"there is no group or column {word!r}{did_you_mean(word, known)}")
    if not words:
        raise reject("it names no column")
    chosen = {column for word in words for column in WANTED_GROUPS.get(word, (word,))}
    return tuple(column for column in every if column in chosen)


def _api_url(url: str, info: ValidationInfo) -> str:
    speaks_whois = _context(info).get("service") == "cymru"
    schemes = {"whois"} if speaks_whois else {"http", "https"}
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message quotes the URL
        valid = False
    if not valid:
        raise reject("it is not whois://host:port" if speaks_whois else "it is not such a URL")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise reject("it holds credentials, a query or a fragment")
    # urlsplit drops line breaks silently.
    if not re.fullmatch(r"[!-~]+", url):
        raise reject("it holds characters other than printable ASCII")
    return url.rstrip("/")


def _database_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value().strip()
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise reject("it is not a database URL") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres", "sqlite"):
        raise reject("its engine is neither PostgreSQL nor SQLite")
    if "@" in (parsed.host or ""):
        raise reject("an '@' within the password must be written %40")
    return SecretStr(url)


def _webhook_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value().strip()
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not re.fullmatch(r"[!-~]+", url):
        raise reject("it is not such a URL")
    if "@" in parts.netloc or parts.fragment:
        raise reject("it holds credentials before the host, or a fragment")
    return SecretStr(url)


def _header_secret(secret: SecretStr) -> SecretStr:
    # An HTTP client refuses anything else in a header, and its refusal quotes the value.
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise reject("it holds spaces, line breaks or characters that are not ASCII")
    return secret


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path, made absolute against the context's `cwd`; `~` is expanded."""
IsoDay = Annotated[date, BeforeValidator(_iso_day), AfterValidator(_within_bounds)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
"""Networks; an address with host bits and a prefix length means its whole network."""
ListedNetworks = Annotated[NetworkFile, BeforeValidator(_network_file)]
"""A text file with an address or CIDR network on each line; `#` begins a comment."""
ServiceNames = Annotated[tuple[str, ...], BeforeValidator(split_words), AfterValidator(_service_names)]
"""Lower-case service names, each once, in the order given."""
FeedNames = Annotated[tuple[str, ...], BeforeValidator(split_words), AfterValidator(_feed_names)]
"""The services whose feeds are read; none for `none`."""
WantedColumns = Annotated[tuple[str, ...], BeforeValidator(split_words), AfterValidator(_wanted_columns)]
"""Columns of `enriched_sessions`, named themselves or by their groups; None for `all`."""
ApiUrl = Annotated[str, AfterValidator(_api_url)]
"""A service's base URL without trailing slash and without anything secret in it."""
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
WebhookUrl = Annotated[SecretStr, AfterValidator(_webhook_url)]
"""An http(s) URL whose path or query may be the key to it."""
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_secret)]
