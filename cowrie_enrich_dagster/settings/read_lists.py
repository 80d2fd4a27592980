"""Reading `[[enrichment.lists]]`: each entry against `ListSettings`, every problem in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from cowrie_enrich_dagster.settings.catalogue import fields_of
from cowrie_enrich_dagster.settings.lists import PRESETS, ListSettings
from cowrie_enrich_dagster.settings.values import REJECTED, Context, did_you_mean

_KEYS = {name: source for name, source, _ in fields_of(ListSettings)}
_ADAPTERS = {name: adapter for name, _, adapter in fields_of(ListSettings)}
_NEEDED = ("name", "says")
TABLE = "[[enrichment.lists]]"


def read_lists(
    presets: Iterable[str],
    entries: object,
    context: Context,
    quoted: Callable[[object], str],
) -> tuple[tuple[ListSettings, ...], list[str]]:
    """The lists of `presets` and `entries` (the value of `enrichment.lists`), and a line for each problem.

    An entry that is called as a preset is that preset, with what the entry says instead. `quoted` shows a
    value of the operator's.
    """
    lists = {name: PRESETS[name] for name in presets}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return (), [f"enrichment.lists is not an array of tables; accepted: {TABLE}"]
    problems: list[str] = []
    named: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        values, found = _values(entry, f"{TABLE} number {number}", context, quoted)
        name = values.get("name")
        if name in named:
            found.append(f"{TABLE} has {quoted(name)} twice; accepted: every name once")
        if not found:
            one = _made(values)
            found = [f"{TABLE} {quoted(one.name)} {words}" for words in one.contradictions()]
            lists[one.name] = one
            named.add(one.name)
        problems += found
    return tuple(lists.values()), problems


def _values(
    entry: Mapping[str, Any], where: str, context: Context, quoted: Callable[[object], str]
) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    problems = []
    for key, value in entry.items():
        if key not in _KEYS:
            hint = did_you_mean(key, tuple(_KEYS))
            problems.append(f"{where} has no key {quoted(key)}{hint}; accepted: {', '.join(_KEYS)}")
            continue
        try:
            values[key] = _ADAPTERS[key].validate_python(value, strict=True, context=context)
        except ValidationError as error:
            why = next((f", {e['msg']}" for e in error.errors() if e["type"] == REJECTED), "")
            problems.append(
                f"{where}: {key} = {quoted(value)} is not accepted{why}; accepted: {_KEYS[key].accepts}"
            )
    if entry.get("name") not in PRESETS:
        problems += [
            f"{where} lacks {key}; accepted: {_KEYS[key].accepts}" for key in _NEEDED if key not in entry
        ]
    return values, problems


def _made(values: Mapping[str, Any]) -> ListSettings:
    preset = PRESETS.get(values["name"])
    if preset is None:
        return ListSettings.model_construct(**values)
    base = preset.model_dump()
    if values.keys() & {"url", "file"}:  # another place, with terms of its own
        base |= {"url": None, "file": None, "terms": ""}
    if values.get("format", base["format"]) != base["format"]:  # the column is one of the other form
        base["column"] = None
    return ListSettings.model_construct(**{**base, **values})
