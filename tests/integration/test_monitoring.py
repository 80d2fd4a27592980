"""Compose's profile `monitoring`: metrics over HTTP, and how Prometheus and Grafana find them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cowrie_enrich_dagster.simulator import Simulator
from tests import warm
from tests.integration.enrichment.conftest import environment, simulator
from tests.servers import PostgresServer, free_port
from tests.unit.test_deploy import COMPOSE, DEPLOY, SERVICES

__all__ = ["environment", "simulator"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
MONITORING = {"metrics", "prometheus", "grafana"}
DAY = "2025-11-01"


def call(environment: dict[str, str], *arguments: str) -> warm.Process:
    """A command in a process of its own."""
    env = {**os.environ, **environment}
    return warm.Process(*warm.CLI, *arguments, env=env, stdout=warm.PIPE, stderr=warm.PIPE)


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[tuple[str, warm.Process]]:
    """Where the metrics are served, and the process that does."""
    process = call(environment, "metrics", "--listen", "0")
    assert process.stderr is not None
    said = process.stderr.readline()
    match = re.fullmatch(r"metrics at (http://127\.0\.0\.1:\d+/metrics)\n", said)
    assert match, said
    try:
        yield match[1], process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def served(environment: dict[str, str]) -> Iterator[tuple[str, warm.Process]]:
    """The metrics of a day that was run twice: the second time its answers were there."""
    environment["DSHIELD_PER_DAY"] = "1000"
    for _ in range(2):
        assert call(environment, "run", "--days", DAY, "--wait").wait(120) == 0
    with serving(environment) as metrics:
        yield metrics


def values(url: str) -> dict[str, float]:
    """The metrics without labels at a URL, and of the others the number of samples."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(requests.get(url, timeout=30).text):
        found[family.name] = len(family.samples)
        found.update((sample.name, sample.value) for sample in family.samples if not sample.labels)
    return found


def test_the_metrics_are_served_until_the_process_is_stopped(
    served: tuple[str, warm.Process], environment: dict[str, str]
) -> None:
    """The same as on stdout, read anew each time; a stop is no failure."""
    url, process = served
    printed = call(environment, "metrics").communicate(timeout=60)[0]
    names = {family.name for family in text_string_to_metric_families(printed)}
    found = values(url)
    assert {name for name in found if not name.endswith("_total")} - {"cowrie_enrich_up"} == names
    assert found["cowrie_enrich_up"] == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_database_that_is_away_shows_as_such(tmp_path: Path) -> None:
    """The scrape works at once, with nothing in it but that; and when it is back, so are the metrics."""
    with closing(PostgresServer()) as server:
        settings = {"DATABASE_URL": server.new_database(), "ENABLE_REDIS_CACHE": "false"}
        settings["COWRIE_ENRICH_HOME"] = str(tmp_path)
        assert call(settings, "db", "upgrade").wait(60) == 0
        with serving(settings) as (url, _):
            assert values(url)["cowrie_enrich_up"] == 1
            server.kill()
            assert values(url) == {"cowrie_enrich_up": 0}
            server.start()
            assert values(url)["cowrie_enrich_up"] == 1


@pytest.mark.parametrize("where", ["", "x", "localhost", "1:2:99999", "127.0.0.1:", "203.0.113.1:80"])
def test_where_cannot_be_listened(environment: dict[str, str], where: str) -> None:
    """Exit 2, and what was said."""
    process = call(environment, "metrics", "--listen", where)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("error: --listen: ")
    assert len(said.splitlines()) == 1


# --- what Compose gives


def test_monitoring_is_a_choice() -> None:
    """Nothing of it starts without the profile, and nothing that starts without it waits for any of it."""
    assert {
        name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]
    } == MONITORING
    for name in SERVICES.keys() - MONITORING:
        assert not MONITORING & SERVICES[name].get("depends_on", {}).keys()


def test_every_file_that_is_mounted_is_there() -> None:
    """And every mount names one of them."""
    assert all((DEPLOY / config["file"]).is_file() for config in COMPOSE["configs"].values())
    mounted = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}
    assert mounted == COMPOSE["configs"].keys()


def test_prometheus_asks_where_the_metrics_are_served() -> None:
    """The target is the service that listens, in a network they share; the path is the usual one."""
    (job,) = PROMETHEUS["scrape_configs"]
    (static,) = job["static_configs"]
    command = SERVICES["metrics"]["command"]
    port = command[command.index("--listen") + 1].rpartition(":")[2]
    assert static["targets"] == [f"metrics:{port}"]
    assert job.keys() == {"job_name", "static_configs"}
    assert port in SERVICES["metrics"]["healthcheck"]["test"][-1]
    assert set(SERVICES["metrics"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    (config,) = SERVICES["prometheus"]["configs"]
    assert f"--config.file={config['target']}" in SERVICES["prometheus"]["command"]
    (volume,) = SERVICES["prometheus"]["volumes"]
    assert f"--storage.tsdb.path={volume.partition(':')[2]}" in SERVICES["prometheus"]["command"]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """By the files that are mounted where it looks for them; the dashboard's data source is of that kind."""
    targets = {config["source"]: config["target"] for config in SERVICES["grafana"]["configs"]}
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert urlsplit(source["url"]).hostname == "prometheus"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert str(Path(targets["dashboard.json"]).parent) == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == targets["dashboard.json"]
    for kind in ("datasources", "dashboards"):
        assert any(target.startswith(f"/etc/grafana/provisioning/{kind}/") for target in targets.values())
    (chosen,) = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "datasource"]
    assert (chosen["query"], source["type"], source["isDefault"]) == ("prometheus", "prometheus", True)


# --- a real Prometheus


@pytest.fixture
def prometheus(served: tuple[str, warm.Process], tmp_path: Path) -> Iterator[str]:
    """The URL of one that runs on prometheus.yml, its target where the metrics really are."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    url, _ = served
    text = (DEPLOY / "prometheus.yml").read_text().replace("metrics:9108", urlsplit(url).netloc)
    config, port = tmp_path / "prometheus.yml", free_port()
    config.write_text(text.replace("scrape_interval: 1m", "scrape_interval: 1s").replace("30s", "1s"))
    options = [option for option in SERVICES["prometheus"]["command"] if "retention" in option]
    process = subprocess.Popen(
        [
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """What the check finds, once it finds something."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := check():
                return found
        except requests.ConnectionError:
            pass
        assert time.monotonic() < end
        time.sleep(0.3)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_real_prometheus_answers_every_panel(prometheus: str, simulator: Simulator) -> None:
    """It takes the configuration, reads the metrics, and no panel asks what it cannot answer."""

    def ask(expression: str) -> list[Any]:
        for name, value in (("$service", ".*"), ("$__rate_interval", "5m")):
            expression = expression.replace(name, value)
        answer = requests.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[Any] = answer["data"]["result"]
        return found

    (up,) = until(lambda: ask('up{job="cowrie-enrich"} == 1'))
    assert up["metric"]["job"] == "cowrie-enrich"
    until(lambda: ask("rate(cowrie_enrich_requests_total[5m])"))
    silent = {expression for expression in EXPRESSIONS if not ask(expression)}
    # Nothing was learned: no answer of the sample's service was a refusal.
    assert silent == {'cowrie_enrich_learned_requests_per_second{service=~"$service"}'}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing() -> None:
    """Prometheus' own check of its configuration."""
    subprocess.run(["promtool", "check", "config", str(DEPLOY / "prometheus.yml")], check=True)
