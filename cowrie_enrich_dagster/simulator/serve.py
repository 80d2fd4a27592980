"""The simulator as a process of its own."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cowrie_enrich_dagster.simulator import pages
from cowrie_enrich_dagster.simulator.model import Limit, SimulatorConfig, TokenBucket
from cowrie_enrich_dagster.simulator.server import SimulatorServer

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8480


def serve(
    host: str,
    port: int,
    config: SimulatorConfig,
    log_file: Path | None = None,
    on_ready: Callable[[str, str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; call it from the main thread.

    `on_ready` gets the base URL, and that of whois, once requests are accepted; `port` 0 takes a free port;
    `log_file` gets one JSON line per request. Raises OSError if the address is taken, ValueError for an
    unknown service.
    """
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    # Before any thread is started: one that does not block them would take them, and die of it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        server = SimulatorServer(host, port, config, log_file)
        threading.Thread(target=server.serve_forever, args=(0.05,), name="simulator", daemon=True).start()
        logger.info("simulating %s at %s", ", ".join(pages.ALL), server.url)
        try:
            if on_ready:
                on_ready(server.url, server.whois.url)
            signal.sigwait(stop_signals)
        finally:
            server.stop()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _tell(url: str, whois_url: str) -> None:
    typer.echo(f"CYMRU_API_URL={whois_url}", err=True)
    typer.echo(url)  # alone on stdout, where scripts wait for it


def simulate(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    limit_per_minute: Annotated[
        float | None, typer.Option(help="Requests a minute, for every service; none: no limit.")
    ] = None,
    burst: Annotated[int, typer.Option(help="How many of them may come at once.")] = 1,
    config: Annotated[
        str,
        typer.Option(
            metavar="JSON", help='{"limits": ..., "faults": ...} by service, as POST /_control takes.'
        ),
    ] = "{}",
    log: Annotated[Path | None, typer.Option(help="File to append one JSON line per request to.")] = None,
) -> None:
    """Imitate the intelligence services' APIs on this machine; prints the base URL and runs until stopped.

    A service is under its name: DSHIELD_API_URL=http://127.0.0.1:8480/dshield. Only Team Cymru's, which is
    asked by whois, has a port of its own: its URL is told on stderr.
    """
    try:
        chosen = SimulatorConfig.model_validate_json(config)
        if limit_per_minute is not None:
            limit = Limit(rules=(TokenBucket(per_minute=limit_per_minute, burst=burst),))
            chosen = chosen.model_copy(update={"limits": dict.fromkeys(pages.ALL, limit) | chosen.limits})
        serve(host, port, chosen, log, on_ready=_tell)
    except (ValidationError, ValueError, OSError) as error:
        typer.echo(f"simulate: {error}", err=True)
        raise typer.Exit(2) from None
