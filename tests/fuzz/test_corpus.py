"""The corpus holds, a short fuzzing finds nothing, and what is broken would be found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cowrie_enrich_dagster.cowrie.reader import RecordReader
from cowrie_enrich_dagster.pacing import quota_headers
from cowrie_enrich_dagster.services import ALL, Facts
from cowrie_enrich_dagster.services import _reading as read
from cowrie_enrich_dagster.vocabulary import Subject
from tests.fuzz import catalogue, engine
from tests.fuzz.service_targets import OVER_HTTP
from tests.fuzz.target import CORPUS, Target

INPUTS = 250
PACKED_INPUTS = 75  # each a file of its own, of many lines
FILES = [(target, path) for target in catalogue.ALL.values() for path in target.corpus_files()]


def chunk(target: Target, inputs: int = INPUTS) -> engine.Result:
    """The first so many inputs of one seed."""
    return engine.run_chunk(target, 1, range(-(-inputs // target.parts)))


@pytest.mark.parametrize(
    ("target", "path"),
    [pytest.param(target, path, id=f"{target.name}: {path.name}") for target, path in FILES],
)
def test_every_file_of_the_corpus_holds(target: Target, path: Path) -> None:
    """Real inputs, hostile ones, and those that once broke something."""
    assert engine.broken(target, path.read_bytes()) == ""


@pytest.mark.parametrize("target", catalogue.ALL.values(), ids=catalogue.ALL)
def test_a_short_fuzzing_finds_nothing(target: Target) -> None:
    """The same few inputs every time; `python -m tests.fuzz` has more."""
    inputs = PACKED_INPUTS if target.corpus == "log" and target.parts == 1 else INPUTS
    result = chunk(target, inputs)
    assert [failure.story for failure in result.failures] == []
    assert result.parts >= inputs
    assert result.seen


def test_a_seed_and_a_number_are_always_the_same_input() -> None:
    """So that what failed elsewhere fails here; another number is another input."""
    for target in catalogue.ALL.values():
        seeds = target.seeds()
        assert target.input(7, 1, seeds) == target.input(7, 1, seeds)
        assert len({target.input(7, number, seeds) for number in range(20)}) > 10


def test_the_corpus_is_small() -> None:
    """It is read whole by every process, and kept in the repository."""
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert len(sizes) < 300
    assert sum(sizes) < 300_000


def test_a_lost_line_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that passes over every line with `root` in it, counting it as read."""
    whole = RecordReader._read

    def lossy(reader: RecordReader, lines: list[bytes], cut_off: str = "") -> None:
        whole(reader, [b"" if b"root" in line else line for line in lines], cut_off)

    monkeypatch.setattr(RecordReader, "_read", lossy)
    failure = chunk(catalogue.ALL["log_lines"]).failures[0]
    small = engine.shrunk(catalogue.ALL["log_lines"], failure.data)
    assert "AssertionError" in failure.story
    assert b"root" in small
    assert len(small) < 200


def test_an_event_hidden_by_its_neighbour_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes a whole record on the next line for the rest of a broken one."""
    whole = RecordReader._read_hard

    def blind(reader: RecordReader, line: Any, cut_off: str) -> None:
        whole(reader, line._replace(raw=b" " + line.raw) if reader._record else line, cut_off)

    monkeypatch.setattr(RecordReader, "_read_hard", blind)
    assert chunk(catalogue.ALL["log_lines"], 4000).failures


def test_text_that_no_database_takes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions and facts with NULs left in them."""
    monkeypatch.setattr(
        "cowrie_enrich_dagster.cowrie.kinds.text_field", lambda fields, name, *_: fields.get(name)
    )
    line = b'{"eventid":"cowrie.login.failed","session":"a","timestamp":"2025-11-02T10:00:00Z"'
    line += b',"username":"\\u0000"}'
    story = engine.broken(catalogue.ALL["log_lines"], line)
    assert "AssertionError: username" in story
    monkeypatch.setattr(read, "text", lambda value: value if isinstance(value, str) else None)
    story = engine.broken(catalogue.ALL["facts"], b'{"classification": "a\\u0000b"}')
    assert "AssertionError: classification" in story


def test_facts_that_raise_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that trusts its own field to be there."""

    def trusting(payload: Mapping[str, Any]) -> Facts:
        return Facts(abuse_score=len(payload["classification"]))

    monkeypatch.setattr(ALL["greynoise"], "facts", trusting)
    stories = [failure.story for failure in chunk(catalogue.ALL["greynoise"], 1000).failures]
    assert any("KeyError" in story or "TypeError" in story for story in stories)


def test_an_answer_about_somebody_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that does not look at which address the answer is about."""

    class Anybody:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    monkeypatch.setattr(read, "address", lambda value: Anybody())
    for name in (name for name in OVER_HTTP if ALL[name].subject is Subject.IP):
        assert chunk(catalogue.ALL[name]).failures, name


def test_a_wait_below_zero_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of quota headers that takes a minus sign."""
    monkeypatch.setattr(quota_headers, "_number", lambda text: -1.0)
    assert chunk(catalogue.ALL["headers"]).failures


def test_an_input_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is a promise, too."""
    monkeypatch.setattr(engine, "MAX_CPU_S", 0.0)
    assert "processor time" in engine.broken(catalogue.ALL["facts"], b"{}")


def test_results_of_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over two processes checks what it was asked for, all of it told by target."""
    targets = [catalogue.ALL["cymru"], catalogue.ALL["facts"]]
    told: list[tuple[int, int, int]] = []
    results = engine.run(targets, 300, 5, 2, lambda *numbers: told.append(numbers))
    assert [result.target for result in results] == ["cymru", "facts"]
    assert sum(result.parts for result in results) == told[-1][0] == told[-1][1] >= 300
