"""``cascadezoo export``: canonical weights back to a file of their publisher."""

from pathlib import Path

import click

from cascadezoo.providers import FORMATS

_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 5  # keys of a reason before they are only counted


@click.command("export")
@click.argument("name")
@click.option("--format", required=True, type=click.Choice(FORMATS), help="The publisher whose format to write.")
@click.option("--weights", type=_FILE, help="Canonical .safetensors; default: the entry's in the cache.")
@click.option("-o", "--output", type=_FILE, help="The file to write; default: <entry>, beside its weights.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def export_command(
    name: str, format: str, weights: Path | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Write an entry's canonical weights as a file of its publisher.

    Every tensor that inference uses is reproduced exactly; what conversion drops and the publisher's loader wants is
    written as zeros, and named.
    """
    from cascadezoo.checkpoints.exporting import export  # torch is imported only when there is something to export

    report = export(name, format, weights, output, force=force)
    for reason in dict.fromkeys(report.zeroed.values()):
        keys = [key for key, why in report.zeroed.items() if why == reason]
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        click.echo(f"zeros in {', '.join(keys[:_SHOWN])}{more}: {reason}", err=True)
    lines = (("output", report.output), ("tensors", report.tensors), ("sha256", report.output_sha256))
    click.echo(report.to_json() if as_json else "\n".join(f"{label:<7}  {value}" for label, value in lines))
