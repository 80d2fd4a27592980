"""Lists by configuration: presets, entries of sensors.toml, and how what is wrong with them is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowrie_enrich_dagster.settings import PRESETS, ConfigError, effective, load_settings


def problems_of(tmp_path: Path, toml: str = "", **environ: str) -> list[str]:
    """The problems that loading ends with, without the path of the file."""
    (tmp_path / "sensors.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, tmp_path)
    return [problem.replace(f"{tmp_path}/sensors.toml: ", "") for problem in caught.value.problems]


def test_by_default_there_is_no_list(tmp_path: Path) -> None:
    """Nothing is fetched that nobody asked for."""
    settings = load_settings({}, tmp_path)
    assert settings.lists == ()
    assert settings.want is None


def test_presets_are_named_by_the_environment_and_cite_their_terms(tmp_path: Path) -> None:
    """ENRICH_LISTS turns public lists on; each says where its terms of use are."""
    settings = load_settings({"ENRICH_LISTS": "tor_exits, spamhaus_drop"}, tmp_path)
    assert [(one.name, one.says) for one in settings.lists] == [
        ("tor_exits", "tor"),
        ("spamhaus_drop", "malicious"),
    ]
    assert all(one.terms.startswith("https://") and one.url for one in PRESETS.values())
    shown = {one.name: one.value for one in effective(settings)}
    assert shown["[[enrichment.lists]] tor_exits"].startswith("tor, https://check.torproject.org/")


def test_lists_of_the_file_stand_beside_presets_and_may_change_them(tmp_path: Path) -> None:
    """An entry with a preset's name is that preset, but for what it says."""
    (tmp_path / "sensors.toml").write_text("""
        [[enrichment.lists]]
        name = "mine"
        says = "own"
        file = "friends.txt"
        [[enrichment.lists]]
        name = "mass_scanners"
        allowed_share = 0.5
        [[enrichment.lists]]
        name = "partner"
        says = "malicious"
        url = "https://lists.example.org/bad/"
        refresh_hours = 2
        format = "csv"
        column = "address"
    """)
    lists = {one.name: one for one in load_settings({"ENRICH_LISTS": "feodo"}, tmp_path).lists}
    assert list(lists) == ["feodo", "mine", "mass_scanners", "partner"]
    assert lists["mine"].file == tmp_path / "friends.txt"
    assert lists["mass_scanners"].url == PRESETS["mass_scanners"].url
    assert (lists["mass_scanners"].allowed_share, lists["feodo"].allowed_share) == (0.5, 0.2)
    assert (lists["partner"].refresh_hours, lists["partner"].column) == (2, "address")


def test_a_preset_may_be_had_elsewhere_in_another_form(tmp_path: Path) -> None:
    """A mirror with a plain text has none of the columns of the publisher's."""
    (tmp_path / "sensors.toml").write_text("""
        [[enrichment.lists]]
        name = "threatfox"
        url = "https://mirror.example.org/threatfox.txt"
        format = "addresses"
        [[enrichment.lists]]
        name = "spamhaus_drop"
        file = "drop.json"
    """)
    lists = {one.name: one for one in load_settings({}, tmp_path).lists}
    assert (lists["threatfox"].format, lists["threatfox"].column) == ("addresses", None)
    assert (lists["spamhaus_drop"].format, lists["spamhaus_drop"].column) == ("json", "cidr")
    assert (lists["spamhaus_drop"].url, lists["threatfox"].says) == (None, "malicious")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            'name = "a"\nsays = "good"\nfile = "f"',
            'says = "good" is not accepted; accepted: "tor"',
        ),
        ('name = "A b"\nsays = "tor"\nfile = "f"', 'name = "A b" is not accepted; accepted: at most 40'),
        ('says = "tor"\nfile = "f"', "lacks name; accepted: at most 40"),
        ('name = "a"\nfile = "f"', 'lacks says; accepted: "tor"'),
        ('name = "a"\nsays = "tor"', "names both a url and a file, or neither; accepted: one of them"),
        ('name = "a"\nsays = "own"\nurl = "https://e.org/"', 'says "own" of a url; accepted: a file'),
        (
            'name = "a"\nsays = "tor"\nurl = "https://u:p@e.org/"',
            "url = (not shown: it may hold a secret) is not accepted, it holds credentials",
        ),
        ('name = "a"\nsays = "tor"\nurl = "ftp://e.org/"', "is not accepted, it is not such a URL"),
        ('name = "a"\nsays = "tor"\nfile = "f"\nrefresh_hours = "1"', 'refresh_hours = "1" is not accepted'),
        ('name = "a"\nsays = "tor"\nfile = "f"\nrefresh_hours = 0.1', "accepted: a number of hours from 1"),
        ('name = "a"\nsays = "tor"\nfile = "f"\nformat = "csv"', "such a format without a column"),
        ('name = "a"\nsays = "tor"\nfile = "f"\nrefresh = 2', 'has no key "refresh"; accepted: name, says'),
        ('name = "a"\nsays = "tor"\nfile = "f"\nformt = "csv"', "(did you mean 'format'?)"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(tmp_path: Path, entry: str, said: str) -> None:
    """File, key and what is accepted are named, for each problem."""
    (problem, *_) = problems_of(tmp_path, f"[[enrichment.lists]]\n{entry}\n")
    assert said in problem
    assert problem.startswith("[[enrichment.lists]]")


def test_a_name_twice_a_wrong_table_and_an_unknown_preset_are_errors(tmp_path: Path) -> None:
    """Every problem is named at once."""
    twice = '[[enrichment.lists]]\nname = "a"\nsays = "tor"\nfile = "f"\n' * 2
    assert problems_of(tmp_path, twice) == ['[[enrichment.lists]] has "a" twice; accepted: every name once']
    assert problems_of(tmp_path, "[enrichment.lists]\nname = 1") == [
        "enrichment.lists is not an array of tables; accepted: [[enrichment.lists]]"
    ]
    (unknown,) = problems_of(tmp_path, ENRICH_LISTS="tor_exit")
    assert "there is no preset 'tor_exit' (did you mean 'tor_exits'?)" in unknown


def test_wanted_columns_are_named_by_group_or_one_by_one(tmp_path: Path) -> None:
    """ENRICH_WANT takes groups and columns; `all` is what is not set."""
    settings = load_settings({"ENRICH_WANT": "country, source_is_tor, network"}, tmp_path)
    assert settings.want == (
        "source_as_number",
        "source_as_organization_name",
        "source_geo_country_iso_code",
        "source_is_tor",
    )
    assert load_settings({"ENRICH_WANT": "all"}, tmp_path).want is None
    (problem,) = problems_of(tmp_path, ENRICH_WANT="contry")
    assert "there is no group or column 'contry' (did you mean 'country'?); accepted: all, or" in problem
