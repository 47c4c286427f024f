"""How cost grows with candidates, categories and boxes: ``python -m cascadezoo.benchmarks.measure.growth``.

Each case is timed at 1, 4 and 16 times its smallest size.  NMS has 400 candidates of each class, so that more
candidates are more classes, and beside it stands one pass over all classes, which compares candidates of different
classes too.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torchvision.ops import nms as one_pass

from cascadezoo.benchmarks.measure.results import write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import Nms

TIMES = (1, 4, 16)
PER_CLASS = 400  # candidates
RULE = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True)
HEIGHT, WIDTH = 480, 640

Work = Callable[[], object]


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Runs of each case.")
@click.option("--candidates", default=2000, show_default=True, type=click.IntRange(min=1), help="Fewest, for NMS.")
@click.option("--categories", default=1000, show_default=True, type=click.IntRange(min=1), help="Fewest.")
@click.option("--boxes", default=64, show_default=True, type=click.IntRange(min=1), help="Fewest, to draw.")
@click.option(
    "--output",
    default=Path(__file__).parents[1] / "results" / "growth.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/growth.json]",
)
def main(runs: int, candidates: int, categories: int, boxes: int, output: Path) -> None:
    """Time NMS, categories and plot at 1, 4 and 16 times a size and write a report."""
    cases = {
        "nms": [(candidates * times, nms(candidates * times)) for times in TIMES],
        "categories": [(categories * times, {"ours": names(categories * times)}) for times in TIMES],
        "plot": [(boxes * times, {"ours": plot(boxes * times)}) for times in TIMES],
    }
    rows = {case: [row(size, ways, runs) for size, ways in sizes] for case, sizes in cases.items()}
    write_report(output, {"benchmark": "growth", "runs": runs, "candidates_per_class": PER_CLASS, "cases": rows})

    click.echo(f"{'case':12} {'size':>7} {'ours, ms':>9} {'one pass, ms':>13}")
    for case, sizes in rows.items():
        for one in sizes:
            ms = one["milliseconds"]
            beside = f"{ms['one_pass']['median']:13.1f}" if "one_pass" in ms else ""
            click.echo(f"{case:12} {one['size']:7} {ms['ours']['median']:9.1f} {beside}")
    click.echo(f"report: {output}", err=True)


def row(size: int, ways: dict[str, Work], runs: int) -> dict[str, Any]:
    """The milliseconds of each way, timed in turns."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, work in ways.items():
            start = time.perf_counter()
            work()
            times[way].append((time.perf_counter() - start) * 1000)
    return {"size": size, "milliseconds": {way: spread(taken) for way, taken in times.items()}}


def nms(count: int) -> dict[str, Work]:
    """Final NMS over random candidates, 400 of each class; and one pass over them all."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1200, (count, 2))
    boxes = torch.from_numpy(np.concatenate((low, low + rng.uniform(5, 130, (count, 2))), 1).astype(np.float32))
    scores, labels = torch.from_numpy(rng.random(count).astype(np.float32)), torch.arange(count) // PER_CLASS
    valid = torch.ones(1, count, dtype=torch.bool)
    apart = boxes + (labels * (boxes.max() + 1))[:, None]
    return {
        "ours": lambda: grouped_nms(boxes[None], scores[None], labels[None], valid, RULE, 100),
        "one_pass": lambda: one_pass(apart, scores, RULE.iou),
    }


def names(count: int) -> Work:
    """Categories of so many names, checked."""
    return lambda: Categories.numbered(count)


def plot(count: int) -> Work:
    """Random boxes drawn on a grey image."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, (WIDTH - 20, HEIGHT - 20), (count, 2))
    boxes = np.concatenate((low, (low + rng.uniform(10, 200, (count, 2))).clip(max=(WIDTH, HEIGHT))), 1)
    detections = Detections(
        torch.from_numpy(boxes),
        torch.from_numpy(rng.random(count)),
        torch.from_numpy(rng.integers(0, 80, count)),
        (HEIGHT, WIDTH),
    )
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    return lambda: detections.plot(image)


if __name__ == "__main__":
    main()
