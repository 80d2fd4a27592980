"""What attackers wrote is text wherever a report shows it: nothing runs, loads or turns."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from cowrie_enrich_dagster.cli import cards as on_terminal
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report import plots
from cowrie_enrich_dagster.report.cards import address_card, session_cards
from cowrie_enrich_dagster.report.figures import Figures, figures_of
from cowrie_enrich_dagster.report.page import render_page
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.terminal import visible
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.report.conftest import settings_of

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script src=//x.example></script>",
    "</title></head><img src=x onerror=alert(1)>",
    "]]><svg onload=alert(1)>",
    "--><!--",
    "$x^2$ and $",
    "\\frac{1}{0} $\\alpha",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;&#x3c;",
    "\u202egnp.exe\u2066",
    "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "[bold]no markup[/bold] [link=http://x]",
    "' onmouseover='alert(1)' \" style=\"x",
    "javascript:alert(1) http://203.0.113.9/a",
]
IP = "11.0.0.1"


@pytest.fixture
def pipeline(database: Database, database_url: str, tmp_path: Path) -> Iterator[Enricher]:
    """One session for each hostile text, which stands wherever an attacker or a service can write."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with (logs / "cowrie.json").open("w") as log:
        for number, hostile in enumerate(HOSTILE):
            common = {"session": f"{number:012x}", "src_ip": IP, "sensor": f"pot {hostile}"}
            events = [
                {"eventid": "cowrie.session.connect", "protocol": "ssh"},
                {"eventid": "cowrie.client.version", "version": hostile},
                {"eventid": "cowrie.login.success", "username": hostile, "password": hostile},
                {"eventid": "cowrie.command.input", "input": hostile},
                {
                    "eventid": "cowrie.session.file_upload",
                    "shasum": f"{number:064x}",
                    "filename": hostile,
                    "url": f"http://203.0.113.9/{hostile}",
                },
                {"eventid": "cowrie.direct-tcpip.request", "dst_ip": hostile, "dst_port": 25},
                {"eventid": "cowrie.session.closed"},
            ]
            for step, event in enumerate(events):
                stamp = f"2025-11-01T00:{number:02d}:{step:02d}.000000Z"
                log.write(json.dumps({**common, **event, "timestamp": stamp}) + "\n")
    settings = load_settings(settings_of(tmp_path, database_url, logs), cwd=tmp_path)
    with Enricher(settings) as enricher:
        enricher.ingest(Days.parse("2025-11-01"))
        enricher.summarise_addresses(Days.parse("2025-11-01"))
        enricher.enrich(Days.parse("2025-11-01"))
        with enricher.database.write() as connection:
            for number, hostile in enumerate(HOSTILE):
                connection.execute(
                    text(
                        "UPDATE enriched_sessions SET source_as_number = :number, file_label = :text, "
                        "source_as_organization_name = :text, source_classification = :text "
                        "WHERE session_id = :id"
                    ),
                    {"number": 64500 + number, "text": hostile, "id": f"{number:012x}"},
                )
        yield enricher


@pytest.fixture
def figures(pipeline: Enricher) -> Figures:
    """The figures of that day."""
    return figures_of(pipeline, Days.parse("2025-11-01"))


class _Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def obeyed(shown: str) -> list[str]:
    """The characters that a terminal or a browser would obey."""
    return [char for char in shown if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"]


def test_the_page_runs_and_loads_nothing(figures: Figures) -> None:
    """No script, no handler, no address that is not a place in the page itself; a policy that says so too."""
    source = render_page(figures)
    page = _Page(source)
    assert not {"script", "img", "iframe", "object", "embed", "link", "form", "base"} & set(page.elements)
    assert page.elements.count("style") == page.elements.count("title") == page.elements.count("body") == 1
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href", "action", "data", "srcset"):
            assert value.startswith("#")
    policies = [value for name, value in page.attributes if name == "content" and "src" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert "url(" not in source.replace("url(#", "")
    assert "@import" not in source


def test_the_page_shows_it_as_text(figures: Figures) -> None:
    """As it was typed, save what would turn or hide text: that is written out."""
    source = render_page(figures)
    assert obeyed(source) == []
    shown = _Page(source).text
    for hostile in HOSTILE:
        assert shown.count(visible(hostile)[:40]) >= 3, hostile


def test_a_plot_shows_it_as_text(figures: Figures) -> None:
    """Labels are no formulas and no elements; those of the image neither."""
    plot = plots.origins(figures.networks.shown, "network")
    shown = _Page(plot.inline())
    assert "script" not in shown.elements
    assert "$x^2$ and $" in shown.text
    assert obeyed(plot.inline()) == []
    image = base64.b64decode(plot.data_uri().partition(",")[2]).decode()
    assert "$x^2$ and $" in _Page(image).text
    assert "var(--" not in image


def test_a_card_shows_it_as_text(pipeline: Enricher) -> None:
    """On a terminal of any width; markup is none, and nothing moves the cursor."""
    card = address_card(pipeline.database, IP)
    assert card is not None
    shown = []
    for width in (60, 80, 200):
        console = Console(width=width, record=True, force_terminal=False)
        console.print(on_terminal.address(card))
        for number in range(len(HOSTILE)):
            (one,) = session_cards(pipeline.database, f"{number:012x}")
            console.print(on_terminal.session(one))
        shown.append(console.export_text())
        assert obeyed(shown[-1]) == []
    for hostile in HOSTILE:
        assert visible(hostile) in shown[-1], hostile


def test_json_has_it_as_it_was(pipeline: Enricher, figures: Figures) -> None:
    """What goes into files and programs is what was logged."""
    told = json.loads(json.dumps(figures.as_dict()))
    assert {name["text"] for name in told["usernames"]["shown"]} <= set(HOSTILE)
    card = address_card(pipeline.database, IP)
    assert card is not None
    assert {login["username"] for login in card.as_dict()["logins"]} == set(HOSTILE)
