"""Values that Cowrie's versions log in different ways, and what only the client claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowrie_enrich_dagster.cowrie import Session

from .logs import connect, event, line, read_bytes
from .test_forms import CASE_DAY, CASES

HASH = "ab" * 32


def case(tmp_path: Path, name: str) -> list[Session]:
    return read_bytes(tmp_path, (CASES / name).read_bytes(), first=CASE_DAY).sessions


def test_case_client_version(tmp_path: Path) -> None:
    """One spelling, however it was logged."""
    sessions = case(tmp_path, "client-version-repr.jsonl")
    assert [session.client_version for session in sessions] == ["SSH-2.0-Go"] * 3


@pytest.mark.parametrize(
    ("logged", "read"),
    [
        ('b"SSH-2.0-it\'s"', "SSH-2.0-it's"),
        ('"SSH-2.0-x"', "SSH-2.0-x"),
        ("b''", None),
        ("b'SSH-2.0-half", "b'SSH-2.0-half"),
        ("better'", "better'"),
        ("'", "'"),
        ("SSH-2.0-'quoted'", "SSH-2.0-'quoted'"),
        ("b'\ud800x'", "\ufffdx"),
        (17, "17"),
    ],
)
def test_client_version(tmp_path: Path, logged: object, read: str | None) -> None:
    """Only a whole Python literal is unquoted."""
    content = line(event("client.version", version=logged))
    assert read_bytes(tmp_path, content).sessions[0].client_version == read


def test_case_tunnel_src_port(tmp_path: Path) -> None:
    """The port in a tunnel request is what the client claims."""
    session = case(tmp_path, "tunnel-src-port.jsonl")[0]
    assert (session.src_ip, session.src_port, session.dst_port) == ("45.155.205.10", None, None)


@pytest.mark.parametrize("kind", ["direct-tcpip.request", "direct-tcpip.data", "tunnelproxy-tcpip.data"])
def test_ends_of_tunnels(tmp_path: Path, kind: str) -> None:
    """An address in a tunnel's event gives way to any other event's, whichever came first; no port counts."""
    tunnel = event(kind, src_ip="1.2.3.4", src_port=7, dst_ip="5.6.7.8", dst_port=25)
    later = event("session.closed", src_ip="8.8.8.8", at="2025-11-02T10:00:09Z")
    session = read_bytes(tmp_path, line(tunnel) + line(later)).sessions[0]
    assert (session.src_ip, session.src_port, session.dst_port) == ("8.8.8.8", None, None)
    alone = read_bytes(tmp_path / "alone", line(tunnel)).sessions[0]
    assert (alone.src_ip, alone.src_port) == ("1.2.3.4", None)
    whole = read_bytes(tmp_path / "whole", line(tunnel) + line(connect())).sessions[0]
    assert (whole.src_ip, whole.src_port, whole.dst_port) == ("8.8.8.8", 40000, 22)


def test_case_outfile(tmp_path: Path) -> None:
    """A hash that only the name of the kept file tells."""
    assert case(tmp_path, "outfile-hash.jsonl")[0].file_hashes == (HASH,)


@pytest.mark.parametrize(
    ("fields", "hashes"),
    [
        ({"outfile": f"var/lib/cowrie/downloads/{HASH.upper()}"}, (HASH,)),
        ({"outfile": HASH, "shasum": None}, (HASH,)),
        ({"outfile": f"dl/{'cd' * 32}", "shasum": HASH}, (HASH,)),
        ({"outfile": "dl/20150101_http___host_x"}, ()),
        ({"outfile": f"dl/{HASH}.part"}, ()),
        ({"outfile": 17}, ()),
    ],
)
def test_hashes_of_files(tmp_path: Path, fields: dict[str, object], hashes: tuple[str, ...]) -> None:
    """Of downloads and uploads alike; `shasum` comes first."""
    for kind in ("session.file_download", "session.file_upload"):
        session = read_bytes(tmp_path / kind, line(event(kind, **fields))).sessions[0]
        assert session.file_hashes == hashes


def test_case_urls(tmp_path: Path) -> None:
    """What is no URL is none, and its hash counts all the same."""
    session = case(tmp_path, "urls-not-urls.jsonl")[0]
    assert (session.urls, session.file_hashes, session.downloads) == (("http://198.51.100.9/x",), (HASH,), 4)


@pytest.mark.parametrize(
    "url", ["tftp://198.51.100.9/a", "HTTPS://a.example:8443/?x", "ftp://u:p@[2001:db8::1]/a"]
)
def test_urls(tmp_path: Path, url: str) -> None:
    """Whatever the scheme."""
    assert read_bytes(tmp_path, line(event("session.file_download", url=url))).sessions[0].urls == (url,)


@pytest.mark.parametrize(
    "url", ["tty", "/tmp/x", "http:/half", "://", "see http://a.example/", "file:///etc/passwd"]
)
def test_what_is_no_url(tmp_path: Path, url: str) -> None:
    """Names of streams and paths, as where a file was written."""
    assert read_bytes(tmp_path, line(event("session.file_download", url=url))).sessions[0].urls == ()


def test_case_pubkey_login(tmp_path: Path) -> None:
    """A login by key is a login."""
    session = case(tmp_path, "pubkey-login.jsonl")[0]
    assert (session.login_successes, session.username, session.password) == (1, "root", None)
