"""What is VirusTotal's own: its quota statuses, its two kinds of 404."""

from __future__ import annotations

import hashlib

import pytest
import requests

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import Window
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus, Subject
from tests.integration.services.conftest import config_for

VIRUSTOTAL = services.ALL["virustotal"]
HASHES = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(60)]


def test_its_terms() -> None:
    """Files, four a minute and 500 a day, 30 days for what is known and 12 hours for what is not."""
    assert VIRUSTOTAL.subject is Subject.FILE_SHA256
    assert VIRUSTOTAL.limits.windows == (Window("minute", 4), Window("day", 500))
    assert VIRUSTOTAL.limits.rate * 60 == pytest.approx(4)
    assert (VIRUSTOTAL.ttl.days, VIRUSTOTAL.not_found_ttl.total_seconds()) == (30, 12 * 3600)


@pytest.mark.parametrize("status", [204, 429])
def test_a_used_up_quota_is_a_limit(status: int, sim: Simulator, http: requests.Session) -> None:
    """Also 204, which is no error to HTTP: raised with its response, never an empty answer."""
    sim.set_fault("virustotal", Fault(kind="reply", status=status, body=""))
    with pytest.raises(requests.HTTPError) as caught:
        VIRUSTOTAL.fetch([HASHES[0]], http, config_for("virustotal", sim))
    assert caught.value.response.status_code in VIRUSTOTAL.limit_statuses


def test_what_a_file_is_agrees_with_the_answer(sim: Simulator, http: requests.Session) -> None:
    """For 60 simulated files: found ones have their verdict in the columns, the others are not_found."""
    statuses = []
    for sha256 in HASHES:
        answer = VIRUSTOTAL.fetch([sha256], http, config_for("virustotal", sim))[sha256]
        statuses.append(answer.status)
        if answer.payload is None:
            continue
        attributes, facts = answer.payload["data"]["attributes"], VIRUSTOTAL.facts(answer.payload)
        assert facts.malicious == attributes["last_analysis_stats"]["malicious"]
        assert (facts.file_label is None) == (facts.malicious == 0)
        assert facts.first_seen is not None
        assert facts.last_seen is not None
        assert facts.first_seen <= facts.last_seen
    assert set(statuses) == {LookupStatus.FOUND, LookupStatus.NOT_FOUND}
    assert 25 <= statuses.count(LookupStatus.FOUND) <= 55


def test_a_web_page_with_404_is_not_an_unknown_file(sim: Simulator, http: requests.Session) -> None:
    """A wrong URL must not turn every file into `not_found`."""
    page = Fault(kind="reply", status=404, body="<html>", headers={"Content-Type": "text/html"})
    sim.set_fault("virustotal", page)
    answer = VIRUSTOTAL.fetch([HASHES[0]], http, config_for("virustotal", sim))[HASHES[0]]
    assert answer.status is LookupStatus.INVALID_RESPONSE


@pytest.mark.parametrize("key", [HASHES[0].upper(), HASHES[0][:-1], f"{HASHES[0]}/behaviours", "a" * 32])
def test_only_sha256_hashes_are_sent(key: str, sim: Simulator, http: requests.Session) -> None:
    """Other lengths, spellings and paths never leave."""
    with pytest.raises(ValueError, match="SHA-256"):
        VIRUSTOTAL.fetch([key], http, config_for("virustotal", sim))
    assert sim.requests() == []
