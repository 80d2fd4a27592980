"""The pages of services with keys, of passwords and of feeds answer as their vendors do."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import Message
from random import Random
from typing import Any

import pytest
import requests

from cowrie_enrich_dagster.simulator import FixedWindow, Limit, Simulator, SimulatorProcess, pages
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY

IP = "118.25.6.39"
SHA256 = hashlib.sha256(b"a").hexdigest()
PATHS = {
    "virustotal": f"/files/{SHA256}",
    "greynoise": f"/community/{IP}",
    "abuseipdb": f"/check?ipAddress={IP}&maxAgeInDays=90",
    "spur": f"/context/{IP}",
    "hibp": "/range/21BD1",
    "urlhaus": "/host/",
}
KEY_HEADERS = {
    "virustotal": "x-apikey",
    "greynoise": "key",
    "abuseipdb": "Key",
    "spur": "Token",
    "urlhaus": "Auth-Key",
}

Ask = Callable[..., requests.Response]


def ask_at(
    base_url: str, http: requests.Session, service: str, path: str, key: str | None
) -> requests.Response:
    """One lookup, with a key in the header where the vendor wants it; URLhaus gets the address as a form."""
    headers = {KEY_HEADERS[service]: key} if key is not None and service in KEY_HEADERS else {}
    url = f"{base_url}/{service}{path}"
    if service == "urlhaus":
        host = path.removeprefix("/host/") or IP
        url = url.removesuffix(path.removeprefix("/host/"))
        return http.post(url, data={"host": host}, headers=headers, timeout=5)
    return http.get(url, headers=headers, timeout=5)


@pytest.fixture(scope="module")
def other() -> Iterator[SimulatorProcess]:
    """Another process with the same world."""
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture
def ask(sim: Simulator, http: requests.Session) -> Ask:
    """Looks something up at a service, by default what it knows, with a key that it takes."""

    def look_up(service: str, path: str | None = None, key: str | None = "good") -> requests.Response:
        return ask_at(sim.base_url, http, service, PATHS[service] if path is None else path, key)

    return look_up


@pytest.mark.parametrize(
    ("service", "key", "status", "says"),
    [
        ("virustotal", None, 401, "AuthenticationRequiredError"),
        ("virustotal", REFUSED_KEY, 401, "WrongCredentialsError"),
        ("urlhaus", None, 401, "Unauthorized"),
        ("urlhaus", REFUSED_KEY, 403, "unknown_auth_key"),
        ("greynoise", REFUSED_KEY, 401, "unauthorized"),
        ("abuseipdb", None, 401, "either missing, incorrect, or revoked"),
        ("abuseipdb", REFUSED_KEY, 401, "either missing, incorrect, or revoked"),
        ("spur", None, 401, "unauthorized"),
        ("spur", REFUSED_KEY, 401, "unauthorized"),
    ],
)
def test_a_bad_key_gets_what_the_vendor_sends(
    ask: Ask, sim: Simulator, service: str, key: str | None, status: int, says: str
) -> None:
    """Its status and words; it uses up no limit."""
    sim.set_limit(service, Limit(rules=(FixedWindow(limit=1, seconds=60),)))
    answer = ask(service, key=key)
    assert answer.status_code == status
    assert says in answer.text
    assert ask(service).status_code == 200


@pytest.mark.parametrize("service", ["greynoise", "hibp"])
def test_some_need_no_key(ask: Ask, service: str) -> None:
    """GreyNoise serves callers without an account too; passwords are for all."""
    assert ask(service, key=None).status_code == 200


@pytest.mark.parametrize("service", PATHS)
def test_answers_depend_on_the_key_alone(
    ask: Ask, other: SimulatorProcess, http: requests.Session, service: str
) -> None:
    """The same bytes again, also from another process."""
    elsewhere = ask_at(other.base_url, http, service, PATHS[service], "good").content
    assert ask(service).content == ask(service).content == elsewhere


@pytest.mark.parametrize(
    ("service", "known"),
    [
        ("virustotal", lambda answer: answer.status_code == 200),
        ("urlhaus", lambda answer: answer.json()["query_status"] == "ok"),
        ("greynoise", lambda answer: answer.status_code == 200),
        ("abuseipdb", lambda answer: answer.json()["data"]["totalReports"] > 0),
        ("spur", lambda answer: len(answer.json()) > 1),
    ],
)
def test_some_keys_are_unknown(ask: Ask, service: str, known: Callable[[Any], bool]) -> None:
    """Of 100 keys some are known and some are not, at every vendor in its own way."""
    chance, prefix = Random(5), PATHS[service].rpartition("/")[0]
    counts: Counter[bool] = Counter()
    for _ in range(100):
        key = (
            f"{chance.randint(1, 9)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
        )
        if service == "virustotal":
            key = hashlib.sha256(key.encode()).hexdigest()
        path = f"/check?ipAddress={key}" if service == "abuseipdb" else f"{prefix}/{key}"
        answer = ask(service, path)
        counts[known(answer)] += 1
        assert key in answer.text or (service == "urlhaus" and not known(answer))
    assert counts[True] >= 10
    assert counts[False] >= 2


@pytest.mark.parametrize(
    ("service", "path", "status", "says"),
    [
        ("urlhaus", "/host/not-an-address", 200, "invalid_host"),
        ("greynoise", "/community/2001:470::1", 400, "routable IPv4"),
        ("abuseipdb", "/check?ipAddress=999.1.1.1", 422, "valid IPv4 or IPv6"),
        ("abuseipdb", "/check", 422, "valid IPv4 or IPv6"),
        ("spur", "/context/x", 400, "bad input"),
        ("hibp", "/range/21BD", 400, "prefix"),
        ("hibp", "/range/", 404, "404"),
        ("virustotal", "/files/x", 404, "NotFoundError"),
        ("virustotal", "/domains/x", 404, "NotFoundError"),
        ("dshield", "/sources/attacks/10/2025-13-01?json", 404, "404"),
        ("dshield", "/sources/attacks/10?json", 404, "404"),
        ("abuseipdb", "/nosuch", 404, "404"),
    ],
)
def test_what_is_no_key_is_refused(ask: Ask, service: str, path: str, status: int, says: str) -> None:
    """With the vendor's own status and words."""
    answer = ask(service, path)
    assert answer.status_code == status
    if status != 404 or service == "virustotal":
        assert says in answer.text


def test_urlhaus_wants_post(sim: Simulator, http: requests.Session) -> None:
    """GET gets status 200 and a word."""
    answer = http.get(f"{sim.url('urlhaus')}/host/", headers={"Auth-Key": "good"}, timeout=5)
    assert (answer.status_code, answer.json()) == (200, {"query_status": "http_post_expected"})


def test_spur_tells_its_balance(ask: Ask, sim: Simulator) -> None:
    """X-Balance-Remaining and nothing else, and the day its data is of."""
    sim.set_limit("spur", Limit(rules=(FixedWindow(limit=2, seconds=60),)))
    answers = [ask("spur") for _ in range(3)]
    assert [answer.headers["X-Balance-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["X-Result-Dt"] == "20251103"
    assert not [name for name in answers[0].headers if "ratelimit" in name.lower()]


def test_abuseipdb_tells_its_quota(ask: Ask, sim: Simulator) -> None:
    """X-RateLimit-*."""
    sim.set_limit("abuseipdb", Limit(rules=(FixedWindow(limit=1000, seconds=86_400),)))
    headers = ask("abuseipdb").headers
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1000", "999")


def test_padding_hides_the_length_of_a_range(sim: Simulator, http: requests.Session) -> None:
    """Real lengths differ; padded ones do not, and what is added counts 0."""
    url = sim.url("hibp")
    ranges = [f"{n:05X}" for n in range(8)]
    plain = [http.get(f"{url}/range/{r}", timeout=5).text.split("\r\n") for r in ranges]
    padded = [
        http.get(f"{url}/range/{r}", headers={"Add-Padding": "true"}, timeout=5).text.split("\r\n")
        for r in ranges
    ]
    assert len({len(lines) for lines in plain}) > 1
    assert {len(lines) for lines in padded} == {1000}
    for real, all_lines in zip(plain, padded, strict=True):
        assert {line for line in all_lines if not line.endswith(":0")} == set(real)


def test_passwords_that_bots_try_are_breached(sim: Simulator, http: requests.Session) -> None:
    """As they are in the world."""
    digest = hashlib.sha1(b"123456").hexdigest().upper()
    answer = http.get(f"{sim.url('hibp')}/range/{digest[:5]}", timeout=5)
    assert f"\n{digest[5:]}:" in f"\n{answer.text}"
    nameless = http.get(f"{sim.url('hibp')}/range/00000", headers={"User-Agent": ""}, timeout=5)
    assert nameless.status_code == 403


def test_feeds_are_as_long_as_asked(ask: Ask, sim: Simulator, http: requests.Session) -> None:
    """Ten attackers of one day, padded with zeros; ten of today with when the list was made."""
    sources = http.get(f"{sim.url('dshield')}/sources/attacks/10/2025-11-01?json", timeout=5).json()
    assert [len(entry["ip"]) for entry in sources] == [15] * 10
    assert [entry["attacks"] for entry in sources] == sorted((e["attacks"] for e in sources), reverse=True)
    blacklist = ask("abuseipdb", "/blacklist?limit=10")
    assert len(blacklist.json()["data"]) == 10
    assert blacklist.json()["meta"]["generatedAt"] == blacklist.headers["X-Generated-At"]


@pytest.mark.parametrize(
    "service", [name for name in pages.ALL if name != "lists"]
)  # it is asked about no key
def test_the_decoy_is_known(service: str) -> None:
    """The fault `wrong_key` needs an answer, and one that names the decoy where the vendor names keys."""
    page = pages.ALL[service]
    method = {"urlhaus": "POST", "cymru": "WHOIS"}.get(service, "GET")
    path, query = ("/check", "") if service == "abuseipdb" else ("/host/", "json")
    request = pages.Request(method, path, query, Message())
    reply = page.reply(request, (page.decoy,))
    assert reply.status == 200
    assert service == "hibp" or page.decoy.encode() in reply.body
