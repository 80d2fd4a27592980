"""Every service and everything it may send back: the status, whether it is cached, what the operator hears.

Each row goes the whole way: a lookup in the queue, a request over real HTTP (or whois) to the simulator, the
answer stored or not. The names of the tests (`pytest --collect-only`) are the table.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.stop import Stop
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from cowrie_enrich_dagster.storage.tables import Lookup, table_of
from tests.all_services import KEYED, SIMULATED
from tests.integration.services.conftest import body_text, fixture_of

CASES = Path(__file__).parents[2] / "data" / "cases" / "services"
HTTP = [name for name in SIMULATED if name != "cymru"]
READING_404 = [name for name in HTTP if 404 in getattr(ALL[name], "telling", ())]
REFUSING = [name for name in HTTP if ALL[name].auth_statuses]
CHALLENGE = (
    '<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title></head><body><script>'
    'window._cf_chl_opt={cvId:"3"};a.src="/cdn-cgi/challenge-platform/h/g/orchestrate/chl_page/v1"'
    "</script></body></html>"
)
MAINTENANCE = "<html><body><h1>We are down for maintenance</h1></body></html>"
_LOOKUPS = table_of(Lookup)


@dataclass(frozen=True)
class Row:
    """One line of the table. `says` is part of `lookups.last_error`, `stops` of why the run ended."""

    service: str
    what: str
    fault: Fault | None
    status: str
    says: str = ""
    stops: str = ""
    key: str = ""
    api_key: str = "tests-key"

    @property
    def is_cached(self) -> bool:
        return self.status in ("found", "not_found")


def first(service: str, status: str) -> dict[str, Any]:
    answers = fixture_of(service)["answers"]
    return next(a for a in answers if a.get("status") == status and "http_status" in a)


def reply(status: int, body: str, **options: Any) -> Fault:
    return Fault(kind="reply", status=status, body=body, **options)


def recorded(service: str, status: str) -> Iterator[Row]:
    for answer in fixture_of(service)["answers"]:
        if answer.get("status") == status and "http_status" in answer:
            fault = reply(answer["http_status"], body_text(answer))
            yield Row(service, f"{status}: {answer['about']}", fault, status, key=answer["key"])


def with_error(service: str) -> str:
    if service == "hibp":
        return '{"error":"rate limit exceeded"}'
    body = json.loads(body_text(first(service, "found")))
    return json.dumps({**body, "error": "rate limit exceeded"})


def case(name: str) -> str:
    """The body of a public report's response."""
    return (CASES / name).read_text().partition("\n\n")[2]


def rows() -> Iterator[Row]:
    for name in SIMULATED:
        yield from recorded(name, "found")
        yield from recorded(name, "not_found")
        yield from recorded(name, "invalid_response")
    yield Row("hibp", "found: the simulator's", None, "found")
    yield Row("cymru", "empty", reply(200, ""), "error", "ConnectionError")
    yield Row("cymru", "a web page", reply(200, MAINTENANCE), "invalid_response", "no line about")
    for name in HTTP:
        text = name == "hibp"
        yield Row(name, "empty", reply(200, ""), "invalid_response", "0 lines" if text else "not JSON")
        for form in ("seconds", "date", "absent"):
            limit = reply(429, '{"error":"slow down"}', retry_after_s=600, retry_after=form)
            yield Row(name, f"limited, Retry-After {form}", limit, "rate_limited", "HTTP 429", "rate_limited")
        yield Row(name, "maintenance", reply(503, MAINTENANCE), "error", "unavailable (HTTP 503)")
        page = reply(200, MAINTENANCE, headers={"Content-Type": "text/html"})
        yield Row(name, "maintenance with 200", page, "invalid_response", "line" if text else "not JSON")
        for kind in ("plain", "json"):
            body = case(f"dshield_404_{kind}.http")
            usual = "" if name in READING_404 else "is the URL right?"
            says = {"greynoise": "noise", "spur": "address"}.get(name, usual)
            if kind == "plain" and name in (*READING_404, "virustotal"):
                says = "body is not JSON"
            yield Row(name, f"gateway's 404, {kind}", reply(404, body), "invalid_response", says)
        for status in (403, 503):
            page = reply(status, CHALLENGE, headers={"cf-mitigated": "challenge", "Server": "cloudflare"})
            yield Row(name, f"challenge, {status}", page, "error", "unavailable: a challenge page")
            bare = reply(status, CHALLENGE)
            yield Row(name, f"challenge by its page alone, {status}", bare, "error", "unavailable: a chall")
        for status in (400, 422):
            says = f"refuses what it was asked about (HTTP {status})"
            yield Row(name, f"refused, {status}", reply(status, "{}"), "invalid_response", says)
        yield Row(name, "error in a 200", reply(200, with_error(name)), "invalid_response")
    for name in REFUSING:
        status = min(ALL[name].auth_statuses)
        stops = "refuses our key"
        bad = reply(status, "{}")
        yield Row(name, f"bad key, {status}", bad, "auth_failed", f"refused (HTTP {status})", stops)
        says = f"rate limited (HTTP {status})"
        later = reply(status, "{}", retry_after_s=30)
        yield Row(name, f"{status} that names a wait", later, "rate_limited", says, "rate_limited")
    for name in KEYED:
        yield Row(
            name, "bad key, as simulated", None, "auth_failed", "refused", "refuses", api_key=REFUSED_KEY
        )
    unknown = reply(200, '{"query_status":"unknown_auth_key"}')
    yield Row("urlhaus", "bad key with 200", unknown, "auth_failed", "unknown_auth_key", "refuses our key")
    spent = '{"error":{"code":"QuotaExceededError","message":"Quota exceeded"}}'
    for name, answer in {
        "virustotal": reply(429, spent),
        "abuseipdb": reply(
            429,
            '{"errors":[{"detail":"Daily rate limit of 1000 requests exceeded","status":429}]}',
            retry_after_s=40_000,
            headers={"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "0"},
        ),
        "spur": reply(429, "{}", headers={"X-Balance-Remaining": "0"}),
        "greynoise": reply(429, '{"message":"You have hit your weekly rate-limit of 50"}'),
    }.items():
        stops = "quota_exhausted until" if name in ("virustotal", "spur") else "rate_limited"
        says = "the quota is used up (HTTP 429)" if name == "virustotal" else "rate limited (HTTP 429)"
        yield Row(name, "quota gone", answer, "rate_limited", says, stops)
    surrogate = reply(200, (CASES / "vt_lone_surrogate.json").read_text())
    sha256 = "8739c76e681f900923b900c9df0ef75cf421d39cabb54650c4b9ad19b6a76d85"
    yield Row("virustotal", "half a surrogate pair (a public report)", surrogate, "found", key=sha256)
    beside = reply(200, (CASES / "dshield_200_error_with_number.json").read_text())
    yield Row(
        "dshield", "error with number (a report)", beside, "invalid_response", "error", key="45.148.10.1"
    )
    asname = reply(200, '{"ip":{"number":"45.148.10.1","asname":"TELEF\xd3NICA"}}', encoding="latin-1")
    yield Row("dshield", "Latin-1", asname, "found", key="45.148.10.1")
    marked = reply(200, '\ufeff{"ip":{"number":"45.148.10.1","count":1}}')
    yield Row("dshield", "byte order mark", marked, "found", key="45.148.10.1")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def enricher(
    request: pytest.FixtureRequest,
    simulator: Simulator,
    tmp_path: Path,
    sqlite_template: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Enricher]:
    """A worker that waits for nothing: what must wait longer than its patience is refused."""
    row: Row = request.param
    monkeypatch.setattr(Stop, "sleep", lambda self, seconds: None)
    simulator.reset()
    shutil.copy(sqlite_template, tmp_path / "enrich.db")
    name = row.service.upper()
    environment = {
        "COWRIE_ENRICH_HOME": str(tmp_path),
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": row.service,
        "ENRICH_MAX_WAIT_SECONDS": "0",
        "DSHIELD_EMAIL": "tests@example.org",
        f"{name}_API_URL": simulator.url(row.service),
        f"{name}_API_KEY": row.api_key,
        f"{name}_RATE_LIMIT": "1000",
        f"{name}_BURST": "1000",
        f"{name}_PER_MINUTE": "0",
    }
    with Enricher(load_settings(environment, cwd=tmp_path)) as opened:
        yield opened


ROWS = [pytest.param(row, row, id=f"{row.service}: {row.what} -> {row.status}") for row in rows()]


@pytest.mark.parametrize(("enricher", "row"), ROWS, indirect=["enricher"])
def test_what_comes_back_is_understood(enricher: Enricher, row: Row, simulator: Simulator) -> None:
    """Status, cache and words; nothing but knowledge is ever cached, and the payload is what was sent."""
    if row.fault:
        simulator.set_fault(row.service, row.fault)
    key = row.key or fixture_of(row.service)["answers"][0]["key"]
    report = enricher.fetch(row.service, [Wanted(key)])
    with enricher.database.read() as connection:
        lookup = connection.execute(_LOOKUPS.select()).mappings().one()
    words = lookup["last_error"] or ""
    assert (lookup["status"], words) == (row.status, words)
    assert row.says in words
    assert row.stops in report.stopped_because
    assert dict(report.statuses) == {row.status: 1}
    assert set(enricher.cache.database.get_many(row.service, [key])) == ({key} if row.is_cached else set())
    if row.status == "invalid_response":  # and so says nothing that would make one look at the API key
        assert words
        assert "key" not in words


@pytest.mark.parametrize(
    ("record", "status"),
    [({"country": {"iso_code": "NL"}}, "found"), ({}, "not_found"), (None, "not_found")],
)
def test_maxmind(record: dict[str, Any] | None, status: str, tmp_path: Path) -> None:
    """The one that is asked over no network: an entry with nothing in it says nothing."""
    writer = MMDBWriter(ip_version=4, database_type="GeoLite2-Country")
    writer.insert_network(IPSet(["81.2.70.0/24"]), {"country": {"iso_code": "GB"}})
    if record is not None:
        writer.insert_network(IPSet(["81.2.69.0/24"]), record)
    writer.to_db_file(str(tmp_path / "country.mmdb"))
    environment = {
        "COWRIE_ENRICH_HOME": str(tmp_path),
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": "maxmind",
        "MAXMIND_DB_PATH": str(tmp_path / "country.mmdb"),
    }
    with Enricher(load_settings(environment, cwd=tmp_path)) as enricher:
        enricher.fetch("maxmind", [Wanted("81.2.69.7")])
        assert enricher.queue.statuses("maxmind", ["81.2.69.7"])["81.2.69.7"].status == status
        assert len(enricher.cache.database.get_many("maxmind", ["81.2.69.7"])) == 1


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        ({"is_anonymous": True, "is_tor_exit_node": True}, (False, False, True)),
        ({"is_anonymous": True, "is_anonymous_vpn": True}, (False, True, False)),
        ({"is_anonymous": True, "is_public_proxy": True}, (True, False, False)),
        ({"is_anonymous": True, "is_residential_proxy": True}, (True, False, False)),
        ({"traits": {"is_tor_exit_node": True}}, (False, False, True)),
        ({"country": {"iso_code": "NL"}}, (None, None, None)),
    ],
)
def test_maxminds_flags(flags: dict[str, Any], facts: tuple[bool | None, ...]) -> None:
    """Tor, VPN and proxy as its Anonymous IP database tells them; other databases tell nothing of it."""
    told = ALL["maxmind"].facts({"ip": "81.2.69.7", "databases": {"x": {"record": flags}}})
    assert (told.is_proxy, told.is_vpn, told.is_tor) == facts
