"""The cards of addresses and sessions on a terminal: as wide as it is, and plain in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from cowrie_enrich_dagster.readable import clipped, counted, moment, number
from cowrie_enrich_dagster.report.cards import AddressCard, SessionCard, Told
from cowrie_enrich_dagster.report.deeds import Verdict
from cowrie_enrich_dagster.report.words import known
from cowrie_enrich_dagster.terminal import visible

SHOWN = 10
_CELL_CHARS = 160
_NAMES = {
    "as_number": "", "as_organization": "", "country_iso_code": "", "network": "network",
    "classification": "", "abuse_score": "abuse score", "reports": "reports", "first_seen": "from",
    "last_seen": "to", "is_scanner": "scanner", "is_proxy": "proxy", "is_vpn": "VPN", "is_tor": "Tor",
}  # fmt: skip


def address(card: AddressCard) -> RenderableType:
    """The card of an address."""
    accepted = sum(login["attempts"] for login in card.logins if login["success"])
    tried = counted(sum(login["attempts"] for login in card.logins), "login")
    when = f"{moment(card.first_seen)} to {moment(card.last_seen)} UTC"
    return Group(
        _title(card.address, _place(card.facts), card.scope if card.scope != "global" else ""),
        _facts(
            {
                "seen": f"{when}, on {counted(len(card.days), 'day')}",
                "sessions": f"{number(card.sessions)}, on {', '.join(card.sensors)}",
                "got in": f"with {number(accepted)} of {tried}" if accepted else f"never; {tried} tried",
                "said to be": ", ".join(_marks(card.facts)) or "nothing by any service",
            }
        ),
        *_services(card.services),
        *_campaigns(card.campaigns),
        *_listed(
            "Logins", ("user name", "password or key", "", "attempts"), [_login(one) for one in card.logins]
        ),
        *_lines(card.command_lines, "Lines typed", "most often first"),
        *_files(card.files, {one["sha256"]: one["verdicts"] for one in card.files}),
        *_listed("Tunnels", ("target", "requests"), [_tunnel(one) for one in card.tunnels]),
    )


def session(card: SessionCard) -> RenderableType:
    """The card of a session."""
    told = card.columns
    facts = {name.removeprefix("source_"): value for name, value in told.items()}
    source = told["source_ip"] or "no address"
    return Group(
        _title(f"session {told['session_id']}", f"on {told['sensor']}", ""),
        _facts(
            {
                "from": " ".join(filter(None, (source, _place(facts)))),
                "when": f"{moment(told['event_start'])} UTC, {_took(told['event_duration_ms'])}",
                "by": " ".join(filter(None, (told["network_protocol"], told["client_version"]))),
                "hassh": told["hassh"],
                "got in": f"as {told['user_name']}" if told["login_successes"] else "no",
                "said to be": ", ".join(_marks(facts)),
                "something known": {"unknown": "not yet"}.get(told["knowledge"], known(told["knowledge"])),
            }
        ),
        *_campaigns(card.campaigns),
        *_listed(
            "Logins",
            ("user name", "password or key", "", "attempts"),
            [_login(one) for one in told["logins"] or ()],
            told["logins_left_out"],
        ),
        *_lines(told["command_lines"] or (), "Lines typed", "in order", told["command_lines_left_out"]),
        *_files(told["files"] or (), card.verdicts, told["files_left_out"]),
        *_listed(
            "Tunnels",
            ("target", "requests"),
            [_tunnel(one) for one in told["tunnels"] or ()],
            told["tunnels_left_out"],
        ),
    )


def _took(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.1f} s"


def _title(name: str, place: str, mark: str) -> Text:
    text = Text(visible(name), style="bold")
    if place:
        text.append(f"  {visible(place)}", style="not bold")
    if mark:
        text.append(f"  {mark}: never asked about", style="yellow")
    return text


def _place(facts: Mapping[str, Any]) -> str:
    parts = []
    if facts.get("as_number"):
        parts.append(f"AS{facts['as_number']} {facts.get('as_organization_name') or ''}".strip())
    if facts.get("geo_country_iso_code"):
        parts.append(facts["geo_country_iso_code"])
    return ", ".join(parts)


def _marks(facts: Mapping[str, Any]) -> list[str]:
    marks = [name for name in ("scanner", "proxy", "vpn", "tor") if facts.get(f"is_{name}")]
    if facts.get("classification"):
        marks.append(facts["classification"])
    if facts.get("abuse_score") is not None:
        marks.append(f"abuse score {facts['abuse_score']}")
    if facts.get("reports"):
        marks.append(counted(facts["reports"], "report"))
    marks += facts.get("lists") or ()
    return marks


def _facts(told: Mapping[str, str | None]) -> RenderableType:
    grid = Table.grid(Column(style="dim"), Column(overflow="fold"), padding=(0, 2))
    for name, value in told.items():
        if value:
            grid.add_row(name, escape(visible(value)))
    return Padding(grid, (0, 0, 0, 2), expand=False)


def _listed(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], left_out: int = 0, note: str = ""
) -> Iterable[RenderableType]:
    """A table under a heading, its first rows and how many more there are; nothing where there are none."""
    if not rows:
        return
    yield Text("")
    yield Text.assemble((title, "bold"), (f"  {note}" if note else "", "dim"))
    numbers = {name for name in columns if name in ("attempts", "requests", "sessions", "addresses")}
    table = Table(
        *(Column(name, overflow="fold", justify="right" if name in numbers else "left") for name in columns),
        box=box.SIMPLE_HEAD, show_edge=False, header_style="dim", show_header=any(columns), padding=(0, 1),
    )  # fmt: skip
    for row in rows[:SHOWN]:
        table.add_row(*(_cell(value) for value in row))
    yield table
    more = len(rows) - SHOWN
    if more > 0:
        yield Text(f"   {number(more)} more; --json has all", style="dim")
    if left_out:
        yield Text(f"   {number(left_out)} beyond what is kept of a session", style="dim")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if value == "":
        return "(empty)"
    text = number(value) if isinstance(value, int) else visible(str(value))
    return escape(clipped(text, _CELL_CHARS))


def _login(login: Mapping[str, Any]) -> tuple[object, ...]:
    secret = login["password"] if login["key"] is None else login["key"]
    return login["username"], secret, "got in" if login["success"] else "refused", login["attempts"]


def _tunnel(tunnel: Mapping[str, Any]) -> tuple[object, ...]:
    return f"{tunnel['host']}:{tunnel['port']}", tunnel["requests"]


def _lines(lines: Sequence[str], title: str, note: str, left_out: int = 0) -> Iterable[RenderableType]:
    return _listed(title, ("",), [(line,) for line in lines], left_out, note)


def _files(
    files: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Sequence[Verdict]], left_out: int = 0
) -> Iterable[RenderableType]:
    rows = [(file["sha256"], file["name"] or file["url"], file["how"]) for file in files]
    columns = ("SHA-256", "name or URL", "how")
    if not any(verdicts.values()):  # none is asked about files
        return _listed("Files", columns, rows, left_out)
    says = ["; ".join(map(_verdict, verdicts.get(sha256, ()))) for sha256, *_ in rows]
    told = [(*row, words or "not asked") for row, words in zip(rows, says, strict=True)]
    return _listed("Files", (*columns, "verdict"), told, left_out)


def _verdict(verdict: Verdict) -> str:
    if verdict.status == "found":
        what = f"malicious: {verdict.malicious}" if verdict.malicious else "not malicious"
        return " ".join(filter(None, (verdict.service, what, verdict.label)))
    return f"{verdict.service}: {verdict.status.replace('_', ' ')}"


def _campaigns(campaigns: Sequence[Mapping[str, Any]]) -> Iterable[RenderableType]:
    rows = [
        (one["campaign_id"], one["label"], one["sources"], moment(one["first_seen"])) for one in campaigns
    ]
    return _listed("Campaigns", ("id", "joined by", "addresses", "since"), rows)


def _services(services: Mapping[str, Told]) -> Iterable[RenderableType]:
    rows = [
        (name, _says(told), told.fetched_at and moment(told.fetched_at)) for name, told in services.items()
    ]
    return _listed("What services say", ("service", "says", "as of (UTC)"), rows)


def _says(told: Told) -> str:
    if told.status == "not_found":
        return "knows nothing of it"
    if told.facts is None:
        return f"{told.status.replace('_', ' ')}: no answer yet"
    words = []
    for name, value in told.facts.items():
        if name == "as_number":
            words.append(f"AS{value}")
        elif value is False:
            words.append(f"no {_NAMES[name]}")
        elif value is True:
            words.append(_NAMES[name])
        else:
            words.append(f"{_NAMES[name]} {value}".strip())
    return ", ".join(words) + (f" (list {told.feed})" if told.feed else "")
