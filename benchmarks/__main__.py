"""`make bench`: every benchmark, one after the other; each prints its own table and JSON."""

from __future__ import annotations

import subprocess
import sys

ALL = ["benchmarks.cache", "benchmarks.pipeline", "benchmarks.pacing"]

if __name__ == "__main__":
    for module in ALL:
        print(f"== {module}", flush=True)
        subprocess.run([sys.executable, "-m", module], check=True)
