"""How an optimised model's cost grows with the image, its detections and the batch, on the CPU:
``python -m cascadezoo.benchmarks.measure.network_growth``.

Each point runs in a fresh process with random weights, whose class scores are such that there are as many detections as
may be.  The image has the network's size, so that both grow.  Time is by stages; memory is the highest resident set
from when the model was ready, beside what it was then.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch

import cascadezoo
from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.latency import CPU, PLAIN, our_stages, scene, summary
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import exponent, in_turn
from cascadezoo.detector import Detector
from cascadezoo.ops.library import COMPILED
from cascadezoo.training.memory import forget_peak, held_memory, peak_memory

SIDES = (448, 576)  # height and width of the smallest image; the others have 2, 4 and 8 times its sides
FULL = 100  # detections
PRECISIONS = (PLAIN, "fp32", "bf16")


class Point(NamedTuple):
    """What one process runs: images of ``sides`` (height, width), ``batch`` of them at a time."""

    sides: tuple[int, int]
    batch: int = 1
    most: int = FULL  # detections on each


SCALE = (896, 1152)  # near the publishers' 800 x 1333: what the points have that do not vary it
CASES: dict[str, list[tuple[float, Point]]] = {  # by what grows: its size, and the point
    "megapixels": [
        (round(times**2 * SIDES[0] * SIDES[1] / 1e6, 3), Point((times * SIDES[0], times * SIDES[1])))
        for times in (1, 2, 4, 8)
    ],
    "detections": [(number, Point(SCALE, most=number)) for number in (0, 1, 10, 50, 100)],
    "images": [(number, Point(SCALE, batch=number)) for number in (1, 2, 4, 8)],
}


def model_of(entry: str, point: Point, precision: str) -> Detector:
    """The entry with random weights, optimised unless ``precision`` is ``plain``, that finds as many detections as the
    point says."""
    torch.manual_seed(0)
    model = cascadezoo.load(
        entry,
        min_size=min(point.sides),
        max_size=max(point.sides),
        box_detections_per_img=max(point.most, 1),
        box_score_thresh=None if point.most else 0.9999,
    )
    for head in model.box_heads:
        torch.nn.init.zeros_(head.get_parameter("cls_score.weight"))
        # two classes share nearly all, and NMS within each leaves more than FULL boxes
        torch.nn.init.constant_(head.get_parameter("cls_score.bias")[:2], 10.0)
    return model if precision == PLAIN else model.optimize(device="cpu", precision=precision)


@torch.inference_mode()
def measure(entry: str, point: Point, precision: str, runs: int, seconds: float) -> dict[str, Any]:
    """A point in this process; fewer runs where they take these seconds."""
    with torch.inference_mode(False), torch.no_grad():
        model = model_of(entry, point, precision)
    ready = held_memory()
    forget_peak()
    images = [scene(*point.sides)] * point.batch
    with computing(CPU, "fp32"):
        clocks = in_turn({"model": lambda: our_stages(model, images)}, runs, seconds)["model"]
    return {
        **point._asdict(),
        **summary(clocks),
        "runs": len(clocks),
        "ready_bytes": ready,
        "peak_bytes": peak_memory(),
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
    }


def fresh(entry: str, point: Point, precision: str, runs: int, seconds: float) -> dict[str, Any]:
    """``measure`` in a process of its own."""
    code = (
        "import json, sys; from cascadezoo.benchmarks.measure.network_growth import Point, measure; "
        "entry, point, *rest = json.loads(sys.argv[1]); print(json.dumps(measure(entry, Point(*point), *rest)))"
    )
    command = [sys.executable, "-c", code, json.dumps([entry, point, precision, runs, seconds])]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def points(
    names: Sequence[str], entry: str, precision: str, runs: int, seconds: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of these cases; a point that is in two of them runs once."""
    done: dict[Point, dict[str, Any]] = {}
    for name in names:
        for size, point in CASES[name]:
            if point not in done:
                done[point] = fresh(entry, point, precision, runs, seconds)
            yield name, {"size": size, **done[point]}


def growing(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose size can lie on a logarithmic axis."""
    return [row for row in rows if row["size"] > 0]


@click.command()
@click.option("--entry", default="cascade_mask_r50_fpn_1x.mmdet", show_default=True)
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS))
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Runs of each point.")
@click.option("--seconds", default=20.0, show_default=True, help="After which a point has no further run.")
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="What grows.  [default: all]")
@click.option("--output", default=RESULTS / "network_growth.json", type=click.Path(dir_okay=False, path_type=Path))
def main(entry: str, precision: str, runs: int, seconds: float, names: tuple[str, ...], output: Path) -> None:
    """Time an entry on larger images, with more detections and in larger batches, and write a report."""
    cases: dict[str, list[dict[str, Any]]] = {}
    click.echo(f"{'case':12}{'size':>9}{'ms':>10}{'peak GiB':>10}")
    for name, row in points(names or tuple(CASES), entry, precision, runs, seconds):
        cases.setdefault(name, []).append(row)
        click.echo(f"{name:12}{row['size']:9}{row['total_ms']['median']:10.0f}{row['peak_bytes'] / 2**30:10.2f}")
    for name, rows in cases.items():
        sizes, times = zip(*((row["size"], row["total_ms"]["median"]) for row in growing(rows)), strict=True)
        click.echo(f"{name}: exponent {exponent(sizes, times):.2f}")
    report = {"benchmark": "network growth", "entry": entry, "precision": precision, "cases": cases}
    write_report(output, report)
    click.echo(f"report: {output}", err=True)


if __name__ == "__main__":
    main()
