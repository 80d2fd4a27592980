"""One message to the operator's webhook, in the JSON of Slack or of ntfy.

Mattermost, Rocket.Chat and Discord (`.../slack`) read Slack's, too. The URL is a secret, its path is the key:
so no client is used that logs it, a redirect is not followed, and problems are told without it.

Slack: https://api.slack.com/docs/formatting; ntfy: https://docs.ntfy.sh/publish/#publish-as-json.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import orjson
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from cowrie_enrich_dagster.services.base import VERSION
from cowrie_enrich_dagster.terminal import visible

MAX_TITLE, MAX_TEXT = 120, 2000
"""Characters. ntfy makes a file of what is longer than 4 KB, Slack cuts what is longer than 4,000."""

_TOPIC = re.compile(r"/([-_A-Za-z0-9]{1,64})/?")
_CONTROL = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def post(url: str, title: str, text: str, seconds: float) -> str | None:
    """Send a message; what went wrong in a few words, or None. Takes no longer than `seconds`."""
    outcome: list[str | None] = []
    # No timeout of a socket holds for the whole of a request, and looking up a name has none at all.
    sender = threading.Thread(
        target=lambda: outcome.append(_send(url, title, text, seconds)), name="webhook", daemon=True
    )
    sender.start()
    sender.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:.0f} s"


def message(url: str, title: str, text: str) -> tuple[str, dict[str, Any]]:
    """Where to send what: a URL of one segment (https://ntfy.sh/TOPIC) is ntfy's, any other Slack's.

    Nothing in the text mentions anybody, is a link in disguise, or formats.
    """
    title, text = _clipped(title, MAX_TITLE), _clipped(text, MAX_TEXT)
    parts = urlsplit(url)
    if topic := _TOPIC.fullmatch(parts.path):
        return urlunsplit(parts._replace(path="/")), {"topic": topic[1], "title": title, "message": text}
    # Slack obeys <...> alone, but what reads its form elsewhere takes a bare @all for everybody, too.
    escaped = f"{title}\n{text}".translate(_CONTROL).replace("@", "@\u200b")
    return url, {"text": escaped, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _clipped(text: str, most: int) -> str:
    shown = visible(text, keep="\n")
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: whoever is behind it was not trusted with the message."""


def _send(url: str, title: str, text: str, seconds: float) -> str | None:
    try:
        to, body = message(url, title, text)
        headers = {"Content-Type": "application/json", "User-Agent": f"cowrie-enrich/{VERSION}"}
        request = Request(to, orjson.dumps(body), headers, method="POST")  # noqa: S310 (checked as a setting)
        # As the services are asked: proxies of the environment, and its certificate authorities.
        chosen = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        trusted = ssl.create_default_context(cafile=chosen or DEFAULT_CA_BUNDLE_PATH)
        opener = build_opener(_NoRedirect, HTTPSHandler(context=trusted))
        opener.open(request, timeout=seconds).close()
    except HTTPError as problem:
        problem.close()
        return f"HTTP {problem.code}"
    except URLError as problem:
        return type(problem.reason).__name__
    except (OSError, ValueError, HTTPException) as problem:
        return type(problem).__name__  # not its text, which may quote the URL
    return None
