"""Settings: where values come from, what is refused and how that is said, and that secrets stay secret."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import make_url

from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.settings import (
    DEFAULT_SERVICE_NAMES,
    ConfigError,
    Settings,
    effective,
    load_settings,
)
from cowrie_enrich_dagster.settings.cores import usable_cores

Loader = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Load with these variables and this text as `sensors.toml`, in an empty directory."""

    def loader(environ: Mapping[str, str] | None = None, toml: str | None = None) -> Settings:
        if toml is not None:
            (tmp_path / "sensors.toml").write_text(toml, encoding="utf-8")
        return load_settings(environ or {}, tmp_path)

    return loader


@pytest.fixture
def refuse(load: Loader) -> Callable[..., list[str]]:
    """The problems that loading ends with, a line each."""

    def refuser(environ: Mapping[str, str] | None = None, toml: str | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(environ, toml)
        assert str(caught.value).splitlines() == list(caught.value.problems)
        return list(caught.value.problems)

    return refuser


def source_of(settings: Settings, name: str) -> tuple[str, str]:
    """Value and source that `effective` shows for a name."""
    (found,) = [shown for shown in effective(settings) if shown.name == name]
    return found.value, found.source


# --- defaults


def test_nothing_set_gives_the_documented_defaults(load: Loader, tmp_path: Path) -> None:
    """With no variable and no file every setting has its documented default."""
    settings = load()
    assert settings.home == tmp_path / ".cowrie-enrich"
    assert settings.embedded_database
    assert settings.database_url.get_secret_value() == f"sqlite:///{tmp_path}/.cowrie-enrich/enrich.db"
    assert (settings.log_dir, settings.cache_dir, settings.sensors_toml) == (None, None, None)
    assert (settings.max_wait_s, settings.start_day) == (120.0, date(2025, 1, 1))
    assert (settings.every_minutes, settings.keep_runs_days, settings.keep_days) == (15, 30, None)
    assert (settings.own_networks, settings.enabled_services, settings.warnings) == ((), None, ())
    redis = settings.redis
    assert (redis.enabled, redis.host, redis.port, redis.db, redis.tls) == (True, "localhost", 6379, 0, False)
    assert (redis.password, redis.ttl_seconds, redis.max_memory) == (None, 3600, None)
    assert tuple(settings.services) == DEFAULT_SERVICE_NAMES
    assert set(settings.services) == set(ALL)  # each is called as its module is
    for service in settings.services.values():
        assert (service.api_url, service.rate, service.burst, service.api_key) == (None, None, None, None)
        assert service.respect_retry_after
    assert {shown.source for shown in effective(settings)} == {"default"}


def test_the_processs_own_environment_and_directory_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called without arguments it reads os.environ and the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_HOST", "from-os-environ")
    (tmp_path / "sensors.toml").write_text("[enrichment.cache]\nredis_port = 7000\n")
    settings = load_settings()
    assert (settings.redis.host, settings.redis.port) == ("from-os-environ", 7000)
    assert settings.home == tmp_path / ".cowrie-enrich"


# --- every name of the ADR and of the command line's contract

VARIABLES: list[tuple[str, str, Callable[[Settings], Any], Any]] = [
    ("REDIS_HOST", "cache.example.net", lambda s: s.redis.host, "cache.example.net"),
    ("REDIS_HOST", "2001:db8::7", lambda s: s.redis.host, "2001:db8::7"),
    ("REDIS_PORT", "6380", lambda s: s.redis.port, 6380),
    (
        "REDIS_PASSWORD",
        " p@ss word ",
        lambda s: s.redis.password and s.redis.password.get_secret_value(),
        " p@ss word ",
    ),
    ("REDIS_DB", "3", lambda s: s.redis.db, 3),
    ("REDIS_TLS", "yes", lambda s: s.redis.tls, True),
    ("ENABLE_REDIS_CACHE", "false", lambda s: s.redis.enabled, False),
    ("DSHIELD_RATE_LIMIT", "0.5", lambda s: s.service("dshield").rate, 0.5),
    ("DSHIELD_BURST", "4", lambda s: s.service("dshield").burst, 4),
    ("DSHIELD_EMAIL", "me@example.org", lambda s: s.service("dshield").email, "me@example.org"),
    ("RESPECT_RETRY_AFTER", "false", lambda s: s.service("dshield").respect_retry_after, False),
    ("ENRICH_MAX_WAIT_SECONDS", "0", lambda s: s.max_wait_s, 0.0),
    ("ENRICH_START_DAY", "2024-02-29", lambda s: s.start_day, date(2024, 2, 29)),
    ("ENRICH_EVERY_MINUTES", "0", lambda s: s.every_minutes, 0),
    ("ENRICH_DAYS_PER_RUN", "5", lambda s: s.days_per_run, 5),
    ("ENRICH_WORKERS", "3", lambda s: s.readers, 3),
    ("ENRICH_KEEP_RUNS_DAYS", "7", lambda s: s.keep_runs_days, 7),
    ("ENRICH_KEEP_DAYS", "365", lambda s: s.keep_days, 365),
    ("ENRICH_SERVICES", "SPUR, dshield,spur,", lambda s: s.enabled_services, ("spur", "dshield")),
    ("DATABASE_URL", "postgres://u:p@h/d", lambda s: s.database_url.get_secret_value(), "postgres://u:p@h/d"),
    ("DATABASE_URL", "postgresql:///d?host=/run", lambda s: s.embedded_database, False),
    (
        "CYMRU_API_URL",
        "whois://127.0.0.1:4343",
        lambda s: s.service("cymru").api_url,
        "whois://127.0.0.1:4343",
    ),
    ("COWRIE_LOG_DIR", "/var/log/cowrie", lambda s: s.log_dir, Path("/var/log/cowrie")),
    ("CACHE_DIR", "/srv/cache", lambda s: s.cache_dir, Path("/srv/cache")),
    ("COWRIE_ENRICH_HOME", "/srv/home", lambda s: s.home, Path("/srv/home")),
]


@pytest.mark.parametrize(("name", "text", "read", "expected"), VARIABLES)
def test_a_variable_sets_its_value(
    load: Loader, name: str, text: str, read: Callable[[Settings], Any], expected: object
) -> None:
    """Each documented variable takes effect, counts as from the environment, and warns of nothing."""
    settings = load({name: text})
    assert read(settings) == expected
    assert "environment" in settings.sources.values()
    assert settings.warnings == ()


def test_the_windows_of_a_plan_replace_the_services_own(load: Loader) -> None:
    """Each by itself; 0 lifts one, and what is not set stays."""
    virustotal = load({"VIRUSTOTAL_PER_DAY": "20000", "VIRUSTOTAL_PER_MINUTE": "0"}).services["virustotal"]
    assert virustotal.windows({"minute": 4, "day": 500}) == {"day": 20000}
    assert virustotal.windows({"month": 9}) == {"day": 20000, "month": 9}
    with pytest.raises(ConfigError, match=r"VIRUSTOTAL_PER_DAY = .* a whole number of requests a day"):
        load({"VIRUSTOTAL_PER_DAY": "-1"})


@pytest.mark.parametrize("service", DEFAULT_SERVICE_NAMES)
def test_every_service_has_the_same_variables(load: Loader, service: str) -> None:
    """URL, rate, burst and key follow one naming pattern for every service."""
    name = service.upper()
    scheme = "whois" if service == "cymru" else "http"
    settings = load(
        {
            f"{name}_API_URL": f"{scheme}://127.0.0.1:8080/api/",
            f"{name}_RATE_LIMIT": "2",
            f"{name}_BURST": "5",
            f"{name}_API_KEY": "k-1",
        }
    )
    found = settings.service(service)
    assert (found.api_url, found.rate, found.burst) == (f"{scheme}://127.0.0.1:8080/api", 2.0, 5)
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == "k-1"
    others = [other for name, other in settings.services.items() if name != service]
    assert all(other == others[0] and other.rate is None for other in others)


@pytest.mark.parametrize("service", DEFAULT_SERVICE_NAMES)
def test_every_service_has_the_same_file_keys(load: Loader, service: str) -> None:
    """Rate, burst and respect_retry_after follow one naming pattern in [enrichment.rate_limits]."""
    settings = load(
        toml=f"[enrichment.rate_limits]\n{service}_rate = 3\n{service}_burst = 2\n"
        f"{service}_respect_retry_after = false\n"
    )
    found = settings.service(service)
    assert (found.rate, found.burst, found.respect_retry_after) == (3.0, 2, False)
    assert sum(other.respect_retry_after for other in settings.services.values()) == 8


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "Yes", "on", " on "])
def test_words_for_on(load: Loader, word: str) -> None:
    """A switch variable takes the usual words for on, in any case."""
    assert load({"REDIS_TLS": word}).redis.tls is True


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "NO", "off"])
def test_words_for_off(load: Loader, word: str) -> None:
    """A switch variable takes the usual words for off, in any case."""
    assert load({"ENABLE_REDIS_CACHE": word}).redis.enabled is False


def test_own_networks_take_addresses_and_networks(load: Loader) -> None:
    """Addresses count as networks of one; a network written with host bits is the whole network."""
    settings = load({"ENRICH_OWN_NETWORKS": "203.0.113.9, 198.51.100.7/24,2001:db8::/32"})
    assert settings.own_networks == (
        ip_network("203.0.113.9/32"),
        ip_network("198.51.100.0/24"),
        ip_network("2001:db8::/32"),
    )
    assert ip_address("198.51.100.200") in settings.own_networks[1]


def test_relative_paths_count_from_the_working_directory(load: Loader, tmp_path: Path) -> None:
    """Relative paths become absolute, so that every process means the same place."""
    settings = load({"COWRIE_LOG_DIR": "logs/../cowrie", "COWRIE_ENRICH_HOME": "state"})
    assert settings.log_dir == tmp_path / "cowrie"
    assert settings.home == tmp_path / "state"
    assert make_url(settings.database_url.get_secret_value()).database == str(
        tmp_path / "state" / "enrich.db"
    )


def test_tilde_is_the_users_home(load: Loader) -> None:
    """Environment files are not expanded by a shell, so `~` is expanded here."""
    assert load({"CACHE_DIR": "~/cache"}).cache_dir == Path.home() / "cache"


# --- precedence

BOTH: list[tuple[str, str, Any, str, str, Any, Callable[[Settings], Any], Any]] = [
    ("ENABLE_REDIS_CACHE", "on", True, "cache", "redis_enabled", "false", lambda s: s.redis.enabled, False),
    ("REDIS_HOST", "env", "env", "cache", "redis_host", '"file"', lambda s: s.redis.host, "file"),
    ("REDIS_PORT", "1", 1, "cache", "redis_port", "2", lambda s: s.redis.port, 2),
    (
        *("DSHIELD_RATE_LIMIT", "0.25", 0.25, "rate_limits", "dshield_rate", "4.5"),
        *(lambda s: s.service("dshield").rate, 4.5),
    ),
    (
        *("SPUR_BURST", "7", 7, "rate_limits", "spur_burst", "9"),
        *(lambda s: s.service("spur").burst, 9),
    ),
    (
        *("RESPECT_RETRY_AFTER", "true", True, "rate_limits", "dshield_respect_retry_after", "false"),
        *(lambda s: s.service("dshield").respect_retry_after, False),
    ),
]


@pytest.mark.parametrize(("env", "text", "from_env", "table", "key", "toml", "read", "from_toml"), BOTH)
def test_environment_wins_over_file_and_file_over_default(
    load: Loader,
    env: str,
    text: str,
    from_env: object,
    table: str,
    key: str,
    toml: str,
    read: Callable[[Settings], Any],
    from_toml: object,
) -> None:
    """Order is environment, sensors.toml, default; an empty variable gives way to the file."""
    file = f"[enrichment.{table}]\n{key} = {toml}\n"
    assert read(load()) != from_toml
    assert read(load({}, file)) == from_toml
    assert read(load({env: ""}, file)) == from_toml
    assert read(load({env: "  "}, file)) == from_toml
    assert read(load({env: text}, file)) == from_env


def test_settings_that_only_the_file_has(load: Loader) -> None:
    """Redis lifetime, size and the cache switch are read from the file, and shown as coming from it."""
    settings = load(
        {}, '[enrichment.cache]\nenabled = true\nredis_ttl_seconds = 60\nredis_max_memory = "512MB"\n'
    )
    assert (settings.redis.ttl_seconds, settings.redis.max_memory) == (60, "512MB")
    assert source_of(settings, "[enrichment.cache] redis_ttl_seconds") == ("60", "sensors.toml")
    assert source_of(settings, "[enrichment.cache] redis_max_memory") == ("512MB", "sensors.toml")


def test_cache_disabled_in_the_file_turns_redis_and_filesystem_off(load: Loader) -> None:
    """`enabled = false` leaves the database tier alone, whatever redis_enabled says."""
    settings = load(
        {"CACHE_DIR": "/srv/cache"}, "[enrichment.cache]\nenabled = false\nredis_enabled = true\n"
    )
    assert settings.redis.enabled is False
    assert settings.cache_dir is None
    assert settings.embedded_database
    assert source_of(settings, "ENABLE_REDIS_CACHE") == ("false", "sensors.toml")
    assert source_of(settings, "CACHE_DIR") == ("(no filesystem tier)", "sensors.toml")
    assert settings.warnings == (
        "CACHE_DIR is not used: sensors.toml has [enrichment.cache] enabled = false",
    )


def test_environment_turns_redis_on_against_a_disabled_cache_in_the_file(load: Loader) -> None:
    """ENABLE_REDIS_CACHE is the environment's word on Redis and so beats both switches of the file."""
    settings = load({"ENABLE_REDIS_CACHE": "true"}, "[enrichment.cache]\nenabled = false\n")
    assert settings.redis.enabled is True
    assert source_of(settings, "ENABLE_REDIS_CACHE") == ("true", "environment")


# --- the file itself


def test_sensors_toml_may_be_elsewhere(load: Loader, tmp_path: Path) -> None:
    """SENSORS_TOML names another file, relative to the working directory, and wins over ./sensors.toml."""
    (tmp_path / "other.toml").write_text("[enrichment.cache]\nredis_port = 1111\n")
    settings = load({"SENSORS_TOML": "other.toml"}, "[enrichment.cache]\nredis_port = 2222\n")
    assert settings.redis.port == 1111
    assert source_of(settings, "SENSORS_TOML") == (str(tmp_path / "other.toml"), "environment")


def test_the_rest_of_sensors_toml_is_not_ours(load: Loader) -> None:
    """Tables of cowrieprocessor in the same file are neither read nor refused."""
    settings = load(
        {},
        '[global]\ndb = "x"\nredis_port = "nonsense"\n[[sensor]]\nname = "a"\n[threat]\nx = 1\n'
        "[enrichment.cache]\nredis_port = 6400\n",
    )
    assert settings.redis.port == 6400


def test_a_byte_order_mark_is_no_part_of_the_file(load: Loader) -> None:
    """A file saved by a Windows editor reads the same."""
    assert load({}, "\ufeff[enrichment.cache]\nredis_port = 6400\n").redis.port == 6400


def test_a_named_file_that_is_missing_is_refused(refuse: Callable[..., list[str]], tmp_path: Path) -> None:
    """A missing SENSORS_TOML is an error that names the variable and the path."""
    (problem,) = refuse({"SENSORS_TOML": "gone.toml"})
    assert problem == (
        f"environment: SENSORS_TOML names {tmp_path}/gone.toml, which cannot be read"
        " (No such file or directory); accepted: a TOML file"
    )


def test_a_file_that_is_not_toml_is_refused(refuse: Callable[..., list[str]], tmp_path: Path) -> None:
    """A syntax error is reported with the file and the line."""
    (problem,) = refuse({}, "[enrichment.cache]\nredis_port = = 1\n")
    assert problem.startswith(f"sensors.toml: {tmp_path}/sensors.toml, which cannot be read (")
    assert "line 2" in problem


def test_a_file_that_is_not_text_is_refused(refuse: Callable[..., list[str]], tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are reported as such."""
    (tmp_path / "sensors.toml").write_bytes(b"\xff\xfe[\x00e\x00")
    (problem,) = refuse()
    assert "it is not UTF-8" in problem


def test_a_broken_link_is_not_taken_for_no_file(refuse: Callable[..., list[str]], tmp_path: Path) -> None:
    """A ./sensors.toml that points nowhere is an error, not silently the defaults."""
    (tmp_path / "sensors.toml").symlink_to(tmp_path / "unmounted" / "sensors.toml")
    (problem,) = refuse()
    assert "No such file or directory" in problem


# --- what is refused in the file


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ('enabled = "true"', "true or false"),
        ("redis_enabled = 1", "true or false"),
        ("redis_host = 5", "a host name or address, without a port"),
        ('redis_host = "localhost:6379"', "a host name or address, without a port"),
        ('redis_port = "6379"', "a whole number from 1 to 65535"),
        ("redis_port = 6379.0", "a whole number from 1 to 65535"),
        ("redis_port = true", "a whole number from 1 to 65535"),
        ("redis_port = 0", "a whole number from 1 to 65535"),
        ("redis_port = 65536", "a whole number from 1 to 65535"),
        ('redis_max_memory = "lots"', 'a size as Redis writes it, such as "256mb"'),
        ("redis_max_memory = 256", 'a size as Redis writes it, such as "256mb"'),
        ("redis_ttl_seconds = 0", "a whole number of seconds, 1 or more"),
        ("redis_ttl_seconds = 2025-01-01", "a whole number of seconds, 1 or more"),
    ],
)
def test_an_ill_typed_cache_value_is_refused(
    refuse: Callable[..., list[str]], tmp_path: Path, line: str, accepted: str
) -> None:
    """Types in the file are strict; the error names file, key, value and what is accepted."""
    key, value = line.split(" = ")
    shown = value if "2025" not in value else f'"{value}"'
    (problem,) = refuse({}, f"[enrichment.cache]\n{line}\n")
    assert problem == (
        f"{tmp_path}/sensors.toml: [enrichment.cache] {key} = {shown} is not accepted; accepted: {accepted}"
    )


@pytest.mark.parametrize(
    "line",
    [
        *("dshield_rate = 0", "dshield_rate = -1.0", "dshield_rate = nan", "dshield_rate = inf"),
        *('dshield_rate = "0.5"', "dshield_rate = true", "dshield_rate = [1]"),
        *("spur_burst = 0", "spur_burst = 1.5", "spur_burst = true", "spur_burst = 9999999999"),
        *('hibp_respect_retry_after = "yes"', "hibp_respect_retry_after = 1"),
    ],
)
def test_an_ill_typed_rate_limit_is_refused(
    refuse: Callable[..., list[str]], tmp_path: Path, line: str
) -> None:
    """A rate must be a positive finite number, a burst a whole number, a switch true or false."""
    (problem,) = refuse({}, f"[enrichment.rate_limits]\n{line}\n")
    assert problem.startswith(f"{tmp_path}/sensors.toml: [enrichment.rate_limits] {line.split()[0]} = ")
    assert "; accepted: " in problem


def test_an_unknown_cache_key_is_refused_with_a_suggestion(
    refuse: Callable[..., list[str]], tmp_path: Path
) -> None:
    """A misspelt key is an error that names file, key, the likely key and all accepted ones."""
    (problem,) = refuse({}, '[enrichment.cache]\nredis_prt = "s3cret"\n')
    assert problem.startswith(
        f"{tmp_path}/sensors.toml: [enrichment.cache] has no key \"redis_prt\" (did you mean 'redis_port'?)"
    )
    accepted = problem.split("accepted: ")[1].split(", ")
    assert sorted(accepted) == [
        *("enabled", "redis_enabled", "redis_host", "redis_max_memory", "redis_port", "redis_ttl_seconds"),
    ]
    assert "s3cret" not in problem


def test_an_unknown_rate_limit_key_is_refused_with_a_suggestion(refuse: Callable[..., list[str]]) -> None:
    """The accepted keys of every service are listed."""
    (problem,) = refuse({}, "[enrichment.rate_limits]\ndshield_rat = 1\n")
    assert "\"dshield_rat\" (did you mean 'dshield_rate'?)" in problem
    for service in DEFAULT_SERVICE_NAMES:
        assert f"{service}_rate, {service}_burst, {service}_per_minute, {service}_per_day" in problem


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            "[enrichment.rate_limit]\nx = 1\n",
            "[enrichment] has no key \"rate_limit\" (did you mean 'rate_limits'?)",
        ),
        ("[enrichment]\nenabled = true\n", '[enrichment] has no key "enabled"'),
        ("[enrichment]\ncache = 5\n", "enrichment.cache is not a table"),
        ("[[enrichment.cache]]\nenabled = true\n", "enrichment.cache is not a table"),
        ("enrichment = 5\n", "enrichment is not a table"),
        ("[[enrichment]]\n", "enrichment is not a table"),
    ],
)
def test_a_table_of_the_wrong_name_or_shape_is_refused(
    refuse: Callable[..., list[str]], tmp_path: Path, toml: str, said: str
) -> None:
    """Under [enrichment] only the two known tables are accepted."""
    (problem,) = refuse({}, toml)
    assert problem.startswith(f"{tmp_path}/sensors.toml: {said}")
    assert "accepted: [enrichment." in problem


def test_a_bad_file_value_is_refused_even_where_the_environment_wins(
    refuse: Callable[..., list[str]],
) -> None:
    """An error in the file is not hidden by a variable that happens to override it."""
    (problem,) = refuse({"REDIS_PORT": "6379"}, '[enrichment.cache]\nredis_port = "x"\n')
    assert '[enrichment.cache] redis_port = "x"' in problem


# --- what is refused in the environment


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ENABLE_REDIS_CACHE", "maybe", "accepted: true, false, 1, 0, yes, no, on, off"),
        ("RESPECT_RETRY_AFTER", "y", "accepted: true, false, 1, 0, yes, no, on, off"),
        ("REDIS_TLS", "2", "accepted: true, false, 1, 0, yes, no, on, off"),
        ("REDIS_PORT", "http", "accepted: a whole number from 1 to 65535"),
        ("REDIS_PORT", "0", "accepted: a whole number from 1 to 65535"),
        ("REDIS_DB", "-1", "accepted: a whole number, 0 or more"),
        ("REDIS_HOST", "a b", "accepted: a host name or address, without a port"),
        ("DSHIELD_RATE_LIMIT", "fast", "accepted: requests per second, a number greater than 0"),
        ("DSHIELD_RATE_LIMIT", "0", "accepted: requests per second, a number greater than 0"),
        ("DSHIELD_RATE_LIMIT", "nan", "accepted: requests per second, a number greater than 0"),
        ("DSHIELD_RATE_LIMIT", "inf", "accepted: requests per second, a number greater than 0"),
        ("DSHIELD_BURST", "1.5", "accepted: a whole number of requests from 1 to 1000000"),
        ("DSHIELD_EMAIL", "nobody", "accepted: an e-mail address"),
        ("DSHIELD_EMAIL", "a@b\r\nX-Header: 1", "accepted: an e-mail address"),
        ("ENRICH_MAX_WAIT_SECONDS", "-1", "accepted: a number of seconds from 0"),
        ("ENRICH_MAX_WAIT_SECONDS", "inf", "accepted: a number of seconds from 0"),
        ("ENRICH_START_DAY", "1735689600", "accepted: a day written YYYY-MM-DD"),
        ("ENRICH_START_DAY", "2025-02-30", "accepted: a day written YYYY-MM-DD"),
        ("ENRICH_START_DAY", "1999-12-31", "it is not from 2000-01-01 to 2100-12-31"),
        ("ENRICH_EVERY_MINUTES", "-1", "accepted: a whole number of minutes from 0 to 1440"),
        ("ENRICH_DAYS_PER_RUN", "0", "accepted: a whole number of days from 1 to 3660"),
        ("ENRICH_WORKERS", "0", "accepted: a whole number from 1 to 64"),
        ("ENRICH_KEEP_RUNS_DAYS", "0", "accepted: a whole number of days from 1 to 36500"),
        ("ENRICH_KEEP_DAYS", "0", "accepted: a whole number of days from 1 to 36500"),
        ("ENRICH_OWN_NETWORKS", "10.0.0.0/8,10.0.0.300", "'10.0.0.300' is neither an address nor a network"),
        ("ENRICH_SERVICES", "dshield,virustotl", "no service 'virustotl' (did you mean 'virustotal'?)"),
        ("ENRICH_SERVICES", "shodan", f"accepted: a comma list of {', '.join(DEFAULT_SERVICE_NAMES)}"),
        ("ENRICH_SERVICES", ",", "it names no service"),
        ("DSHIELD_API_URL", "isc.sans.edu/api", "accepted: an http:// or https:// URL"),
        ("DSHIELD_API_URL", "ftp://isc.sans.edu", "accepted: an http:// or https:// URL"),
        ("DSHIELD_API_URL", "http://", "accepted: an http:// or https:// URL"),
        ("DSHIELD_API_URL", "http://host:port/", "accepted: an http:// or https:// URL"),
        ("DSHIELD_API_URL", "http://ho st/", "accepted: an http:// or https:// URL"),
        ("DSHIELD_API_URL", "whois://127.0.0.1:43", "accepted: an http:// or https:// URL"),
        ("CYMRU_API_URL", "http://127.0.0.1:8480/cymru", "it is not whois://host:port"),
    ],
)
def test_a_bad_variable_is_refused(refuse: Callable[..., list[str]], name: str, text: str, said: str) -> None:
    """The error names the environment, the variable, its value and what is accepted, on one line."""
    (problem,) = refuse({name: text})
    assert problem.startswith(f'environment: {name} = "')
    assert text.split("\r")[0] in problem
    assert said in problem


def test_all_problems_are_reported_at_once(refuse: Callable[..., list[str]]) -> None:
    """One failed start names everything that is wrong, each thing once."""
    problems = refuse(
        {"REDIS_PORT": "x", "RESPECT_RETRY_AFTER": "x", "DSHIELD_BURST": "0"},
        '[enrichment.cache]\nredis_prt = 1\nenabled = "no"\n[enrichment.rate_limits]\nspur_rate = 0\n',
    )
    wanted = ("REDIS_PORT", "RESPECT_RETRY_AFTER", "DSHIELD_BURST", "redis_prt", "enabled", "spur_rate")
    assert len(problems) == len(wanted)
    for name in wanted:
        assert sum(f" {name} =" in line or f'key "{name}"' in line for line in problems) == 1


def test_a_long_value_is_cut_in_the_message(refuse: Callable[..., list[str]]) -> None:
    """A whole file pasted into a variable does not flood the terminal."""
    (problem,) = refuse({"REDIS_PORT": "9" * 100_000})
    assert len(problem) < 250


# --- secrets

SECRETS = {
    "REDIS_PASSWORD": "Sekret-redis",
    "ENRICH_WEBHOOK_URL": "https://hooks.example.org/services/Sekret-webhook",
    "DATABASE_URL": "postgresql://user:Sekret-db@host/name?sslpassword=Sekret-query",
    **{f"{name.upper()}_API_KEY": f"Sekret-{name}" for name in DEFAULT_SERVICE_NAMES},
}


def test_secrets_never_print(load: Loader) -> None:
    """No rendering of the settings holds a secret, and yet each secret is there for who asks."""
    settings = load(SECRETS)
    shown = effective(settings)
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(shown),
        repr(settings.services),
    ):
        assert "Sekret" not in text
    assert settings.database_url.get_secret_value() == SECRETS["DATABASE_URL"]
    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == "Sekret-redis"
    assert source_of(settings, "DATABASE_URL") == (
        "postgresql://user:***@host/name?sslpassword=hidden",
        "environment",
    )
    assert source_of(settings, "SPUR_API_KEY") == ("********", "environment")
    assert source_of(settings, "ENRICH_WEBHOOK_URL") == ("********", "environment")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "Sekret"),
        ("DATABASE_URL", "mysql://user:Sekret@host/name"),
        ("DATABASE_URL", "postgresql://user:Sekret@host:port/name"),
        ("DATABASE_URL", "postgresql://user:Se@Sekret@host/name"),
        ("SPUR_API_KEY", "Sekret with spaces"),
        ("SPUR_API_KEY", "Sekret\nX-Other: 1"),
        ("SPUR_API_KEY", "Sekreté"),
        ("SPUR_API_URL", "https://user:Sekret@host/"),
        ("SPUR_API_URL", "https://host/?token=Sekret"),
        ("SPUR_API_URL", "https://user:Sekret@[host/"),
        ("REDIS_HOST", "redis://:Sekret@host"),
        ("ENRICH_WEBHOOK_URL", "ftp://host/Sekret"),
        ("ENRICH_WEBHOOK_URL", "https://user:Sekret@host/topic"),
        ("ENRICH_WEBHOOK_URL", "https://host/services/Sekret#part"),
        ("ENRICH_WEBHOOK_URL", "https://host/Sekret\nX-Other: 1"),
        ("ENRICH_WEBHOOK_URL", "https://[host/Sekret"),
    ],
)
def test_a_refused_secret_is_not_shown(load: Loader, name: str, text: str) -> None:
    """The error names the variable but neither it nor its traceback quotes the value."""
    with pytest.raises(ConfigError) as caught:
        load({name: text})
    assert str(caught.value).startswith(f"environment: {name}")
    assert "accepted: " in str(caught.value)
    assert "Sekret" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_may_be_in_a_file(load: Loader, tmp_path: Path) -> None:
    """X_FILE names a file with the secret, as container platforms mount it; the last line break goes."""
    (tmp_path / "redis").write_text("Sekret redis\n")
    (tmp_path / "url").write_text("postgresql://user:Sekret@host/name\r\n")
    (tmp_path / "key").write_text("Sekret-key\n")
    settings = load(
        {
            "REDIS_PASSWORD_FILE": str(tmp_path / "redis"),
            "DATABASE_URL_FILE": "url",
            "VIRUSTOTAL_API_KEY_FILE": str(tmp_path / "key"),
            "VIRUSTOTAL_API_KEY": "",
        }
    )
    key = settings.service("virustotal").api_key
    assert settings.redis.password is not None
    assert key is not None
    assert settings.redis.password.get_secret_value() == "Sekret redis"
    assert settings.database_url.get_secret_value() == "postgresql://user:Sekret@host/name"
    assert key.get_secret_value() == "Sekret-key"
    assert not settings.embedded_database
    assert settings.warnings == ()
    assert source_of(settings, "VIRUSTOTAL_API_KEY") == ("********", "environment")


def test_a_secret_given_twice_is_refused(refuse: Callable[..., list[str]], tmp_path: Path) -> None:
    """X and X_FILE together are an error, for it cannot be told which one is meant."""
    (tmp_path / "key").write_text("Sekret-file")
    (problem,) = refuse({"SPUR_API_KEY": "Sekret-variable", "SPUR_API_KEY_FILE": "key"})
    assert "SPUR_API_KEY and SPUR_API_KEY_FILE are both set" in problem
    assert "Sekret" not in problem


def test_a_secret_file_that_cannot_be_read_is_refused(refuse: Callable[..., list[str]]) -> None:
    """A missing secret file is an error that names the variable and the path."""
    (problem,) = refuse({"REDIS_PASSWORD_FILE": "/run/secrets/gone"})
    assert 'REDIS_PASSWORD_FILE = "/run/secrets/gone" cannot be read (No such file or directory)' in problem


def test_a_bad_secret_in_a_file_is_refused_by_the_files_name(
    refuse: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The error points at X_FILE, where the value came from, and hides the value."""
    (tmp_path / "url").write_text("mysql://user:Sekret@host/name")
    (problem,) = refuse({"DATABASE_URL_FILE": "url"})
    assert problem.startswith("environment: DATABASE_URL_FILE is not accepted")
    assert "Sekret" not in problem


def test_an_empty_secret_file_is_no_secret_and_says_so(load: Loader, tmp_path: Path) -> None:
    """An empty mounted secret counts as not set, with a warning."""
    (tmp_path / "key").write_text("\n")
    settings = load({"SPUR_API_KEY_FILE": "key"})
    assert settings.service("spur").api_key is None
    assert settings.warnings == ("SPUR_API_KEY_FILE names an empty file: SPUR_API_KEY counts as not set",)


# --- warnings


def test_a_misspelt_variable_is_warned_of(load: Loader) -> None:
    """Unknown variables with our prefixes are named, with the likely name and without their value."""
    settings = load({"DSHIELD_RATE_LIMT": "Sekret", "ENRICH_FOO": "1", "COWRIE_ENRICH_HOM": "/x"})
    assert settings.warnings == (
        "environment variable COWRIE_ENRICH_HOM is not a setting"
        " (did you mean 'COWRIE_ENRICH_HOME'?): not used",
        "environment variable DSHIELD_RATE_LIMT is not a setting"
        " (did you mean 'DSHIELD_RATE_LIMIT'?): not used",
        "environment variable ENRICH_FOO is not a setting: not used",
    )


def test_foreign_variables_are_left_alone(load: Loader) -> None:
    """Variables of other programs, and empty ones, cause no warning."""
    environ = {"PATH": "/bin", "REDIS_SERVICE_HOST": "10.0.0.1", "COWRIE_USER": "x", "SPUR_OLD": ""}
    assert load(environ).warnings == ()


def test_only_dshield_takes_an_email(load: Loader) -> None:
    """An e-mail variable of another service does nothing and is warned of."""
    (warning,) = load({"SPUR_EMAIL": "me@example.org"}).warnings
    assert "SPUR_EMAIL" in warning


def test_a_kubernetes_service_link_is_not_taken_for_the_port(load: Loader) -> None:
    """REDIS_PORT=tcp://... comes from a Kubernetes Service called redis: it is warned of and not used."""
    settings = load({"REDIS_PORT": "tcp://10.43.0.7:6379"}, "[enrichment.cache]\nredis_port = 6400\n")
    assert settings.redis.port == 6400
    assert "REDIS_PORT is a Kubernetes service link" in settings.warnings[0]


# --- services

NEEDS_KEY = {"dshield": False, "virustotal": True, "spur": True}


def test_services_asked_by_default_are_those_that_can_answer(load: Loader) -> None:
    """DShield needs no key and is always asked; the others when they have one."""
    assert load().services_to_ask(NEEDS_KEY) == ("dshield",)
    assert load({"SPUR_API_KEY": "k"}).services_to_ask(NEEDS_KEY) == ("dshield", "spur")


def test_listed_services_are_asked_as_listed(load: Loader) -> None:
    """ENRICH_SERVICES decides alone: no DShield unless listed, and a service without its key stays in."""
    settings = load({"ENRICH_SERVICES": "virustotal", "SPUR_API_KEY": "k"})
    assert settings.services_to_ask(NEEDS_KEY) == ("virustotal",)


def test_the_set_of_services_is_the_callers(tmp_path: Path) -> None:
    """A tenth service gets its variables, file keys and place in ENRICH_SERVICES from its name alone."""
    (tmp_path / "sensors.toml").write_text("[enrichment.rate_limits]\nshodan_rate = 1\n")
    environ = {"SHODAN_API_KEY": "k", "ENRICH_SERVICES": "shodan"}
    settings = load_settings(environ, tmp_path, ("dshield", "shodan"))
    assert settings.service("shodan").rate == 1.0
    assert settings.enabled_services == ("shodan",)
    with pytest.raises(ConfigError, match="accepted: a comma list of dshield, shodan"):
        load_settings({"ENRICH_SERVICES": "spur"}, tmp_path, ("dshield", "shodan"))


# --- the object


def test_settings_are_frozen_and_can_be_sent_to_a_worker(load: Loader) -> None:
    """Nobody changes settings in flight, and another process gets the same ones."""
    settings = load({"DSHIELD_RATE_LIMIT": "2", "REDIS_PASSWORD": "p"})
    with pytest.raises(ValidationError):
        settings.max_wait_s = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.redis.port = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_effective_names_every_setting_once(load: Loader) -> None:
    """The doctor's table has one row for each setting, under a name that is unique."""
    names = [shown.name for shown in effective(load())]
    assert len(names) == len(set(names))
    variables = {name for name, *_ in VARIABLES} - {"RESPECT_RETRY_AFTER"}
    assert variables <= set(names)
    assert "[enrichment.rate_limits] dshield_respect_retry_after" in names


def test_effective_shows_what_unset_means(load: Loader) -> None:
    """Values that are not set say what happens instead."""
    settings = load({"ENRICH_OWN_NETWORKS": "10.0.0.0/8,2001:db8::1"})
    assert source_of(settings, "DSHIELD_RATE_LIMIT") == ("(the service's own)", "default")
    assert source_of(settings, "CACHE_DIR") == ("(no filesystem tier)", "default")
    assert source_of(settings, "ENRICH_OWN_NETWORKS") == ("10.0.0.0/8,2001:db8::1/128", "environment")


def outcome(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """The lines an operator sees: the settings in force, or the problems."""
    try:
        return [f"{shown.name} {shown.source}" for shown in effective(load_settings(environ, cwd))]
    except ConfigError as error:
        return list(error.problems)


NAMES = sorted({name for name, *_ in VARIABLES} | set(SECRETS) | {"SPUR_API_URL", "REDIS_PASSWORD_FILE"})


@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(environ=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=30)))
@example(environ={"CACHE_DIR": "~\0", "REDIS_PASSWORD_FILE": "\0"})
@example(environ={"DATABASE_URL": "sqlite://[", "SPUR_API_URL": "http://[", "REDIS_HOST": "\udcff"})
def test_no_environment_crashes_the_loader(tmp_path: Path, environ: dict[str, str]) -> None:
    """Whatever the variables hold, the settings can be shown, or a ConfigError has a line a problem."""
    assert all(line.isprintable() for line in outcome(environ, tmp_path))


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
@example(content=b"[enrichment.cache]\nredis_port = " + b"9" * 5000)
@example(content=b'[enrichment.cache]\n"a\\nb" = 1')
@example(content=b"enrichment.cache.redis_host = " + b"[" * 5000)
@example(content=b"enrichment.cache.redis_port = 0x" + b"f" * 5000)
def test_no_file_crashes_the_loader(tmp_path: Path, content: bytes) -> None:
    """Whatever sensors.toml holds, the settings can be shown, or a ConfigError has a line a problem."""
    (tmp_path / "sensors.toml").write_bytes(content)
    assert all(line.isprintable() for line in outcome({}, tmp_path))


@pytest.mark.parametrize(
    ("limit", "most"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 99), ("", 99), (None, 99)]
)
def test_as_many_readers_as_cores_that_may_be_used(tmp_path: Path, limit: str | None, most: int) -> None:
    """Those that the process may run on; in a container with a CPU limit no more than that is worth."""
    cores = len(os.sched_getaffinity(0))
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == min(cores, most)
    assert load_settings({}, cwd=tmp_path).readers == min(usable_cores(), 8)
