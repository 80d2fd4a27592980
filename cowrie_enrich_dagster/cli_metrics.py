"""`metrics --listen`: what `cowrie-enrich metrics` does while it serves. Used by `cli`, which see."""

from __future__ import annotations

import re
import threading
from contextlib import suppress

from cowrie_enrich_dagster.cli import _fail, err, escape
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.metrics_server import serve

LOCALHOST = "127.0.0.1"


def serve_until_stopped(enricher: Enricher, listen: str) -> None:
    """Serve at `[ADDRESS:]PORT`, said on stderr; Ctrl-C or SIGTERM ends it, and that is no failure."""
    match = re.fullmatch(r"(?:\[?([0-9A-Za-z.:-]+?)\]?:)?([0-9]{1,5})", listen)
    if match is None or int(match[2]) > 65535:
        _fail(2, f"--listen: {listen!r} is not [ADDRESS:]PORT")
    host = match[1] or LOCALHOST
    try:
        port = serve(enricher, host, int(match[2]))
    except OSError as problem:
        _fail(2, f"--listen: {listen}: {problem.strerror or problem}")
    err.print(escape(f"metrics at http://{f'[{host}]' if ':' in host else host}:{port}/metrics"))
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
