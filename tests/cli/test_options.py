"""Options: help texts that come from the fields of records, and ranges of numbers."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from every_command import EVERY
from pydantic import BaseModel, Field

from cascadezoo.benchmarks.reports.schema import schema
from cascadezoo.cli import cli
from cascadezoo.cli.options import FieldOption
from cascadezoo.cli.parameters import Number


class Example(BaseModel):
    how_many: int = Field(default=1, description="As many as there are fingers.")


def test_an_option_is_described_by_its_field() -> None:
    @click.command()
    @click.option("--how-many", cls=FieldOption, record=f"{Example.__module__}:Example", type=int, metavar="N")
    def command(how_many: int) -> None:
        click.echo(how_many)

    assert "--how-many N  As many as there are fingers." in CliRunner().invoke(command, ["--help"]).stdout
    assert CliRunner().invoke(command, ["--how-many", "3"]).stdout == "3\n"


@pytest.mark.parametrize(
    ("command", "described"),
    [
        ("verify", "--limit N Only the first N images of a data set: PARTIAL, if it has more."),
        ("verify", "--tolerance AP Difference in AP that still passes; default: the manifest's, which is 0.1."),
        ("verify", "--tta Also the evaluations with test-time augmentation; else they are SKIPPED."),
        ("bench", "--precision [fp32|fp16|bf16] What matrix products and convolutions are computed in;"),
    ],
)
def test_commands_show_what_their_reports_say(command: str, described: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"]).stdout
    assert described in " ".join(shown.split())


def test_every_value_of_a_report_is_described() -> None:
    document = json.loads(schema())
    for record in (document, *document["$defs"].values()):
        for name, field in record.get("properties", {}).items():
            is_record = any("$ref" in part for part in (field, *field.get("anyOf", ())))
            assert "description" in field or is_record or name in ("format", "kind"), f"{record['title']}.{name}"


def test_help_imports_no_torch_and_the_list_of_commands_no_records() -> None:
    code = """
import sys
from cascadezoo.cli import main
try:
    main(sys.argv[1:])
finally:
    print("torch" in sys.modules, "cascadezoo.benchmarks.reports.schema" in sys.modules)
"""
    for arguments, imported in ((["--help"], "False False"), (["verify", "--help"], "False True")):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.endswith(f"{imported}\n")


def test_every_range_of_numbers_is_one_of_finite_numbers() -> None:
    """The others are click's, in which nan lies."""
    ranges = [each for _, command in EVERY for each in command.params if isinstance(each.type, click.FloatRange)]
    assert {each.opts[-1] for each in ranges} >= {"--max-wait-ms", "--min-ap", "--older-than"}
    assert [each.opts[-1] for each in ranges if not isinstance(each.type, Number)] == []
    for text in ("nan", "inf", "-inf", "1e999"):
        with pytest.raises(click.BadParameter):
            Number(max=1 if text[0] == "-" else None)(text)
    assert Number(min=0)("1e3") == 1000
