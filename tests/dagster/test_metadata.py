"""What attackers wrote is text in the UI, and nothing else."""

from __future__ import annotations

import html
import re
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowrie_enrich_dagster.defs.metadata import bars, escape, table

HOSTILE = [
    "a|b",
    "</td></tr></table><script>alert(1)</script>",
    "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "http://evil.example/",
    "www.evil.example",
    "mail@evil.example",
    "`code` *bold* _italic_ ~~gone~~",
    "# heading",
    "line\nbreak\r\n| new | row |",
    "&lt;b&gt; &#124;",
    "\\| \\",
    "a\x00b\x1b[31m",
    "\u202egnp.exe",
    "| --- |",
]


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_an_escaped_text_is_inert(value: str) -> None:
    """One line of at most 80 characters, none of which means anything to Markdown or HTML."""
    cell = escape(value)
    assert not re.search(r"[\r\n|<>\[\]()!`*_~#\\&]", re.sub(r"&#\d+;", "", cell))
    shown = html.unescape(cell).replace("\N{WORD JOINER}", "")
    assert len(shown) <= 80
    assert all(char.isprintable() for char in shown)


@pytest.mark.parametrize("value", ["Telekom AG, Bonn", "AS-CHOOPA_1 (v2) [x]", "Ünïcödé | 日本"])
def test_people_read_what_was_written(value: str) -> None:
    """Escaping changes the source, not what is seen."""
    assert html.unescape(escape(value)) == value


@pytest.mark.parametrize("value", ["HTTP://evil.example/", "Www.evil.example", "mail@evil.example"])
def test_an_address_does_not_become_a_link(value: str) -> None:
    """Renderers turn bare addresses into links, after decoding; these are no addresses any more."""
    shown = html.unescape(escape(value))
    assert not re.search(r"https?://[-.\w]|www\.|[-.\w+]@[-\w]", shown, re.IGNORECASE)
    assert shown.replace("\N{WORD JOINER}", "") == value


@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.integers(), st.sampled_from(HOSTILE)))))
def test_a_table_keeps_its_shape(rows: list[tuple[object, ...]]) -> None:
    """A line per row and as many cells as columns, whatever is in them."""
    lines = table(["user", "number"], rows).value.split("\n")
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == 3 for line in lines)


def test_a_moment_takes_little_room() -> None:
    """To the second; tables that are too wide are cut off on the right."""
    moment = datetime(2025, 11, 1, 10, 0, 5, 123456, tzinfo=timezone.utc)
    assert html.unescape(escape(moment)) == "2025-11-01 10:00:05"


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    """No division by zero, no broken image."""
    assert bars({"redis": 0}).value.startswith("![chart](data:image/")
