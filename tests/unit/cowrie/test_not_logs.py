"""What lies beside the logs: nothing of it becomes an event, and none of its bytes are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .logs import connect, event, line, read, read_bytes

EVIL = connect("evil")
TYPED = json.dumps(EVIL)
MOMENT = "2025-11-02T10:00:00.000000Z"
BESIDE = {
    "cowrie.log": f"{MOMENT} [HoneyPotSSHTransport,1,8.8.8.8] CMD: {TYPED}\n" * 30,
    "cowrie.log.2015": f"2015-11-02 10:00:00+0000 [SSHChannel session (0)] CMD: {TYPED}\n",
    "cowrie.log.2": f"2025-11-02T10:00:00+0000 [-] {TYPED}\n{TYPED}\n",
    "syslog": f"Nov  2 10:00:00 pot1 cowrie[12]: [HoneyPot,1] CMD: {TYPED}\n",
    "messages": f"Nov  2 10:00:00 pot1 sshd[12]: Invalid user {TYPED}\n"
    + f"Nov  2 10:00:01 pot1 x: {TYPED}\n",
    "pods.log": f"{MOMENT} stdout F Command found: {TYPED}\n",
    "compose.log": f"cowrie-1  | CMD: {TYPED}\nweb-1  | GET /\n",
    "dionaea.json": json.dumps({"timestamp": MOMENT, "connection": {"type": "accept"}, "src_ip": "1.2.3.4"}),
    "heralding.json": json.dumps(
        {"timestamp": MOMENT, "session_id": "1", "message": TYPED, "password": TYPED}
    ),
    "http.json": json.dumps({"time": MOMENT, "peer": "1.2.3.4", "log": TYPED, "body": TYPED}),
    "other.json": json.dumps({"eventid": "honeypot.login", "session": "a", "timestamp": MOMENT, "m": EVIL}),
    "mixed.json": json.dumps(EVIL) + "\n" + json.dumps({"type": "Dionaea", "src_ip": "1.2.3.4"}) + "\n",
    "list.json": json.dumps([{"username": "a", "password": TYPED}] * 3, indent=2),
    "id_rsa": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAA\n",
    "cowrie.cfg": "[honeypot]\nhostname = svr04\n[output_x]\napi_key = secret\n",
    "package.json": json.dumps({"name": "x", "scripts": {"test": "y"}}, indent=2),
    "cowrie.json": json.dumps({"dashboard": {"title": "Cowrie", "token": "secret"}}, indent=2),
    "empty": "",
    "blank": "\n \n",
    "userdb.txt": "root:x:!root\nroot:x:secret\n",
    "lastlog.txt": "\x7fELF\0\0",
}


@pytest.mark.parametrize("name", BESIDE)
def test_nothing_of_it_is_used_or_kept(tmp_path: Path, name: str) -> None:
    """It is named with the reason, and leaves nothing behind, neither rows nor parts of it in the index."""
    (tmp_path / "pot").mkdir()
    (tmp_path / "pot" / "cowrie.json.1").write_bytes(line(connect()))
    index: dict[str, object] = {}
    reading = read_bytes(tmp_path, BESIDE[name].encode(), name, index_cache=index)
    assert reading.ids == ["aa11"]
    assert reading.quarantined == []
    assert (reading.report.files, reading.report.lines_in) == (1, 1)
    assert [passed.names for passed in reading.report.passed_over] == [(name,)]
    kept = json.dumps(index)
    assert not any(word in kept for word in ("evil", "secret", "OPENSSH", "svr04", "token"))


def test_all_of_it_at_once_is_told_by_reason(tmp_path: Path) -> None:
    """A reason names a few files and counts the others; names are shown printable."""
    for name, content in BESIDE.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "\x1b[2Jz").write_text("x")
    told = [str(passed) for passed in read(tmp_path).report.passed_over]
    assert sum(passed.files for passed in read(tmp_path).report.passed_over) == len(BESIDE) + 1
    assert all(entry.isprintable() for entry in told)
    assert "empty: empty" in told
    assert any(entry.startswith("\\x1b[2Jz, ") and " more: not JSON" in entry for entry in told), told


def test_a_log_that_is_not_yet_one(tmp_path: Path) -> None:
    """A file whose first line is still being written is looked at again when it has grown."""
    index: dict[str, dict[str, object]] = {}
    whole = line(connect())
    assert read_bytes(tmp_path, whole[:40], "pot.log", index_cache=index).ids == []
    assert read_bytes(
        tmp_path, whole + line(event(at="2025-11-02T11:00:00Z")), "pot.log", index_cache=index
    ).ids == ["aa11"]


def test_a_log_that_began_with_rubbish(tmp_path: Path) -> None:
    """Once it has grown, what it is is found anew: the records since are read like those of any log."""
    index: dict[str, dict[str, object]] = {}
    rubbish = b'half", "timestamp": "2025-11-02T10:00:00Z"}\n'
    assert read_bytes(tmp_path, rubbish, index_cache=index).ids == []
    hidden = line(event("login.success", username="X")).replace(b"X", rb"\udc80")
    with (tmp_path / "cowrie.json").open("ab") as log:
        log.write(line(connect("aa12")) + hidden)
    reading = read(tmp_path, index_cache=index)
    assert reading.ids == ["aa11", "aa12"]
    assert list(reading.reasons) == [1]
