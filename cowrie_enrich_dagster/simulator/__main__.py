"""`python -m cowrie_enrich_dagster.simulator`: see `simulate`."""

from __future__ import annotations

import typer

from cowrie_enrich_dagster.simulator.serve import simulate

if __name__ == "__main__":
    typer.run(simulate)
