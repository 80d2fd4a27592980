"""Responses as a server would have sent them."""

from __future__ import annotations

import requests


def response(status: int = 200, headers: dict[str, str] | None = None) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.headers.update(headers or {})
    return made
