"""``cascadezoo predict``: images and videos in, annotated pictures and one COCO file out, or other kinds of results."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import (
    Device,
    ModelName,
    OutputOfPredict,
    SavedKinds,
    Threshold,
    TilesOfImages,
    WeightsFile,
)
from cascadezoo.coco.categories import OF_DATA
from cascadezoo.errors import UsageError
from cascadezoo.hub.sources import parse
from cascadezoo.outputs.kinds import ANNOTATIONS, DEFAULT, KINDS
from cascadezoo.paths import expanded

_LOCAL = {  # options for runs without --engine, and what to do with one
    "--json": "read the file that this one writes",
    "--at-once": "give --actors",
    "--save": "the end of --out says what this one writes",
    "--recursive": "give 'folder/**/*.jpg'",
}
_OF_ENGINE = ("--address", "--actors", "--column")


@click.command(
    "predict",
    cls=Command,
    short_help="Detect on images and videos",
    examples=(
        "cascadezoo predict cascade_mask_x101_64x4d_fpn_3x photo.jpg --out out",
        "cascadezoo predict cascade_r50_fpn_1x.mmdet photos/ --weights best.safetensors",
        "cascadezoo predict cascade_mask_r50_fpn_1x.mmdet '*.png' \\\n  --classes person,dog --save masks,csv",
        "cascadezoo predict cascade_mask_r50_fpn_1x.mmdet clip.mp4 \\\n  --threshold 0.5,person=0.7",
        "cascadezoo predict cascade_r50_fpn_1x.mmdet s3://bucket/photos/ \\\n  --engine ray -o found.jsonl",
    ),
)
@click.argument("name", type=ModelName())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=str))
@click.option(
    "--weights", metavar="FILE", type=WeightsFile(), help="A file of weights, canonical or the publisher's own."
)
@click.option("--recursive", is_flag=True, help="Look into the folders inside a folder, too.")
@click.option(
    "-o", "--out", metavar="DIR", type=OutputOfPredict(), default=Path("predictions"), show_default=True,
    help="Where the results go.",
)  # fmt: skip
@click.option(
    "--save", "kinds", metavar="KIND[,KIND…]", type=SavedKinds(), default=",".join(DEFAULT), show_default=True,
    help=f"What is written (docs/outputs.md): {', '.join(KINDS)}.",
)  # fmt: skip
@click.option(
    "--classes", metavar="NAME[,NAME…]", multiple=True,
    help="Classes to keep, by name or by the data set's id; default: all.",
)  # fmt: skip
@click.option(
    "--threshold", metavar="SCORE", type=Threshold(), default=0.5, show_default=True,
    help="Lowest score to keep, or several by class, as in 0.5,person=0.7; below the entry's own (0.05), the network "
    "keeps lower scores too.",
)  # fmt: skip
@click.option(
    "--max-detections", metavar="N", type=click.IntRange(min=1),
    help="The most to keep per image, the best; default: the entry's own (100).",
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
@click.option("--exact", is_flag=True, help="When optimised on a CPU, compute convolutions by plain sums, slower.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True,
    help="What the network computes in.",
)  # fmt: skip
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
    help="Images that go through the network together; more is faster on a GPU, and the last digits may differ.",
)  # fmt: skip
@click.option(
    "--at-once", metavar="N", type=click.IntRange(min=1),
    help="On a CPU: batches worked on at once; default: with --batch-size 1, one per core, at most 4.  1 takes the "
    "least memory.",
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
@click.option("--column", metavar="NAME", help="With --engine: of Parquet files, where paths or encoded images are.")
@click.pass_context
def predict_command(
    ctx: click.Context,
    /,
    name: str,
    images: tuple[str, ...],
    weights: Path | None,
    recursive: bool,
    out: Path,
    kinds: tuple[str, ...],
    classes: tuple[str, ...],
    at_once: int | None,
    as_json: bool,
    engine: str | None,
    address: str | None,
    actors: int | None,
    column: str | None,
    **options: Any,
) -> None:
    """Detect with the model NAME on each IMAGE: an image, a folder of images, a pattern with wildcards in quotes, a
    list of these (.txt, one a line), an address of the web, - for an image on stdin, a video, or a camera (camera:0).

    Writes each image with its detections drawn on it, as JPEG, and detections.json, a COCO annotation file of them
    all, into DIR, or what --save names; earlier results of the same names are replaced.  Of a video it writes an
    annotated mp4, and a file of JSON lines, one per frame.  All hold the detections whose score is at least the
    threshold.  Without --weights the entry's published weights are used.

    An image that cannot be read is named and the others still run; the exit code is that of the worst failure.  What a
    folder holds besides images (other files, videos, hidden files, folders) is left out, counted and named.

    With --engine ray an IMAGE may be a path, a pattern, a Parquet file (.parquet), a list of paths (.txt) or a URI such
    as s3://bucket/folder/.  No pictures are drawn; --out names a folder for detections.json, a file of JSON lines
    (.jsonl) or a folder of Parquet files (.parquet).  An interrupted run goes on where it was.
    """
    out = expanded(out)
    options |= {
        "weights": weights,
        "pretrained": weights is None,
        "classes": [name.strip() for text in classes for name in text.split(",") if name.strip()] if classes else None,
    }
    _refuse(name, **options)
    if engine:
        for option in _given(ctx, _LOCAL):
            raise UsageError(f"{option} is for runs without --engine: {_LOCAL[option]}")
        from cascadezoo.cli.predict_batch import predict_batch

        options |= {"annotation_file": ANNOTATIONS, "address": address, "actors": actors, "column": column}
        ctx.exit(predict_batch(name, images, out, **options))
    for option in _given(ctx, _OF_ENGINE):
        raise UsageError(f"{option} is for --engine ray")
    if as_json and "coco" not in kinds:
        raise UsageError(f"--json prints {ANNOTATIONS}: add coco to --save")
    if out.is_file():
        raise UsageError(f"{out} is a file: give a folder, or --engine ray to write such a file")
    # OpenCV reads them when it is loaded: what fails is told by us, in one sentence
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from cascadezoo.cli.predict_local import predict_local

    ctx.exit(predict_local(name, images, out, kinds, recursive=recursive, at_once=at_once, as_json=as_json, **options))


def _refuse(
    name: str,
    *,
    weights: Path | None,
    min_size: int | None,
    max_size: int | None,
    classes: list[str] | None,
    optimize: bool | None,
    exact: bool,
    **_: Any,
) -> None:
    """Raise UsageError for what cannot be, as far as that shows without the weights, and so without torch."""
    if exact and optimize is False:
        raise UsageError("--exact is for an optimised model: leave out --no-optimize, or --exact")
    if parse(name) is not None or weights is not None:  # they bring sizes and classes of their own
        return
    entry = registry.info(name)
    scale = registry.spec_of(entry).preprocess
    if (least := min_size or scale.min_size) > (most := max_size or scale.max_size):
        raise UsageError(f"--max-size {most} is smaller than --min-size {least}: give both")
    for text in classes or () if entry.data in OF_DATA else ():
        if not text.isdecimal():
            OF_DATA[entry.data].label_of(text)


def _given(ctx: click.Context, options: Iterable[str]) -> Iterator[str]:
    """Those of the options that are on the command line."""
    for parameter in ctx.command.params:
        if parameter.name and ctx.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            yield from set(parameter.opts).intersection(options)
