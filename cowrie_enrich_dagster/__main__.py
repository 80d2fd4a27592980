"""`python -m cowrie_enrich_dagster` is `cowrie-enrich`."""

from cowrie_enrich_dagster.cli import app

app()
