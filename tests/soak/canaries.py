"""`pytest tests/soak/canaries.py`: a canary in every secret; none may sing in what is not its own.

Outputs, tables, Redis, Dagster's storage, requests. Many processes: takes minutes.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis
import requests
from sqlalchemy import inspect, text

from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.settings.catalogue import all_settings
from cowrie_enrich_dagster.simulator import Fault, Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.all_services import KEYED, SIMULATED, hashes, write_attacks, write_mmdb
from tests.logs import routable_ips
from tests.servers import PostgresServer, RedisServer

DAY = "2025-11-01"
REPOSITORY = Path(__file__).parents[2]
OVER_HTTP = [name for name in SIMULATED if name != "cymru"]
COMMANDS = [
    ("doctor",),
    ("doctor", "--json"),
    ("run", "--days", DAY),
    ("quota",),
    ("metrics",),
    ("export", "--days", DAY, "--format", "json"),
    ("cache", "stats"),
]
IN_DAGSTER = """
from dagster import DagsterInstance
from cowrie_enrich_dagster.definitions import defs
tags = {f"dagster/asset_partition_range_{end}": "2025-11-01" for end in ("start", "end")}
with DagsterInstance.get() as instance:
    defs.resolve_job_def("enrich_day").execute_in_process(instance=instance, tags=tags, raise_on_error=False)
"""


class Proxy(ThreadingHTTPServer):
    """Passes on to the simulator what is for `http://<service>.invalid`, and keeps it as it came."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.seen: list[tuple[str, str, str]] = []
        """Of each request: the service, the credentials for the proxy, and everything else."""
        super().__init__(("127.0.0.1", 0), _Passing)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Passing(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        service = (target.hostname or "").removesuffix(".invalid")
        ours = self.headers.get("Proxy-Authorization", "")
        del self.headers["Proxy-Authorization"]
        rest = f"{self.requestline}\n{self.headers}\n{body.decode(errors='replace')}"
        self.server.seen.append((service, _plain(ours), rest))
        with requests.Session() as http:
            http.trust_env = False
            where = f"{self.server.behind}{target.path}?{target.query}"
            answer = http.request(self.command, where, data=body, headers=dict(self.headers))
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _plain(authorization: str) -> str:
    return base64.b64decode(authorization.removeprefix("Basic ") or b"").decode()


def canary(name: str) -> str:
    return f"Canary{name.title().replace('_', '')}Sings"


SECRETS = {
    **{f"{name.upper()}_API_KEY": canary(name) for name in KEYED},
    "DSHIELD_EMAIL": f"{canary('email')}@example.org",
    "REDIS_PASSWORD": canary("redis"),
    "DATABASE_URL": canary("database"),
    "ENRICH_WEBHOOK_URL": canary("webhook"),
    "proxy": canary("proxy"),
    "netrc": canary("netrc"),
}


def singing(where: str | bytes) -> set[str]:
    """The names of the secrets that are in there, as they are or in disguise."""
    shown = where if isinstance(where, bytes) else where.encode()
    found = set()
    for name, secret in SECRETS.items():
        plain = secret.encode()
        forms = [plain, quote(secret, safe="").encode(), plain[::-1]]
        forms += [base64.b64encode(b"x" * pad + plain)[4:-4] for pad in range(3)]
        if any(form in shown for form in forms):
            found.add(name)
    return found


@pytest.fixture(scope="module")
def nest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canaries")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig()) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(simulator: Simulator) -> Iterator[Proxy]:
    with closing(redis_server := RedisServer("--requirepass", SECRETS["REDIS_PASSWORD"])):
        server = Proxy(simulator.base_url)
        server.redis = redis_server  # type: ignore[attr-defined]
        yield server
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def environment(
    nest: Path, simulator: Simulator, proxy: Proxy, postgres_server: PostgresServer
) -> dict[str, str]:
    """Everything is configured, and every secret is a canary; some are in files."""
    url = postgres_server.new_database().replace("postgres@", f"postgres:{SECRETS['DATABASE_URL']}@")
    with closing(Database(url)) as database:
        upgrade(database)
    home = nest / "user"
    home.mkdir()
    machines = [f"machine {name}.invalid" for name in OVER_HTTP] + ["machine 127.0.0.1", "default"]
    (home / ".netrc").write_text("".join(f"{who} login me password {SECRETS['netrc']}\n" for who in machines))
    (home / ".netrc").chmod(0o600)
    ips = routable_ips(4)
    logs = write_attacks(nest / "logs", ips, hashes(2), ["123456", "letmein"])
    (nest / "key").write_text(SECRETS["VIRUSTOTAL_API_KEY"])
    through = f"http://me:{SECRETS['proxy']}@127.0.0.1:{proxy.server_address[1]}"
    dagster = nest / "dagster"
    dagster.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", dagster)
    return {
        **{name: secret for name, secret in SECRETS.items() if name.isupper()},
        "ENRICH_WEBHOOK_URL": f"http://webhook.invalid/services/{SECRETS['ENRICH_WEBHOOK_URL']}",
        "VIRUSTOTAL_API_KEY": "",
        "VIRUSTOTAL_API_KEY_FILE": str(nest / "key"),
        **{f"{name.upper()}_API_URL": f"http://{name}.invalid/{name}" for name in OVER_HTTP},
        **{f"{name.upper()}_RATE_LIMIT": "100" for name in SIMULATED},
        "CYMRU_API_URL": simulator.url("cymru"),
        "MAXMIND_DB_PATH": str(write_mmdb(nest / "country.mmdb", ["11.0.0.0/24"])),
        "ENRICH_SERVICES": ",".join(ALL),
        "ENRICH_MAX_WAIT_SECONDS": "5",
        "ENRICH_MAX_RUN_SECONDS": "20",
        "ENRICH_FEEDS": "none",
        "COWRIE_ENRICH_HOME": str(nest / "home"),
        "COWRIE_LOG_DIR": str(logs),
        "DATABASE_URL": url,
        "REDIS_PORT": str(proxy.redis.port),  # type: ignore[attr-defined]
        "DAGSTER_HOME": str(dagster),
        "HOME": str(home),
        **dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), through),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
    }


def said(environment: dict[str, str], *arguments: str) -> str:
    """Everything that a process says, on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=170,
    )
    return done.stdout


def test_every_secret_has_its_canary() -> None:
    """A setting that is secret or private belongs into `SECRETS`."""
    hidden = {s.env for s in all_settings(list(ALL)) if (s.is_secret or s.is_private) and s.env}
    unused = {f"{name.upper()}_API_KEY" for name, service in ALL.items() if not service.needs_key}
    assert hidden - unused - {"MAXMIND_API_KEY"} <= SECRETS.keys()


@pytest.mark.timeout(900)
def test_no_canary_sings(environment: dict[str, str], simulator: Simulator, proxy: Proxy, nest: Path) -> None:
    """Where all is well, where services refuse us or answer rubbish, where database or Redis are away."""
    cli = ("-m", "cowrie_enrich_dagster")
    sung = {}

    def call(state: str, *arguments: str, **changes: str) -> None:
        output = said({**environment, **changes}, *arguments)
        if found := singing(output):
            sung[f"{state}: {' '.join(arguments[:6])}"] = (found, output)

    for command in COMMANDS:
        call("well", *cli, *command)
    call("well", "-c", IN_DAGSTER)
    for state, fault in {
        "refused": Fault(kind="reply", status=403),
        "rubbish": Fault(kind="html"),
    }.items():
        for name in OVER_HTTP:
            simulator.set_fault(name, fault)
        with closing(Database(environment["DATABASE_URL"])) as database, database.write() as connection:
            for table in ("enrichment_cache", "lookups", "service_limits"):
                connection.execute(text(f"DELETE FROM {table}"))
        with redis.Redis(port=int(environment["REDIS_PORT"]), password=SECRETS["REDIS_PASSWORD"]) as client:
            client.flushall()
        for command in (("doctor",), ("run", "--days", DAY)):
            call(state, *cli, *command)
    gone = environment["DATABASE_URL"].replace(str(urlsplit(environment["DATABASE_URL"]).port), "1")
    for changes in (
        {"DATABASE_URL": gone},
        {"REDIS_PORT": "1"},
        {"DATABASE_URL": gone + "?no_such=parameter"},
    ):
        for command in (("doctor",), ("quota",)):
            call(str(changes), *cli, *command, **changes)
    call("no database", "-c", IN_DAGSTER, DATABASE_URL=gone)
    assert not sung, sung

    for service, to_proxy, request in proxy.seen:
        own = {"dshield": "DSHIELD_EMAIL", "webhook": "ENRICH_WEBHOOK_URL"}.get(
            service, f"{service.upper()}_API_KEY"
        )
        assert singing(to_proxy) == {"proxy"}
        assert singing(request) <= {own}, request
    told = {service for service, _, request in proxy.seen if singing(request)}
    assert told == {"dshield", "webhook", *KEYED}  # and each of them was heard where it belongs

    with closing(Database(environment["DATABASE_URL"])) as database, database.read() as connection:
        tables = inspect(connection).get_table_names()
        assert "lookups" in tables
        for table in tables:
            for (row,) in connection.execute(text(f'SELECT t::text FROM "{table}" AS t')):
                assert not singing(row), (table, row)
    with redis.Redis(port=int(environment["REDIS_PORT"]), password=SECRETS["REDIS_PASSWORD"]) as client:
        for key in client.scan_iter():
            assert not singing(key + (client.get(key) or b""))
    for folder in ("dagster", "home"):
        files = [path for path in (nest / folder).rglob("*") if path.is_file()]
        assert files or folder == "home"
        for path in files:
            assert not singing(path.read_bytes()), path
