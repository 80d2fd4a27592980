"""The plots, as SVG: inline in the page, whose colours and fonts they take over, or as images of their own.

matplotlib takes a second to load: whoever draws nothing does not import this module.
"""

from __future__ import annotations

import functools
import io
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cowrie_enrich_dagster.readable import moment, number
from cowrie_enrich_dagster.report.gaps import Gap
from cowrie_enrich_dagster.report.sources import Origin
from cowrie_enrich_dagster.report.totals import Slot
from cowrie_enrich_dagster.terminal import visible

P = ParamSpec("P")
# A colour for each part, put in the place of these once the SVG is drawn.
_INK, _LINE, _ALL, _HOT, _WAITING, _LACKING = (f"#01020{n}" for n in range(3, 9))
ON_PAGE = {
    _INK: "currentColor",
    _LINE: "var(--line)",
    _ALL: "var(--all)",
    _HOT: "var(--hot)",
    _WAITING: "var(--waiting)",
    _LACKING: "var(--lacking)",
}
ALONE = {
    **{_INK: "#57606a", _LINE: "#d0d7de", _ALL: "#8fa3c4"},
    **{_HOT: "#c2410c", _WAITING: "#d4a72c", _LACKING: "#c0c8d1"},
}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and scaled
    "text.parse_math": False,  # attackers write $, services pass it on
    "font.family": "sans-serif",
    "font.size": 12.0,
    "xtick.labelsize": 12.0,
    "ytick.labelsize": 12.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_POINTS = 72
_LABEL_CHARS = 24
_BAR_FONT = 13.5
# What comes before the drawing, who made it, and a style sheet that would be the whole page's.
_BESIDE = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
# In points an image would be a third larger than it was drawn.
_SIZE = re.compile(r'((?:width|height)="[\d.]+)pt"')
_FONT = re.compile(r"font-family: [^;\"]*")


@dataclass(frozen=True)
class Plot:
    """A drawing; `told` is what it shows, for those who cannot see it."""

    svg: str
    told: str

    def inline(self) -> str:
        """SVG for the page, in its colours, light or dark."""
        return _coloured(self.svg, ON_PAGE).replace(
            "<svg ", f'<svg role="img" aria-label="{escape(self.told)}" ', 1
        )

    def data_uri(self) -> str:
        """An image that stands alone, on any background."""
        picture = _coloured(self.svg, ALONE).encode()
        return f"data:image/svg+xml;base64,{b64encode(picture).decode()}"


def _styled(draw: Callable[P, Plot]) -> Callable[P, Plot]:
    """Decorator: texts and lines take their style when they are made, so all of a drawing is made in ours."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> Plot:
        with mpl.rc_context(_STYLE):
            return draw(*arguments, **options)

    return drawn


@_styled
def timeline(slots: Sequence[Slot], *, hourly: bool, narrow: bool = False) -> Plot:
    """Sessions by hour or day, and those of them that got in."""
    figure, axes = _axes(*((360, 190) if narrow else (1070, 220)))
    places = range(len(slots))
    width = 0.86 if len(slots) < 120 else 1.0
    axes.bar(places, [slot.sessions for slot in slots], width, color=_ALL)
    axes.bar(places, [slot.sessions_in for slot in slots], width, color=_HOT)
    # A day's label stands at its first hour, with others where days are few; of many days every few have one.
    each = 24 if len(slots) > (1 if narrow else 3) * 24 else 6
    starts = [place for place, slot in enumerate(slots) if not hourly or slot.start.hour % each == 0]
    step = -(-len(starts) // (5 if narrow else 12))
    axes.set_xticks(starts[::step], [_label_of(slots[place]) for place in starts[::step]], ha="left")
    axes.set_xlim(-0.5, max(len(slots) - 0.5, 0.5))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    most = max(slots, key=lambda slot: slot.sessions)
    of = "hour" if hourly else "day"
    told = (
        f"Sessions by {of}: {number(sum(slot.sessions for slot in slots))} in all, of which "
        f"{number(sum(slot.sessions_in for slot in slots))} got in; most, {number(most.sessions)}, "
        f"in the {of} from {moment(most.start)} UTC"
    )
    return _drawn(figure, told, f"timeline{narrow}")


@_styled
def origins(rows: Sequence[Origin], name: str) -> Plot:
    """Networks or countries as bars: their sessions, and those of them that got in."""
    figure, axes = _axes(500, 30 * max(len(rows), 1) + 8, left=0.46 if name == "network" else 0.18)
    places = range(len(rows))
    axes.barh(places, [row.sessions for row in rows], 0.62, color=_ALL)
    axes.barh(places, [row.sessions_in for row in rows], 0.62, color=_HOT)
    for place, row in enumerate(rows):
        axes.annotate(
            number(row.sessions),
            (row.sessions, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=_BAR_FONT,
        )
    _rows(axes, [_label(row) for row in rows])
    axes.set_xlim(0, max((row.sessions for row in rows), default=1) * 1.18)
    told = f"Sessions by {name}: " + ", ".join(f"{_label(row)} {number(row.sessions)}" for row in rows)
    return _drawn(figure, told, name)


@_styled
def coverage(gaps: Sequence[Gap]) -> Plot:
    """For each service the share of keys it has told of, of those still waiting, and of the others."""
    figure, axes = _axes(500, 30 * max(len(gaps), 1) + 8, left=0.22)
    for place, gap in enumerate(gaps):
        waiting = gap.statuses.get("deferred", 0)
        parts = (gap.answered, waiting, gap.keys - gap.answered - waiting)
        shares = [part / gap.keys if gap.keys else 0.0 for part in parts]
        for begin, size, colour in zip(
            accumulate([0.0, *shares]), shares, (_ALL, _WAITING, _LACKING), strict=False
        ):
            axes.barh(place, size, 0.62, left=begin, color=colour)
        axes.annotate(
            f"{number(gap.answered)} / {number(gap.keys)}",
            (1, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=_BAR_FONT,
        )
    _rows(axes, [gap.service for gap in gaps])
    axes.set_xlim(0, 1.3)
    told = "Told of, by service: " + ", ".join(
        f"{g.service} {g.answered} of {g.keys} {g.about}" for g in gaps
    )
    return _drawn(figure, told, "coverage")


def _label_of(slot: Slot) -> str:
    return f"{slot.start:%H:%M}" if slot.start.hour else f"{slot.start.day} {slot.start:%b}"


def _axes(width: int, height: int, left: float | None = None) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / _POINTS, height / _POINTS), facecolor="none")
    if left is None:
        bounds = (36 / width, 26 / height, 1 - 38 / width, 1 - 36 / height)
    else:
        bounds = (left, 0.0, 1 - left, 1.0)
    axes = figure.add_axes(bounds, facecolor="none")
    for side in ("top", "right", "left") if left is None else ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, pad=6)
    return figure, axes


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, size=_BAR_FONT)
    axes.set_xticks([])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _label(row: Origin) -> str:
    name = " ".join(filter(None, (row.name, row.organization))) or "not known"
    name = visible(f"AS{name}" if row.organization is not None else name)
    return name if len(name) <= _LABEL_CHARS else name[: _LABEL_CHARS - 1] + "…"


def _drawn(figure: Figure, told: str, salt: str) -> Plot:
    written = io.StringIO()
    # Names within the drawing are hashes: salted apart, they do not meet those of other plots on the page.
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = _SIZE.sub(r'\1"', _BESIDE.sub("", written.getvalue()))
    svg = _FONT.sub("font-family: sans-serif", svg)
    return Plot(svg, visible(told))


def _coloured(svg: str, colours: Mapping[str, str]) -> str:
    for drawn, shown in colours.items():
        svg = svg.replace(drawn, shown)
    return svg
