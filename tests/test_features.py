"""docs/features.md: what it says of this package is there."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

import cascadezoo
from cascadezoo.cli import cli
from cascadezoo.detector import Detector

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "features.md").read_text()
HEAD = ["feature", "cascadezoo", "ultralytics", "supervision", "RF-DETR", "timm", "torchvision"]
SHORT = {"Detections": cascadezoo.Detections, "model": Detector}


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ROWS = [row for row in rows() if row != HEAD]


def require(name: str) -> None:
    """Raise for a name in backquotes that means nothing: a command with options, a path, a thing of the package."""
    if name.startswith("cascadezoo "):
        require_command(name.split()[1:])
    elif "/" in name or name.isupper():
        assert (ROOT / name).exists(), name
    else:
        require_object(name)


def require_command(words: list[str]) -> None:
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(words) <= known, (command.name, words)


def require_object(name: str) -> None:
    first, *rest = name.split(".")
    found: Any = SHORT[first] if first in SHORT else import_module(first)
    for part in rest:
        if part in getattr(found, "model_fields", {}):
            return
        try:
            found = getattr(found, part)
        except AttributeError:
            found = import_module(f"{found.__name__}.{part}")


def test_every_table_has_the_same_columns() -> None:
    assert PAGE.count("\n| " + " | ".join(HEAD) + " |\n") == 4
    assert len(ROWS) > 30
    assert {len(row) for row in ROWS} == {len(HEAD)}
    assert all(all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_is_said_of_this_package_is_there(row: list[str]) -> None:
    ours = row[1]
    names = re.findall(r"`([^`]+)`", ours)
    if ours.startswith("no"):
        assert re.match(r"no: \S+", ours), "say why"
    else:
        assert names, "name what there is"
    for name in names:
        require(name)


@pytest.mark.parametrize(
    "name", ["cascadezoo fly", "cascadezoo list --fly", "tests/nothing", "Detections.fly", "cascadezoo.ZooEntry.fly"]
)
def test_a_name_that_is_not_there_is_found_out(name: str) -> None:
    with pytest.raises((AssertionError, AttributeError, ModuleNotFoundError)):
        require(name)


def test_every_library_has_its_sources() -> None:
    sources = PAGE.split("## Sources")[1]
    assert all(re.search(rf"^- {re.escape(library)}: <https://", sources, re.MULTILINE) for library in HEAD[2:])
