"""``cascadezoo export``: a model out of this package, as a whole detector or as its publisher's checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import InputFile, InputFolder, ModelName, OutputOfExport, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.exporting.formats import AXES, GRAPHS, PRECISIONS
from cascadezoo.providers import FORMATS

if TYPE_CHECKING:
    from cascadezoo.converters.report import ExportReport
    from cascadezoo.exporting.report import GraphReport

_SHOWN = 5  # keys of a reason before they are only counted


def _axes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """batch,height to ("batch", "height"); "none" to none of them."""
    if value is None:
        return None
    return () if value == "none" else tuple(part.strip() for part in value.split(","))


@click.command(
    "export",
    cls=Command,
    short_help="A model as a file of other programs",
    examples=(
        "cascadezoo export cascade_mask_r50_fpn_1x.mmdet --format onnx -o cascade.onnx",
        "cascadezoo export cascade_r50_fpn_1x.mmdet --format mmdet",
        "cascadezoo export cascade_r50_fpn_1x.paddle --format paddle \\\n"
        "    --weights best.safetensors -o best.pdparams",
    ),
)
@click.argument("name", type=ModelName())
@click.option(
    "--format",
    required=True,
    metavar="FORMAT",
    type=click.Choice((*GRAPHS, *FORMATS)),
    help=f"What to write: {', '.join(GRAPHS)}, or a publisher's file: {', '.join(FORMATS)}.",
)
@click.option(
    "--weights",
    type=WeightsFile(),
    help="A file of weights, for a publisher's format a canonical one; default: the published ones, which a "
    "publisher's format takes only from the cache.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="fp16 and int8 cost accuracy; default: fp32.")
@click.option("--opset", type=click.IntRange(min=1), help="The version of ONNX's operators.")
@click.option("--preprocess", is_flag=True, help="The graph takes resized images and normalises and pads them.")
@click.option(
    "--dynamic",
    callback=_axes,
    metavar="AXES",
    help=f"Which of {','.join(AXES)} may differ from call to call, or none; default: all.",
)
@click.option("--calibration", type=InputFolder(), help="A folder of images to quantise by.")
@click.option("--val-json", type=InputFile(), help="COCO annotations to measure what fp16 or int8 costs.")
@click.option("--val-images", type=InputFolder(), help="The folder of their images.")
@click.option(
    "-o",
    "--output",
    type=OutputOfExport(),
    help="What to write; default: <entry>, beside --weights or in the current folder.",
)
@click.option("--force", is_flag=True, help="Replace an existing output; write fp16 or int8 whatever it costs.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def export_command(
    name: str, format: str, weights: Path | None, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Write a model as a file that other programs run.

    onnx and the like hold the whole detector, from normalised pixels to boxes, scores, labels and masks, and are run
    beside PyTorch before they are written.  A publisher's format holds canonical weights as its own code reads them:
    every tensor that inference uses is reproduced exactly; what conversion drops and the publisher's loader wants is
    written as zeros, and named.
    """
    from cascadezoo.exporting.dispatch import export
    from cascadezoo.hub.progress import steps

    with steps(f"exporting {name} as {format}"):
        report = export(name, format, weights, output, **options)
    if as_json:
        echo_json(report.to_json())
    elif format in FORMATS:
        _print_checkpoint(report)  # type: ignore[arg-type]
    else:
        _print_graph(report)  # type: ignore[arg-type]


def _print_checkpoint(report: "ExportReport") -> None:
    for reason in dict.fromkeys(report.zeroed.values()):
        keys = [key for key, why in report.zeroed.items() if why == reason]
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        echo(f"zeros in {', '.join(keys[:_SHOWN])}{more}: {reason}", err=True)
    lines = (("output", report.output), ("tensors", report.tensors), ("sha256", report.output_sha256))
    echo(*(f"{label:<7}  {value}" for label, value in lines))


def _print_graph(report: "GraphReport") -> None:
    for note in report.notes:
        echo(note, err=True)
    masks = "" if report.mask_iou is None else f", masks overlap by {report.mask_iou:.4f}"
    checked = (
        f"{report.detections} detections on {report.images} images; at most {report.box_difference:.2g} pixels and "
        f"{report.score_difference:.2g} of score apart{masks}"
    )
    lines = (("output", report.output), ("precision", report.precision), ("checked", checked))
    echo(*(f"{label:<9}  {value}" for label, value in (*lines, ("sha256", report.output_sha256))))
