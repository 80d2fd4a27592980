"""Nothing in the package calls out but through the paced session."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cowrie_enrich_dagster

PACKAGE = Path(cowrie_enrich_dagster.__file__).parent
WAY_OUT = PACKAGE / "pacing" / "http.py"
WEBHOOK = PACKAGE / "enrichment" / "webhook.py"  # the operator's own, no service
SIMULATOR = PACKAGE / "simulator"  # a server, and the client that drives it on the loopback interface
FORBIDDEN_MODULES = {"urllib.request", "http.client", "httpx", "aiohttp", "urllib3", "ftplib", "smtplib"}
CALLING_NAMES = {
    "Session", "session", "get", "post", "put", "patch", "delete", "head", "options", "request", "HTTPAdapter"
}  # fmt: skip


def calls_out(source: str) -> Iterator[str]:
    """Every place in a module where an HTTP request could be made or a session be built."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: {a.name}" for a in node.names if a.name in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module in FORBIDDEN_MODULES or module.split(".")[0] in ("httpx", "aiohttp", "urllib3"):
                yield f"{node.lineno}: {module}"
            if module.split(".")[0] == "requests":
                yield from (f"{node.lineno}: {a.name}" for a in node.names if a.name in CALLING_NAMES)
        elif isinstance(node, ast.Attribute) and node.attr in CALLING_NAMES - {"Session"}:
            if ast.unparse(node.value) == "requests":
                yield f"{node.lineno}: requests.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "requests.Session":
            yield f"{node.lineno}: requests.Session()"


def test_the_search_finds_what_it_looks_for() -> None:
    """The search below would notice each of these ways out."""
    for way in (
        "import urllib.request",
        "from urllib3 import PoolManager",
        "import httpx",
        "import requests\nrequests.get('http://example.org')",
        "import requests\nwith requests.Session() as session: pass",
        "from requests import Session",
    ):
        assert list(calls_out(way))
    assert not list(calls_out("import requests\ndef ask(http: requests.Session): return http.get('x')"))


def test_only_the_paced_session_calls_out() -> None:
    """No module builds a session of its own or calls an HTTP library directly: every call has a slot."""
    found = {
        str(path.relative_to(PACKAGE)): places
        for path in PACKAGE.rglob("*.py")
        if path not in (WAY_OUT, WEBHOOK) and SIMULATOR not in path.parents
        if (places := list(calls_out(path.read_text(encoding="utf-8"))))
    }
    assert found == {}
