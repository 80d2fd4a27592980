"""What attackers wrote does nothing to a terminal, and stays what it is everywhere else."""

from __future__ import annotations

import io

import pytest

from cowrie_enrich_dagster.terminal import VisibleStream, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("root", "root"),
        ("Zürich 東京 😀", "Zürich 東京 😀"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),  # CSI as one character
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\u2066x\u2069\u200f\ufeff", "\\u2066x\\u2069\\u200f\\ufeff"),
        ("a\r\nb\tc\x7f\0", "a\\r\\nb\\tc\\x7f\\x00"),
        ("a\u2028b\ud800", "a\\u2028b\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    """Control sequences, direction marks, separators, half characters; letters of any script stay."""
    assert visible(text) == shown


def test_a_stream_to_a_terminal_shows_lines() -> None:
    """Characters that a write cuts in two are whole again; the last line needs no end; the terminal stays."""
    terminal = io.BytesIO()
    with VisibleStream(terminal) as stream:
        for byte in "é\x1b[1m\n\u202e,x\r\nlast\x9b".encode():
            stream.write(bytes([byte]))
    assert terminal.getvalue().decode() == "é\\x1b[1m\n\\u202e,x\r\nlast\\x9b"
