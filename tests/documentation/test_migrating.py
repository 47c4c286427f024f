"""docs/migrating.md: what it says is here is here.  Its blocks run with those of the other pages."""

import inspect
import re

import click
import pytest

import cascadezoo
from cascadezoo import registry
from cascadezoo.cli import cli

from documentation.blocks import ROOT

ROWS = [row.split(" | ") for row in (ROOT / "docs/migrating.md").read_text("utf-8").splitlines() if row[:2] == "| "]
HERE = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[1])]
SPEC = registry.spec_of(cascadezoo.info("cascade_mask_r50_fpn_1x.mmdet"))


@pytest.mark.parametrize("path", [name for name in HERE if name.startswith("spec.")])
def test_a_field_of_the_spec_is_one(path: str) -> None:
    value: object = SPEC
    for part in path.removeprefix("spec.").split("."):
        value = getattr(value, part.removesuffix("[i]"))
        value = value[0] if part.endswith("[i]") else value
    assert value is not None


@pytest.mark.parametrize("argument", [name.removesuffix("=") for name in HERE if name.endswith("=")])
def test_an_argument_is_one_of_load(argument: str) -> None:
    assert argument in inspect.signature(cascadezoo.load).parameters


@pytest.mark.parametrize("option", [name for name in HERE if name.startswith("--")])
def test_an_option_is_one_of_train(option: str) -> None:
    command = cli.get_command(click.Context(cli), "train")
    assert command is not None
    assert option in {known for parameter in command.params for known in parameter.opts}


@pytest.mark.parametrize("command", [name.split()[1] for name in HERE if name.startswith("cascadezoo ")])
def test_a_command_is_one(command: str) -> None:
    assert command in cli.list_commands(click.Context(cli))


def test_every_row_has_the_three_libraries() -> None:
    assert {len(row) for row in ROWS} == {5}
    assert len(ROWS) > 50
