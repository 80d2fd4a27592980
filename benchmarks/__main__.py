"""`make bench`: every benchmark, or those that are named, one after the other, each in its own process.

    python -m benchmarks [--json FILE] [NAME ...]

Each table goes to stderr as soon as it is there; all JSON objects, by name, go to FILE, else to stdout at the
end. The exit code is 1 when a figure misses what it is to reach, or a benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ALL = (
    "cache",
    "enrichment",
    "queue",
    "campaigns",
    "pipeline",
    "reading",
    "growing",
    "dagster_overhead",
    "history",
    "services",
    "pacing",
    "redis_pays",
    "week",
    "attack_report",
    "lists",
    "lists_as_of",
    "spending",
)


def main() -> int:
    """Run the chosen benchmarks; one that fails does not keep the others from being run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes instead of stdout")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ALL)} (default: all)")
    arguments = parser.parse_args()
    if strangers := set(arguments.names) - set(ALL):
        parser.error(f"no benchmark is called {', '.join(sorted(strangers))}")
    results: dict[str, Any] = {}
    is_good = True
    for name in arguments.names or ALL:
        print(f"== {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        is_good = is_good and done.returncode == 0
        results[name] = json.loads(done.stdout or "null")
    text = json.dumps(results, indent=2) + "\n"
    if arguments.json:
        arguments.json.write_text(text)
    else:
        sys.stdout.write(text)
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
