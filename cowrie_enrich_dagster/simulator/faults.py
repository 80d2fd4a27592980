"""Choosing the fault that befalls a request, and what is sent because of it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from cowrie_enrich_dagster.simulator.limits import retry_after_headers
from cowrie_enrich_dagster.simulator.model import Fault
from cowrie_enrich_dagster.simulator.pages.base import Page, Reply, Request

PROXY_PAGE = b"<!DOCTYPE html><html><head><title>Checking your browser</title></head><body></body></html>"


class FaultPlan:
    """One service's faults at work; the first that applies wins. Not thread-safe: see `Limiter`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        self._left = [fault.times for fault in faults]
        self._draws = [Random(fault.seed) for fault in faults]  # noqa: S311 (repeatable by design)

    def next(self, keys: Sequence[str]) -> Fault | None:
        """The fault for the request that has just arrived about `keys`, which is thereby spent."""
        for index, fault in enumerate(self.faults):
            left = self._left[index]
            if left == 0 or (fault.key is not None and fault.key not in keys):
                continue
            if self._draws[index].random() >= fault.probability:
                continue
            if left is not None:
                self._left[index] = left - 1
            return fault
        return None


def faulty_reply(fault: Fault, page: Page, request: Request, proper: Reply, wall: float) -> Reply | None:
    """What is sent for `fault` in place of the `proper` reply; None where nothing is sent at all."""
    match fault.kind:
        case "slow":
            return proper
        case "hang" | "reset":
            return None
        case "html":
            return Reply(200, PROXY_PAGE, "text/html; charset=utf-8")
        case "truncated":
            return Reply(200, proper.body[: len(proper.body) // 2], proper.content_type)
        case "wrong_key":
            return page.reply(request, (page.decoy,))
        case "huge":
            return Reply(200, _pad(proper.body, fault.size_bytes), proper.content_type)
        case "reply":
            return Reply(
                fault.status, fault.body.encode(fault.encoding, "replace"), headers=_headers(fault, wall)
            )


def _headers(fault: Fault, wall: float) -> dict[str, str]:
    if fault.retry_after_s is None:
        return fault.headers
    return retry_after_headers(fault.retry_after_s, fault.retry_after, wall) | fault.headers


def _pad(body: bytes, size: int) -> bytes:
    if body.endswith(b"}"):
        return body[:-1] + b',"padding":"' + b"x" * size + b'"}'
    return body + b"\n" * size
