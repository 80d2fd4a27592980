"""Have I Been Pwned: what leaves is five digits, what comes back is never mistaken for less."""

from __future__ import annotations

import hashlib

import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services.hibp import MIN_LINES
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import config_for

HIBP = services.ALL["hibp"]
LINE = "0018A45C4D1DEF81644B54AB7F969B88D65:1\r\n"


def sha1(password: str) -> str:
    """The hash that the service speaks of, as it spells it."""
    return hashlib.sha1(password.encode()).hexdigest().upper()


@pytest.mark.parametrize(("password", "breached"), [("123456", True), ("Q7#vv-not-in-any-list", False)])
def test_a_password_is_told_breached_or_novel(
    password: str, breached: bool, sim: Simulator, http: requests.Session
) -> None:
    """By the rest of its hash in the answer for its range; nothing but the range has left."""
    digest = sha1(password)
    key, rest = digest[:5], digest[5:]
    payload = HIBP.fetch([key], http, config_for("hibp", sim))[key].payload
    assert payload is not None
    assert (rest in payload["suffixes"]) == breached
    log = str(sim.requests())
    assert key in log
    assert password not in log
    assert digest[:6] not in log.upper()


def test_padding_is_asked_for_and_dropped(sim: Simulator, http: requests.Session) -> None:
    """The body has lines with the count 0; what is kept has none."""
    config = config_for("hibp", sim)
    sent = requests.get(f"{config.api_url}/range/21BD1", headers={"Add-Padding": "true"}, timeout=5).text
    payload = HIBP.fetch(["21BD1"], http, config)["21BD1"].payload
    assert payload is not None
    assert payload["prefix"] == "21BD1"
    kept = {suffix for suffix, times in (line.split(":") for line in sent.split()) if times != "0"}
    assert payload["suffixes"].keys() == kept
    assert MIN_LINES <= len(kept) < len(sent.split()) == 1000


@pytest.mark.parametrize(
    "key", ["21bd1", "21BD", "21BD10", sha1("123456"), sha1("123456")[:5] + "/..", "21BD1\n", "٢1BD1"]
)
def test_only_a_prefix_ever_leaves(key: str, sim: Simulator, http: requests.Session) -> None:
    """ValueError for anything else, and its message does not repeat what may be a password."""
    with pytest.raises(ValueError, match="5 hexadecimal digits") as caught:
        HIBP.fetch([key], http, config_for("hibp", sim))
    assert key not in str(caught.value)
    assert sim.requests() == []


@pytest.mark.parametrize(
    ("about", "body"),
    [
        ("whole hashes", f"21BD1{LINE}" * MIN_LINES),
        ("lines without counts", f"{LINE[:35]}\r\n" * MIN_LINES),
        ("a negative count", LINE.replace(":1", ":-1") * MIN_LINES),
        ("digits of another script", LINE.replace(":1", ":\u0661") * MIN_LINES),
        ("one bad line among good ones", LINE * MIN_LINES + "0018A4:1"),
        ("one line too few", LINE * (MIN_LINES - 1)),
        ("a web page", "<p>Checking your browser</p>\n" * MIN_LINES),
    ],
)
def test_other_text_is_no_range(about: str, body: str, sim: Simulator, http: requests.Session) -> None:
    """Not even the part of it that could be read."""
    sim.set_fault("hibp", Fault(kind="reply", status=200, body=body))
    answer = HIBP.fetch(["21BD1"], http, config_for("hibp", sim))["21BD1"]
    assert answer.status is LookupStatus.INVALID_RESPONSE, about
    assert answer.payload is None


def test_the_smallest_whole_range_is_read(sim: Simulator, http: requests.Session) -> None:
    """As many lines as padding promises, with LF alone and no line end at the end."""
    body = "\n".join(f"{n:035X}:{n % 2}" for n in range(MIN_LINES))
    sim.set_fault("hibp", Fault(kind="reply", status=200, body=body))
    payload = HIBP.fetch(["21BD1"], http, config_for("hibp", sim))["21BD1"].payload
    assert payload is not None
    assert payload["suffixes"] == {f"{n:035X}": 1 for n in range(1, MIN_LINES, 2)}
