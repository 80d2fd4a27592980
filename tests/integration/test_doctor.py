"""`doctor` on a Redis that will not do, and on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rich.console import Console

from cowrie_enrich_dagster.cli import output
from cowrie_enrich_dagster.enrichment.doctor import Part, bytes_of, examine
from cowrie_enrich_dagster.settings import load_settings


def part(tmp_path: Path, port: int, said: str = "") -> Part:
    toml = tmp_path / "sensors.toml"
    toml.write_text(f'[enrichment.cache]\nredis_max_memory = "{said}"\n' if said else "")
    environ = {"COWRIE_ENRICH_HOME": str(tmp_path), "SENSORS_TOML": str(toml), "REDIS_PORT": str(port)}
    found = examine(load_settings({**environ, "ENRICH_SERVICES": "hibp"}))
    return next(one for one in found.parts if one.name == "redis")


@pytest.fixture
def server(redis_port: int) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_port) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_redis_memory_is_compared(tmp_path: Path, redis_port: int, server: redis.Redis) -> None:
    """Without a limit, without eviction, or limited otherwise than is said, it warns; else it does not."""
    assert part(tmp_path, redis_port).state == "warning"
    server.config_set("maxmemory", "64mb")
    assert "allkeys-lru" in part(tmp_path, redis_port).detail
    server.config_set("maxmemory-policy", "allkeys-lru")
    assert part(tmp_path, redis_port, "64mb").state == "ok"
    told = part(tmp_path, redis_port, "128mb")
    assert (told.state, "redis_max_memory says 128mb" in told.detail) == ("warning", True)


@pytest.mark.parametrize(
    ("size", "number"),
    [("100", 100), ("7b", 7), ("2k", 2000), ("2kb", 2048), ("1M", 10**6), ("3Gb", 3 * 2**30)],
)
def test_sizes_are_as_redis_writes_them(size: str, number: int) -> None:
    """`k` is a thousand and `kb` 1024."""
    assert bytes_of(size) == number


def test_a_narrow_terminal_cuts_no_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 columns fold a path over lines; every character of it is there."""
    path = "/srv/" + "/".join(f"folder-{n:02}" for n in range(20))
    monkeypatch.setattr(output, "out", Console(width=80, soft_wrap=True, highlight=False))
    output.print_table("Settings", ["name", "value", "from"], [("COWRIE_LOG_DIR", path, "environment")])
    shown = "".join(capsys.readouterr().out.split())
    assert shown.partition("COWRIE_LOG_DIR")[2].replace("environment", "") == path
