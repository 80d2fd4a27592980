"""Fuzzing of the parsers: the logs', each service's, and those of the headers that pace us.

Inputs are real ones, damaged at random by their structure; (seed, target, number) says which, as long as the
corpus stays as it is. An input that breaks an invariant is kept, made small, and told with how to replay it.

    python -m tests.fuzz [--inputs 1000000] [--seed N] [--target NAME] [--jobs 2] [--json]
    python -m tests.fuzz --target NAME --replay FILE
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import catalogue
from tests.fuzz.engine import Failure, Result, broken, run, shrunk
from tests.fuzz.target import Target

PROGRESS_EVERY_S = 5.0
_COLUMNS = ("lines in", "parsed", "quarantined")


def main() -> int:
    """Run what the arguments ask for; 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=list(catalogue.ALL), help="only this one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="print one JSON object, too")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check this one input of --target")
    arguments = parser.parse_args()
    targets = [catalogue.ALL[arguments.target]] if arguments.target else list(catalogue.ALL.values())
    if arguments.replay:
        if not arguments.target:
            parser.error("--replay needs --target")
        return _replay(targets[0], arguments.replay)
    started = time.monotonic()
    progress = _Progress()
    results = run(targets, arguments.inputs, arguments.seed, arguments.jobs, progress)
    elapsed = time.monotonic() - started
    _print_table(results, elapsed)
    failures = [failure for result in results for failure in result.failures]
    for failure in failures:
        _tell(failure)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(results, arguments.seed, elapsed)) + "\n")
    return 1 if failures else 0


class _Progress:
    """Says every few seconds how far the run is."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int, failures: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S:
            self._last = now
            rate = done / (now - self._started)
            _say(f"{done:,} of {total:,} inputs, {rate:,.0f}/s, {failures} failures")


def _replay(target: Target, path: Path) -> int:
    story = broken(target, path.read_bytes())
    _say(story or "holds")
    return 1 if story else 0


def _tell(failure: Failure) -> None:
    target = catalogue.ALL[failure.target]
    folder = Path(tempfile.gettempdir()) / "cowrie-enrich-fuzz"
    folder.mkdir(exist_ok=True)
    path = folder / f"{failure.target}-{hashlib.sha256(failure.data).hexdigest()[:12]}"
    path.write_bytes(shrunk(target, failure.data))
    _say(f"\nFAILED: {failure.target}, seed {failure.seed}, number {failure.number}")
    _say(failure.story)
    _say(f"python -m tests.fuzz --target {failure.target} --replay {path}")


def _print_table(results: Sequence[Result], elapsed: float) -> None:
    names = ("target", "inputs", "files", "inputs/s", *_COLUMNS, "failures")
    _say(_row(names) + "  seen")
    for result in results:
        rate = round(result.parts / (result.seconds or 1))
        lines = (result.seen[name] or "" for name in _COLUMNS)
        figures = (result.target, result.parts, result.files, rate, *lines, len(result.failures))
        seen = ", ".join(f"{name} {n}" for name, n in sorted(result.seen.items()) if name not in _COLUMNS)
        _say(f"{_row(figures)}  {seen}")
    inputs, files = sum(result.parts for result in results), sum(result.files for result in results)
    _say(f"{_row(('all', inputs, files))} in {elapsed:.1f} s; inputs/s are per processor")


def _row(cells: Sequence[object]) -> str:
    return f"{cells[0]!s:<20}" + "".join(f"{cell!s:>12}" for cell in cells[1:])


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _as_json(results: Sequence[Result], seed: int, elapsed: float) -> dict[str, object]:
    return {
        "seed": seed,
        "elapsed_s": round(elapsed, 1),
        "inputs": sum(result.parts for result in results),
        "failures": sum(len(result.failures) for result in results),
        "targets": {
            result.target: {
                "inputs": result.parts,
                "files": result.files,
                "cpu_s": round(result.seconds, 1),
                "failures": len(result.failures),
                "seen": dict(result.seen),
            }
            for result in results
        },
    }


if __name__ == "__main__":
    sys.exit(main())
