"""What commands print: complaints of one form, tables to be read."""

from __future__ import annotations

import logging

import pytest

from cowrie_enrich_dagster.cli import output


def test_what_is_logged_is_a_warning_without_clock_and_line_of_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every line is marked, and nothing in it moves the cursor."""
    logger = logging.Logger("some.part")
    logger.addHandler(output.Complaints())
    logger.warning("no log has %s", "2025-11-05")
    logger.error("two lines:\n\tof \x1b[31mothers")
    shown = "warning: no log has 2025-11-05\nerror: two lines:\nerror: of \\x1b[31mothers\n"
    assert capsys.readouterr().err == shown


def test_a_terminal_breaks_complaints_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not a terminal gets a line a complaint, however long."""
    words = "accepted: a comma list of dshield, greynoise, virustotal"
    output.complain("error", words)
    assert capsys.readouterr().err == f"error: {words}\n"
    monkeypatch.setattr(output.err, "_force_terminal", True)
    monkeypatch.setattr(output.err, "_width", 40)
    monkeypatch.setattr(output.err, "_color_system", None)
    output.complain("error", words)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert " ".join(" ".join(shown).split()) == f"error: {words}"


def test_tables_have_numbers_to_the_right_and_words_for_what_is_no_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With thousands apart; a truth is a word, nothing a dash, markup text."""
    output.print_table("A title", ["name", "keys", "on"], [("[b]", 1400, True), ("b", None, False)])
    _, title, head, _, first, second = capsys.readouterr().out.splitlines()
    assert title.strip() == "A title"
    assert head.split() == ["name", "keys", "on"]
    assert first.split() == ["[b]", "1,400", "yes"]
    assert second.split() == ["b", "–", "no"]
    assert first.index("1,400") + 5 == second.index("–") + 1 == head.index("keys") + 4
