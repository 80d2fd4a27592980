"""What pruning many old runs takes, and that no status changes: JSON on stdout.

`python -m benchmarks.prune_history [runs]` makes that many runs (default 500) of two small assets with
checks, by turns of four partitions, every tenth of them failing, in a Dagster home of its own with its SQLite
storage; then it deletes all that no status rests on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def main(number: int, home: Path) -> dict[str, Any]:
    """Measure; the figures by name."""
    from dagster import DagsterInstance

    from cowrie_enrich_dagster.defs.prune import prune_runs
    from tests.dagster.test_prune import execute, told

    with DagsterInstance.get() as instance:
        execute(instance, "watching")
        execute(instance, "wholes")
        for turn in range(number - 2):
            broken = "asset" if turn % 10 == 9 else ""
            execute(instance, "letters", "abcd"[turn % 4], broken) if turn % 5 else execute(
                instance, "wholes"
            )
        before, size_before = told(instance, afresh=True), _mib(home)
        began, used = time.monotonic(), time.process_time()
        pruned = prune_runs(instance, datetime.now(timezone.utc) + timedelta(days=1))
        elapsed, processor = time.monotonic() - began, time.process_time() - used
        return {
            "runs": number,
            "deleted": pruned.deleted,
            "kept": dict(pruned.kept),
            "same_status": told(instance, afresh=True) == before,
            "elapsed_s": round(elapsed, 1),
            "processor_s": round(processor, 1),
            "mib_before": size_before,
            "mib_after": _mib(home),
        }


def _mib(home: Path) -> float:
    return round(sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 2**20, 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(REPOSITORY / "dagster.yaml", folder)
        os.environ["DAGSTER_HOME"] = folder
        print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, Path(folder)), indent=1))
