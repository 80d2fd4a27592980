"""Whatever speaks on Redis's port: nothing is found, nothing raises, and the status says what it is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone

import pytest

from cowrie_enrich_dagster.cache import CacheEntry, RedisCache

ANSWERS = {
    "+OK": b"+OK\r\n",
    "a number": b":7\r\n",
    "nothing": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "nested lists": b"*1\r\n" * 40 + b":1\r\n",
    "lists without end": b"*1\r\n" * 5000,
    "a list of lists": b"*1\r\n*1\r\n*0\r\n",
    "a web server": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "an SSH server": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a length of less than nothing": b"$-7\r\n",
    "no bytes": b"\0\xff\r\n",
}


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while received := connection.recv(65536):
                # One for each command, as redis-py counts them: HELLO, CLIENT SETINFO, SELECT and so on.
                connection.sendall(answer * max(1, received.count(b"\r\n*") + 1))

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("what", ANSWERS)
def test_what_is_not_redis_does_no_harm(what: str) -> None:
    """Reads, writes, deletions and the status, each as the first thing that is tried."""
    now = datetime.now(timezone.utc)
    entry = CacheEntry.of_answer("dshield", "1.2.3.4", {"a": 1}, fetched_at=now, ttl=timedelta(days=1))
    with speaking(ANSWERS[what]) as port:
        assert RedisCache(port=port).get_many("dshield", ["1.2.3.4"]) == {}
        RedisCache(port=port).set_many([entry])
        RedisCache(port=port).replace_many([entry])
        RedisCache(port=port).delete("dshield", ["1.2.3.4"])
        RedisCache(port=port).delete()
        status = RedisCache(port=port).status()
    assert not status.reachable
    assert status.reason in ("what answers there is not Redis", "no connection", "it does not answer in time")
    if what == "+OK":
        assert status.reason == "what answers there is not Redis"
