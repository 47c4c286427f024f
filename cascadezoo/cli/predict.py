"""``cascadezoo predict``: images in, annotated pictures and one COCO file out, or other kinds of results."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import cascadezoo
from cascadezoo.cli.command import Command
from cascadezoo.cli.inputs import find_images
from cascadezoo.cli.parameters import Device, ModelName, OutputOfPredict, SavedKinds, TilesOfImages, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import CascadezooError, UsageError
from cascadezoo.outputs.kinds import ANNOTATIONS, DEFAULT, KINDS
from cascadezoo.paths import expanded
from cascadezoo.tiling.tiles import Tiles


class _Failures:
    """What went wrong so far, each named on stderr when it happens; the worst decides the exit code."""

    def __init__(self) -> None:
        self.exit_code = 0
        self.records: list[dict[str, str]] = []

    def add(self, image: str | Path, error: CascadezooError) -> None:
        echo(f"cascadezoo: {error}", err=True)
        self.records.append({"file_name": str(image), "error": str(error)})
        self.exit_code = max(self.exit_code, error.exit_code)


@click.command(
    "predict",
    cls=Command,
    short_help="Detect on images; pictures and COCO JSON",
    examples=(
        "cascadezoo predict cascade_mask_x101_64x4d_fpn_3x photo.jpg --out out",
        "cascadezoo predict cascade_r50_fpn_1x.mmdet photos/ --weights best.safetensors",
        "cascadezoo predict cascade_mask_r50_fpn_1x.mmdet photos/ --save masks,csv,labelme",
        "cascadezoo predict cascade_r50_fpn_1x.mmdet s3://bucket/photos/ \\\n  --engine ray -o found.jsonl",
    ),
)
@click.argument("name", type=ModelName())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=str))
@click.option("--weights", metavar="FILE", type=WeightsFile(), help="Canonical or publisher's own file.")
@click.option(
    "-o", "--out", metavar="DIR", type=OutputOfPredict(), default=Path("predictions"), show_default=True,
    help="Where the results go.",
)  # fmt: skip
@click.option(
    "--save", "kinds", metavar="KIND[,KIND…]", type=SavedKinds(), default=",".join(DEFAULT), show_default=True,
    help=f"What is written (docs/outputs.md): {', '.join(KINDS)}.",
)  # fmt: skip
@click.option(
    "--threshold", metavar="SCORE", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="Lowest score to draw and write; below the entry's own (0.05), the network keeps lower scores too.",
)  # fmt: skip
@click.option("--device", type=Device(), help="Such as cpu or cuda:1; default: cuda where there is one.")
@click.option(
    "--min-size", metavar="N", type=click.IntRange(min=1), help="Shorter side, in pixels; default: the entry's own."
)
@click.option(
    "--max-size", metavar="N", type=click.IntRange(min=1), help="Longer side, in pixels; default: the entry's own."
)
@click.option(
    "--optimize/--no-optimize", default=None,
    help="Prepare the network for the device first; default: on a CPU.  Scores may differ in their last digits.",
)  # fmt: skip
@click.option("--exact", is_flag=True, help="Optimised on a CPU: convolutions by plain sums, slower.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True,
    help="What the network computes in.",
)  # fmt: skip
@click.option(
    "--at-once", metavar="N", type=click.IntRange(min=1),
    help="On a CPU: images worked on at once; default: one per core, at most 4.  1 takes the least memory.",
)  # fmt: skip
@click.option("--tta", is_flag=True, help="Test-time augmentation: several scales, mirrored too; much slower.")
@click.option(
    "--tiles", metavar="SIZE[,OVERLAP]", type=TilesOfImages(),
    help="Detect in overlapping tiles of so many pixels, for small objects in large images (docs/tiles.md).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The COCO file on stdout too, the summaries on stderr.")
@click.option("--engine", type=click.Choice(["ray"]), help="Many images, on the GPUs of one machine or of several.")
@click.option("--address", help="With --engine: a Ray cluster that runs already; default: one of its own.")
@click.option(
    "--actors", metavar="N", type=click.IntRange(min=1),
    help="With --engine: processes that detect; default: one per GPU, else one for two cores.",
)  # fmt: skip
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
    help="With --engine: images at a time; more is faster on a GPU, and the last digits may differ.",
)  # fmt: skip
@click.option("--column", metavar="NAME", help="With --engine: of Parquet files, where paths or encoded images are.")
@click.pass_context
def predict_command(
    ctx: click.Context,
    /,
    name: str,
    images: tuple[str, ...],
    weights: Path | None,
    out: Path,
    kinds: tuple[str, ...],
    threshold: float,
    device: str | None,
    min_size: int | None,
    max_size: int | None,
    optimize: bool | None,
    exact: bool,
    precision: str,
    at_once: int | None,
    tta: bool,
    tiles: Tiles | None,
    as_json: bool,
    engine: str | None,
    **of_engine: Any,
) -> None:
    """Detect with the model NAME on each IMAGE, an image or a folder of images.

    Writes each image with its detections drawn on it, as JPEG, and detections.json, a COCO annotation file of them
    all, into DIR, or what --save names; earlier results of the same names are replaced.  All hold the detections
    whose score is at least the threshold.  Without --weights the entry's published weights are used.

    An image that cannot be read is named and the others still run; the exit code is that of the worst failure.  What
    lies in a folder and is left out, as no image, hidden or a folder itself, is counted and named.

    With --engine ray an IMAGE may also be a path with wildcards, a Parquet file (.parquet), a list of paths (.txt) or
    a URI such as s3://bucket/folder/.  No pictures are drawn; --out names a folder for detections.json, a file of JSON
    lines (.jsonl) or a folder of Parquet files (.parquet).  An interrupted run goes on where it was.
    """
    out = expanded(out)
    model_options: dict[str, Any] = {
        "weights": weights,
        "pretrained": weights is None,
        "threshold": threshold,
        "min_size": min_size,
        "max_size": max_size,
        "optimize": optimize,
        "exact": exact,
        "precision": precision,
        "tiles": tiles,
    }
    if engine:
        if as_json:
            raise UsageError("--json is for runs without --engine: read the file that this one writes")
        if at_once:
            raise UsageError("--at-once is for runs without --engine: give --actors")
        if ctx.get_parameter_source("kinds") is not ParameterSource.DEFAULT:
            raise UsageError("--save is for runs without --engine: the end of --out says what this one writes")
        from cascadezoo.cli.predict_batch import predict_batch

        of_engine["annotation_file"] = ANNOTATIONS
        ctx.exit(predict_batch(name, images, out, device=device, tta=tta, **model_options, **of_engine))
    for option in of_engine:
        if ctx.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{option.replace('_', '-')} is for --engine ray")
    if as_json and "coco" not in kinds:
        raise UsageError(f"--json prints {ANNOTATIONS}: add coco to --save")
    if out.is_file():
        raise UsageError(f"{out} is a file: give a folder, or --engine ray to write such a file")
    failures = _Failures()
    inputs = find_images(images)
    for note in inputs.notes:
        click.echo(f"cascadezoo: {note}", err=True)
    for given, error in inputs.failed:
        failures.add(given, error)
    paths = inputs.paths
    if not paths:
        ctx.exit(failures.exit_code)
    # OpenCV reads it when it is loaded: what fails is told by us, in one sentence
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from cascadezoo.cli.predict_images import predicted  # and torch, now that there is an image
    from cascadezoo.outputs.outputs import Outputs
    from cascadezoo.predictor import Predictor

    predictor = Predictor(name, device=device, tta=tta, **model_options)
    model = predictor.model
    description = f"cascadezoo {cascadezoo.version.__version__} predict {name} --threshold {threshold:g}"
    has_masks = model.spec.mask is not None
    with Outputs(
        kinds, out, model.categories, has_masks=has_masks, description=description, given=paths
    ) as outputs:
        with closing(predicted(predictor, paths, outputs, at_once)) as done:
            for path, one in zip(paths, done, strict=True):
                if isinstance(one, CascadezooError):
                    failures.add(path, one)
                else:
                    echo(one, err=as_json)
        left_out = [{"file_name": str(path), "reason": reason} for path, reason in inputs.left_out]
        outputs.finish({"left_out": left_out, "failed": failures.records})
    for note in outputs.notes:
        echo(f"cascadezoo: {note}", err=True)
    if as_json:
        echo_json((out / ANNOTATIONS).read_text(encoding="utf-8"))
    ctx.exit(failures.exit_code)
