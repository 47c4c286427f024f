"""``cascadezoo bench``: how fast an entry is on this machine, stage by stage."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.options import FieldOption
from cascadezoo.cli.parameters import Device, EntryName, InputFile, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import UsageError

if TYPE_CHECKING:
    from cascadezoo.benchmarks.reports.schema import Precision, SpeedTiming


@click.command(
    "bench",
    cls=Command,
    short_help="Time an entry here, stage by stage",
    examples=("cascadezoo bench cascade_r50_fpn_1x.mmdet", "cascadezoo bench mask_r50_fpn_1x.paddle photo.jpg"),
)
@click.argument("name", type=EntryName())
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=InputFile())
@click.option("--pretrained", is_flag=True, help="Time the published weights.")
@click.option(
    "--weights", metavar="FILE", type=WeightsFile(), help="A file of weights, canonical or the publisher's own."
)
@click.option("--device", type=Device(), help="Such as cpu or cuda:1; default: cuda where there is one.")
@click.option(
    "--precision",
    cls=FieldOption,
    record="cascadezoo.benchmarks.reports.schema:Settings",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
    help="Images at a time; above 1, one at a time is timed as well.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def bench_command(
    name: str,
    images: tuple[Path, ...],
    pretrained: bool,
    weights: Path | None,
    device: str | None,
    precision: "Precision",
    batch_size: int,
    as_json: bool,
) -> None:
    """Time the entry NAME on each IMAGE, or on a generated image of 480 x 640.

    The time runs from resizing to the encoded masks; decoding does not count.  With neither --pretrained nor --weights
    the network is random, with scores that let a full number of detections through.  To compare an entry with an
    earlier report, use `cascadezoo verify --fps --baseline`.
    """
    if pretrained and weights:
        raise UsageError("give either --pretrained or --weights, not both")
    from cascadezoo.images import read_image

    given = [read_image(path) for path in images]
    import cascadezoo  # and torch, now that there is something to time
    from cascadezoo.benchmarks.measure.latency import random_model, scene
    from cascadezoo.benchmarks.reports.schema import describe_machine
    from cascadezoo.benchmarks.verify.speed import measure
    from cascadezoo.devices import usable
    from cascadezoo.hub.progress import steps
    from cascadezoo.ops.library import COMPILED

    chosen = usable(device)
    pixels = given or [scene()]
    with steps(f"loading {name}"):
        if pretrained or weights:
            model = cascadezoo.load(name, pretrained=pretrained, weights=weights, device=chosen)
        else:
            model = random_model(name, pixels[0], chosen)
    with steps(f"timing {name}"):
        timing = measure(model, pixels, batch_size, precision)
    machine = describe_machine(str(chosen), "pycocotools")
    if as_json:
        report = {
            "entry": cascadezoo.info(name).name,
            "precision": precision,
            "compiled_ops": COMPILED,
            "machine": machine.model_dump(mode="json"),
            **timing.model_dump(mode="json"),
        }
        echo_json(json.dumps(report, indent=2))
        return
    echo(*_table(timing))
    compiled = ", ".join(COMPILED) or "none"
    echo(f"{machine.device}, {precision}; compiled operators: {compiled}", err=True)


def _table(timing: "SpeedTiming") -> tuple[str, ...]:
    batches = timing.batches
    rows = {
        "median ms per batch": [f"batch {batch.batch_size}" for batch in batches],
        **{name: [f"{batch.stages_ms[name].median:.1f}" for batch in batches] for name in batches[0].stages_ms},
        "total": [f"{batch.total_ms.median:.1f}" for batch in batches],
        "total, p90": [f"{batch.total_ms.p90:.1f}" for batch in batches],
        "total, p99": [f"{batch.total_ms.p99:.1f}" for batch in batches],
        "images per second": [f"{batch.fps:.2f}" for batch in batches],
        "detections per image": [f"{batch.detections:.1f}" for batch in batches],
        "peak MiB": [f"{batch.peak_bytes / 2**20:.0f}" for batch in batches],
    }
    lines = (f"{name:22}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in rows.items())
    return (*lines, *timing.notes)
