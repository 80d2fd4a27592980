"""What a target of the fuzzing is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Where files that are parsed once live: in memory, where there is such a folder."""

Seeds = Sequence[bytes]


@dataclass(frozen=True)
class Target:
    """A parser and what must hold whatever it is given.

    `check` parses one input and returns what it saw, counted; it raises for an invariant that is broken.
    `generate` makes one from the seeds in `corpus`, a folder that several targets may share; where there is
    no such folder, from what `recorded` gives. An input may be of several `parts` (the lines of a log), each
    of them mutated and an input of its own to the parser; `share` is the weight of this target, counted in
    parts.
    """

    name: str
    corpus: str
    share: int
    check: Callable[[bytes], Counter[str]]
    generate: Callable[[Random, Seeds], bytes]
    parts: int = 1
    recorded: Callable[[], list[bytes]] = list

    def seeds(self) -> list[bytes]:
        """The files of its corpus, by name, or else what is recorded."""
        return [path.read_bytes() for path in self.corpus_files()] or self.recorded()

    def corpus_files(self) -> list[Path]:
        """The corpus by name: what `generate` makes of a seeded `Random` depends on it."""
        folder = CORPUS / self.corpus
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def input(self, seed: int, number: int, seeds: Seeds) -> bytes:
        """The input that this seed and number stand for, as long as the corpus stays as it is."""
        return self.generate(Random(f"{seed}/{self.name}/{number}"), seeds)
