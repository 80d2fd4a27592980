"""Every way Redis can fail, done to a real Redis in the middle of a run: nobody above notices."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache, Hit, HybridEnrichmentCache, RedisCache
from cowrie_enrich_dagster.cache.redis_tier import COOLDOWN_S, KEY_PREFIX
from tests.integration.cache.conftest import SERVICE, Now, answer
from tests.servers import RedisServer, free_port

KEYS = [f"198.51.100.{n}" for n in range(60)]
KNOWN, UNKNOWN = KEYS[:40], KEYS[40:]
PASSWORD = "correct-horse-battery"


class Seconds:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that may be harmed."""
    started = RedisServer()
    yield started
    started.close()


def admin(server: RedisServer) -> redis.Redis:
    return redis.Redis(port=server.port, socket_timeout=5)


def every_key(server: RedisServer, change: Callable[[redis.Redis, str], object]) -> None:
    with admin(server) as client:
        for key in KEYS:
            change(client, f"{KEY_PREFIX}:{SERVICE}:{key}")


def change_password(server: RedisServer) -> None:
    with admin(server) as client:
        client.config_set("requirepass", "changed")
        client.client_kill_filter(_type="normal", skipme=True)


def fill_memory(server: RedisServer) -> None:
    with admin(server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")


def make_replica(server: RedisServer) -> None:
    with admin(server) as client:
        client.replicaof("127.0.0.1", str(free_port()))


def make_cut_off_replica(server: RedisServer) -> None:
    with admin(server) as client:
        client.config_set("replica-serve-stale-data", "no")
    make_replica(server)


def make_lists(server: RedisServer) -> None:
    def change(client: redis.Redis, name: str) -> None:
        client.delete(name)
        client.lpush(name, "not", "a", "string")

    every_key(server, change)


def empty(server: RedisServer) -> None:
    with admin(server) as client:
        client.flushall()
        client.script_flush()
        client.client_kill_filter(_type="normal", skipme=True)


def restart(server: RedisServer) -> None:
    server.kill()
    server.start()


FAULTS: dict[str, Callable[[RedisServer], object]] = {
    "killed": RedisServer.kill,
    "hanging": RedisServer.pause,
    "password changed": change_password,
    "out of memory": fill_memory,
    "read-only": make_replica,
    "cut off from its master": make_cut_off_replica,
    "wrong types": make_lists,
    "garbage": lambda server: every_key(server, lambda client, name: client.set(name, b"\x80garbage\x00")),
    "another format": lambda server: every_key(
        server, lambda client, name: client.set(name, b"[9,1,2,null]")
    ),
    "emptied": empty,
    "restarted": restart,
    "forbidden": lambda server: admin(server).execute_command(
        "ACL", "SETUSER", "default", "-@all", "+client"
    ),
}


def fetch_for(now: Now, calls: list[str]) -> Callable[[str, Sequence[str]], Mapping[str, CacheEntry]]:
    def fetch(service: str, keys: Sequence[str]) -> dict[str, CacheEntry]:
        calls.extend(keys)
        return {key: answer(key, now()) for key in keys}

    return fetch


def run(
    redis_tier: RedisCache | None, database: DatabaseCache, now: Now, fault: Callable[[], object]
) -> tuple[list[tuple[CacheEntry, bool]], list[str]]:
    """Known and unknown keys, one by one and in bulk, with the fault in the middle."""
    database.delete()
    database.set_many(answer(key, now() - timedelta(days=1)) for key in KNOWN)
    calls: list[str] = []
    cache = HybridEnrichmentCache(redis_tier, database, fetch=fetch_for(now, calls), clock=now)
    hits: list[Hit | None] = list(cache.get_or_fetch_many(SERVICE, KNOWN).values())
    hits += [cache.get_or_fetch(SERVICE, key) for key in KEYS[30:45]]
    fault()
    hits += [cache.get_or_fetch(SERVICE, key) for key in KEYS[35:50]]
    hits += cache.get_or_fetch_many(SERVICE, KEYS).values()
    cache.set(answer(KEYS[0], now() - timedelta(hours=1), {"newer": True}))
    hits += cache.get_or_fetch_many(SERVICE, KEYS).values()
    assert all(hits)
    return [(hit.entry, hit.stale) for hit in hits if hit], calls


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle_of_a_run_changes_no_answer(
    fault: str, server: RedisServer, sqlite_cache: DatabaseCache, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """The results are those of a run without Redis, each key is asked once, and no time is lost."""
    expected, expected_calls = run(None, sqlite_cache, now, lambda: None)
    with caplog.at_level(logging.WARNING):
        tier = RedisCache("127.0.0.1", server.port, clock=now)
        spent = 0.0

        def inject() -> None:
            nonlocal spent
            FAULTS[fault](server)
            spent = time.monotonic()

        results, calls = run(tier, sqlite_cache, now, inject)
        spent = time.monotonic() - spent
    assert results == expected
    assert calls == expected_calls == UNKNOWN
    assert spent < 3.0  # waiting for each of some 20 calls would be ten seconds
    quiet = {"wrong types", "garbage", "another format", "emptied", "restarted"}
    assert len(caplog.records) == (0 if fault in quiet else 1), caplog.text
    tier.close()


@pytest.mark.parametrize("fault", ["garbage", "another format", "wrong types"])
def test_spoiled_keys_heal(fault: str, server: RedisServer, now: Now) -> None:
    """A key with something else in it is a miss, and holds the answer again once it is stored."""
    tier = RedisCache("127.0.0.1", server.port, clock=now)
    entries = {key: answer(key, now()) for key in KEYS}
    tier.set_many(entries.values())
    FAULTS[fault](server)
    assert tier.get_many(SERVICE, KEYS) == {}
    dropped = tier.metrics.as_dict()["totals"]["redis"]["dropped"]
    assert dropped == (0 if fault == "wrong types" else len(KEYS))  # MGET cannot tell a list from nothing
    if fault != "wrong types":
        assert admin(server).dbsize() == 0  # nobody stumbles over them again
    tier.set_many(entries.values())
    assert tier.get_many(SERVICE, KEYS) == entries
    tier.close()


@pytest.mark.parametrize("fault", ["out of memory", "read-only"])
def test_a_redis_that_takes_no_writes_is_still_read(
    fault: str, server: RedisServer, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads go on and say so in the status; after the cooldown, writes are tried again."""
    seconds = Seconds()
    tier = RedisCache("127.0.0.1", server.port, clock=now, monotonic=seconds)
    old = answer("old", now())
    assert tier.set_many([old]) == 1
    FAULTS[fault](server)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert tier.set_many([answer("new", now())]) == 0
            assert tier.get_many(SERVICE, ["old", "new"]) == {"old": old}
    assert len(caplog.records) == 1
    status = tier.status()
    assert (status.reachable, status.writable, bool(status.reason)) == (True, False, True)
    assert tier.metrics.as_dict()["totals"]["redis"]["errors"] == 1
    with admin(server) as client:
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", "0")
    assert tier.set_many([answer("new", now())]) == 0
    seconds.now += COOLDOWN_S
    assert tier.set_many([answer("new", now())]) == 1
    assert tier.status().writable
    tier.close()


@pytest.mark.parametrize("fault", ["killed", "hanging"])
def test_a_dead_redis_costs_one_timeout_a_minute(
    fault: str, server: RedisServer, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a cooldown nobody waits for it; it is tried once a minute, and used again when it is back."""
    seconds = Seconds()
    tier = RedisCache("127.0.0.1", server.port, clock=now, monotonic=seconds)
    tier.set_many([answer("k", now())])
    FAULTS[fault](server)

    def errors() -> int:
        return int(tier.metrics.as_dict()["totals"]["redis"]["errors"])

    with caplog.at_level(logging.INFO):
        for minute in range(1, 3):
            started = time.monotonic()
            for _ in range(500):
                assert tier.get_many(SERVICE, ["k"]) == {}
                assert tier.set_many([answer("k", now())]) == 0
                assert not tier.status().reachable
            assert errors() == minute
            assert time.monotonic() - started < 0.5 + 0.7  # the timeout, and 1,500 calls that do not wait
            seconds.now += COOLDOWN_S
        server.resume() if fault == "hanging" else server.start()
        assert tier.set_many([answer("k", now())]) == 1
        assert tier.get_many(SERVICE, ["k"])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    tier.close()


def test_many_threads_wait_for_a_hanging_redis_together_not_in_turn(server: RedisServer, now: Now) -> None:
    """Sixteen threads that meet a hanging Redis lose one timeout, and one of them tries it a minute later."""
    seconds = Seconds()
    tier = RedisCache("127.0.0.1", server.port, clock=now, monotonic=seconds)
    tier.set_many([answer("k", now())])
    server.pause()

    def all_at_once() -> float:
        threads = [threading.Thread(target=tier.get_many, args=(SERVICE, ["k"])) for _ in range(16)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - started

    assert all_at_once() < 2.0  # in turn it would be eight seconds
    before = tier.metrics.as_dict()["totals"]["redis"]["errors"]
    seconds.now += COOLDOWN_S
    assert all_at_once() < 2.0  # in turn it would be eight seconds
    assert tier.metrics.as_dict()["totals"]["redis"]["errors"] == before + 1
    tier.close()


def test_the_password_is_used_and_never_told(
    server: RedisServer, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """The right password opens; a wrong one, or none, is one warning without it."""
    admin(server).config_set("requirepass", PASSWORD)
    right = RedisCache("127.0.0.1", server.port, password=PASSWORD, db=3, clock=now)
    assert right.set_many([answer("k", now())]) == 1
    with redis.Redis(port=server.port, password=PASSWORD, db=3) as client:
        assert client.dbsize() == 1
    with caplog.at_level(logging.DEBUG):
        for password in (PASSWORD + "x", None):
            wrong = RedisCache("127.0.0.1", server.port, password=password, clock=now)
            assert wrong.get_many(SERVICE, ["k"]) == {}
            assert wrong.status().reason == "it refused our credentials"
            assert PASSWORD not in repr(vars(wrong))
            wrong.close()
    assert len(caplog.records) == 2
    assert PASSWORD not in caplog.text
    right.close()


def test_redis_down_from_the_start(sqlite_cache: DatabaseCache, now: Now) -> None:
    """Nothing listens, or the name does not exist: the run is the same, the status says why."""
    for host in ("127.0.0.1", "no-such-host.invalid"):
        tier = RedisCache(host, free_port(), clock=now)
        results, calls = run(tier, sqlite_cache, now, lambda: None)
        assert len(results) == 40 + 15 + 15 + 60 + 60
        assert calls == UNKNOWN
        assert tier.status().reason == "no connection"
        assert tier.delete() == 0


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$abc\r\n", b"*-5\r\n\r\n", b"\x00" * 64, b"+OK\r\n" * 9]
)
def test_a_peer_that_is_not_redis(reply: bytes, now: Now) -> None:
    """Another server on that port is a fault like any other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peer.recv(4096)
            peer.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    tier = RedisCache("127.0.0.1", listener.getsockname()[1], clock=now)
    started = time.monotonic()
    assert tier.get_many(SERVICE, KEYS) == {}
    assert tier.set_many([answer("k", now())]) == 0
    assert tier.get_many(SERVICE, KEYS) == {}
    assert not tier.status().reachable
    assert time.monotonic() - started < 2.0
    listener.close()
    tier.close()


def test_status_tells_memory_and_policy(redis_port: int, now: Now) -> None:
    """What doctor shows: bytes used, the limit and what happens when it is reached."""
    tier = RedisCache("127.0.0.1", redis_port, clock=now)
    status = tier.status()
    assert status.reachable
    assert status.writable
    assert status.reason == ""
    assert (status.used_memory or 0) > 100_000
    assert status.maxmemory == 0
    assert status.eviction_policy == "noeviction"
    tier.close()


def test_an_entry_lives_an_hour_or_what_is_left_of_its_life(redis_port: int, now: Now) -> None:
    """Promotion never makes an answer younger; what has expired is not stored at all."""
    tier = RedisCache("127.0.0.1", redis_port, clock=now)
    for key, left, expected in (("long", 86_400, 3_600), ("short", 90, 90), ("gone", 0, None)):
        tier.set_many([answer(key, now() - timedelta(days=7) + timedelta(seconds=left))])
        with redis.Redis(port=redis_port) as client:
            life = client.pttl(f"{KEY_PREFIX}:{SERVICE}:{key}")
        assert life == -2 if expected is None else expected - 5 < life / 1000 <= expected
    tier.close()


def test_a_refused_write_does_not_bring_back_the_older_answer(server: RedisServer, now: Now) -> None:
    """What Redis did not take is not read from it either, until it has, or cannot hold the older one."""
    seconds = Seconds()
    tier = RedisCache("127.0.0.1", server.port, clock=now, monotonic=seconds, ttl_s=600)
    old, new = answer("k", now() - timedelta(days=1)), answer("k", now())
    other = answer("other", now())
    tier.set_many([old, other])
    make_replica(server)
    assert tier.replace_many([new]) == 0
    assert tier.get_many(SERVICE, ["k", "other"]) == {"other": other}
    admin(server).replicaof("NO", "ONE")
    seconds.now += COOLDOWN_S
    assert tier.get_many(SERVICE, ["k"]) == {}
    assert tier.set_many([new]) == 1
    assert tier.get_many(SERVICE, ["k"]) == {"k": new}
    make_replica(server)
    assert tier.replace_many([answer("k", now())]) == 0
    seconds.now += 600
    assert tier.get_many(SERVICE, ["k"]) == {"k": new}
    tier.close()


def test_a_changed_answer_format_hides_the_old_entries(redis_port: int, now: Now) -> None:
    """Raising a service's number makes its entries invisible, and leaves other processes theirs."""
    old = RedisCache("127.0.0.1", redis_port, clock=now)
    new = RedisCache("127.0.0.1", redis_port, clock=now, versions={SERVICE: 2})
    old.set_many([answer("k", now(), {"format": 1})])
    assert new.get_many(SERVICE, ["k"]) == {}
    new.set_many([answer("k", now(), {"format": 2})])
    assert old.get_many(SERVICE, ["k"])["k"].payload == {"format": 1}
    assert new.get_many(SERVICE, ["k"])["k"].payload == {"format": 2}
    assert new.delete(SERVICE) == 1
    assert old.get_many(SERVICE, ["k"])
    old.close()
    new.close()


def test_other_peoples_keys_are_left_alone(redis_port: int, now: Now) -> None:
    """Deleting everything deletes what is ours, also where there are thousands of foreign keys."""
    with redis.Redis(port=redis_port) as client:
        client.mset({f"theirs:{n}": "x" for n in range(3_000)})
        tier = RedisCache("127.0.0.1", redis_port, clock=now)
        tier.set_many(answer(f"k{n}", now()) for n in range(1_500))
        assert tier.delete() == 1_500
        assert client.dbsize() == 3_000
    tier.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key beside it."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    )
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cert.pem"


def tls_front(certificate: Path, port: int) -> socket.socket:
    """Speaks TLS with clients and passes their bytes on to Redis; the wheel's Redis is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(raw: socket.socket) -> None:
        backend = socket.create_connection(("127.0.0.1", port))
        with backend, suppress(OSError), context.wrap_socket(raw, server_side=True) as peer:
            while request := peer.recv(65_536):
                backend.sendall(request)
                peer.sendall(backend.recv(65_536))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def test_tls_with_a_certificate_that_is_checked(
    certificate: Path, redis_port: int, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted certificate works; an unknown one is a fault, never a plain or unchecked connection."""
    with tls_front(certificate, redis_port) as listener:
        port = listener.getsockname()[1]
        stranger = RedisCache("127.0.0.1", port, tls=True, clock=now)
        assert stranger.set_many([answer("k", now())]) == 0
        assert not stranger.status().reachable
        plain = RedisCache("127.0.0.1", port, clock=now)
        assert plain.get_many(SERVICE, ["k"]) == {}
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        tier = RedisCache("127.0.0.1", port, tls=True, clock=now)
        assert tier.set_many([answer("k", now())]) == 1
        assert tier.get_many(SERVICE, ["k"])
        for cache in (stranger, plain, tier):
            cache.close()
