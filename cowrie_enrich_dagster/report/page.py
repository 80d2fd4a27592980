"""The report as one page: it loads nothing, runs nothing, and shows what attackers wrote as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cowrie_enrich_dagster import readable
from cowrie_enrich_dagster.export.destination import opened
from cowrie_enrich_dagster.report import plots, words
from cowrie_enrich_dagster.report.figures import Figures
from cowrie_enrich_dagster.report.gaps import WHY
from cowrie_enrich_dagster.report.totals import Totals, is_hourly
from cowrie_enrich_dagster.terminal import visible

LINES_SHOWN, LINE_CHARS = 6, 160


def write_page(figures: Figures, path: Path, drawn: Mapping[str, plots.Plot] | None = None) -> int:
    """Write the page to a file, which appears whole or not at all; its size in bytes.

    `drawn` are its plots (see `plots_of`), where the caller has use for them, too.
    """
    with opened(path) as stream:
        return stream.write(render_page(figures, drawn).encode())


def render_page(figures: Figures, drawn: Mapping[str, plots.Plot] | None = None) -> str:
    """The page as HTML."""
    drawn = plots_of(figures) if drawn is None else drawn
    return (
        _environment()
        .get_template("page.html")
        .render(
            f=figures,
            readable=readable,
            words=words,
            why=WHY,
            tiles=_tiles(figures),
            headline=words.headline(figures),
            hourly=is_hourly(figures.days),
            plots={name: Markup(plot.inline()) for name, plot in drawn.items()},  # noqa: S704 (our own SVG)
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cowrie_enrich_dagster.report", "templates"),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(n=readable.number, moment=_moment, script=_script, clip=_clip)
    return environment


def _shown(value: Any) -> Any:
    """Every value on its way into the page: what would turn or hide text is written out."""
    if value is None:
        return "–"
    return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _moment(at: datetime | date | None) -> Markup:
    return Markup("<time>{}</time>").format(readable.moment(at))


def _clip(text: str | None, chars: int) -> str | None:
    return None if text is None else readable.clipped(text, chars)


def _script(lines: tuple[str, ...]) -> str:
    """The first lines of a script, each clipped; a line that was sent as several is several."""
    every = [part for line in lines for part in line.splitlines() or [""]]
    shown = [
        line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}… ({readable.number(len(line))} characters)"
        for line in every[:LINES_SHOWN]
    ]
    more = len(every) - len(shown)
    return "\n".join([*shown, *([f"… {readable.counted(more, 'more line')}"] if more else [])])


def _tiles(figures: Figures) -> list[tuple[str, int, str, str]]:
    """What is counted, how much of it, of what, and how it compares."""
    of = {
        "sessions": ("Sessions", "connections to the sensors"),
        "sources": ("Addresses", "different sources"),
        "sessions_in": ("Got in", "sessions with an accepted login"),
        "logins": ("Logins tried", "accepted and refused"),
        "commands": ("Commands", "lines that were typed"),
        "files": ("Files", "different ones, by SHA\N{NON-BREAKING HYPHEN}256"),
    }
    return [
        (name, _of(figures.totals, key), text, _compared(figures, key)) for key, (name, text) in of.items()
    ]


def _of(totals: Totals, key: str) -> int:
    value: int = getattr(totals, key)
    return value


def _compared(figures: Figures, key: str) -> str:
    if figures.before is None:
        return ""  # the first sentence says so
    before = _of(figures.before, key)
    how = words.change(_of(figures.totals, key), before)
    return how if how == "none before" else f"{how} {words.than(how)} {readable.number(before)}"


def plots_of(figures: Figures) -> dict[str, plots.Plot]:
    """The plots of the page by name; none of days without a session."""
    if not figures.totals.sessions:
        return {}
    hourly = is_hourly(figures.days)
    return {
        "timeline": plots.timeline(figures.timeline, hourly=hourly),
        "timeline_narrow": plots.timeline(figures.timeline, hourly=hourly, narrow=True),
        "networks": plots.origins(figures.networks.shown, "network"),
        "countries": plots.origins(figures.countries.shown, "country"),
        "coverage": plots.coverage(figures.gaps),
    }
