"""Running targets over many inputs, on several processes, and making what fails small."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.fuzz import catalogue
from tests.fuzz.target import Target

MAX_CPU_S = 5.0
"""An input that takes longer is a failure: whoever wrote it could stop us with a few more."""
CHUNK_PARTS = 4000
SHRINKING_S = 20.0
_FAILURES_OF_A_CHUNK = 3


@dataclass(frozen=True)
class Failure:
    """An input that breaks an invariant, where it came from, and how it ended."""

    target: str
    seed: int
    number: int
    data: bytes
    story: str

    @property
    def kind(self) -> str:
        """The same for two failures of one cause, as far as that can be told."""
        return "\n".join(self.story.splitlines()[-5:])


@dataclass
class Result:
    """What a target came to; `parts` are the inputs, several to a file for logs."""

    target: str
    files: int = 0
    parts: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Result) -> None:
        """Take in what another chunk of the same target came to."""
        self.files += other.files
        self.parts += other.parts
        self.seconds += other.seconds
        self.seen.update(other.seen)
        known = {failure.kind for failure in self.failures}
        self.failures += [failure for failure in other.failures if failure.kind not in known]


def run_chunk(target: Target, seed: int, numbers: Sequence[int]) -> Result:
    """Generate and check the inputs of these numbers; ends early after a few failures."""
    result = Result(target.name)
    seeds = target.seeds()
    started = time.process_time()
    for number in numbers:
        data = target.input(seed, number, seeds)
        story = broken(target, data, result.seen)
        result.files += 1
        result.parts += target.parts
        if story:
            result.failures.append(Failure(target.name, seed, number, data, story))
            if len(result.failures) == _FAILURES_OF_A_CHUNK:
                break
    result.seconds = time.process_time() - started
    return result


def broken(target: Target, data: bytes, seen: Counter[str] | None = None) -> str:
    """How the target fails on `data`, "" if it does not; what it saw is added to `seen`."""
    started = time.process_time()
    try:
        found = target.check(data)
    except Exception:  # noqa: BLE001 (that nothing at all is raised is what is tested)
        return traceback.format_exc()
    took = time.process_time() - started
    if took > MAX_CPU_S:
        return f"took {took:.1f} s of processor time"
    if seen is not None:
        seen.update(found)
    return ""


def run(
    targets: Sequence[Target],
    inputs: int,
    seed: int,
    jobs: int,
    progress: Callable[[int, int, int], None],
) -> list[Result]:
    """Check `inputs` inputs, shared out over the targets; `progress` is told inputs done, all, failures.

    Raises `BrokenProcessPool` when an input ends a whole process.
    """
    weight = sum(target.share for target in targets)
    plan: list[tuple[Target, range]] = []
    for target in targets:
        files = math.ceil(inputs * target.share / weight / target.parts)
        step = max(1, CHUNK_PARTS // target.parts)
        plan += [(target, range(start, min(start + step, files))) for start in range(0, files, step)]
    total = sum(target.parts * len(numbers) for target, numbers in plan)
    results = {target.name: Result(target.name) for target in targets}
    with ProcessPoolExecutor(jobs) as pool:
        chunks = [pool.submit(_run_named, target.name, seed, numbers) for target, numbers in plan]
        for chunk in as_completed(chunks):
            result = chunk.result()
            results[result.target].add(result)
            done = sum(result.parts for result in results.values())
            progress(done, total, sum(len(result.failures) for result in results.values()))
    return list(results.values())


def shrunk(target: Target, data: bytes) -> bytes:
    """As little of `data` as still fails in the same way: first by lines, then by bytes."""
    data = _without_pieces(target, data.splitlines(keepends=True))
    return _without_pieces(target, [data[at : at + 1] for at in range(len(data))])


def _without_pieces(target: Target, pieces: list[bytes]) -> bytes:
    """Without all that is not needed for the failure, or as much of it as can be taken out in good time."""
    kind = _ending(broken(target, b"".join(pieces)))
    deadline = time.monotonic() + SHRINKING_S
    step = len(pieces) // 2
    while step:
        start = 0
        while start < len(pieces) and time.monotonic() < deadline:
            fewer = pieces[:start] + pieces[start + step :]
            if _ending(broken(target, b"".join(fewer))) == kind:
                pieces = fewer
            else:
                start += step
        step //= 2
    return b"".join(pieces)


# Targets hold functions that cannot be sent to another process; their names can.
def _run_named(name: str, seed: int, numbers: Sequence[int]) -> Result:
    return run_chunk(catalogue.ALL[name], seed, numbers)


def _ending(story: str) -> str:
    return "\n".join(story.splitlines()[-3:])
