"""``cascadezoo export``: canonical weights back to a file of their publisher."""

from pathlib import Path

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName, OutputFile, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.providers import FORMATS

_SHOWN = 5  # keys of a reason before they are only counted


@click.command(
    "export",
    cls=Command,
    short_help="Canonical weights to a publisher's file",
    examples=(
        "cascadezoo export cascade_r50_fpn_1x.mmdet --format mmdet",
        "cascadezoo export cascade_r50_fpn_1x.paddle --format paddle \\\n"
        "    --weights best.safetensors -o best.pdparams",
    ),
)
@click.argument("name", type=EntryName())
@click.option("--format", required=True, type=click.Choice(FORMATS), help="The publisher whose format to write.")
@click.option("--weights", type=WeightsFile(), help="Canonical .safetensors; default: the entry's in the cache.")
@click.option("-o", "--output", type=OutputFile(), help="The file to write; default: <entry>, beside its weights.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def export_command(
    name: str, format: str, weights: Path | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Write an entry's canonical weights as a file of its publisher.

    Every tensor that inference uses is reproduced exactly; what conversion drops and the publisher's loader wants is
    written as zeros, and named.
    """
    from cascadezoo.checkpoints.exporting import export

    report = export(name, format, weights, output, force=force)
    for reason in dict.fromkeys(report.zeroed.values()):
        keys = [key for key, why in report.zeroed.items() if why == reason]
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        echo(f"zeros in {', '.join(keys[:_SHOWN])}{more}: {reason}", err=True)
    lines = (("output", report.output), ("tensors", report.tensors), ("sha256", report.output_sha256))
    if as_json:
        echo_json(report.to_json())
    else:
        echo(*(f"{label:<7}  {value}" for label, value in lines))
