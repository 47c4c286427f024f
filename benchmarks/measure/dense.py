"""What the training targets of dense images take: ``python -m cascadezoo.benchmarks.measure.dense``.

An image of 800 x 1333 with more and more objects.  Its anchors are matched in chunks, as training does it, and as one
matrix of all IoUs, the same rule in its plainest form: seconds, and the highest memory above that of the inputs, in
turn, each time in a process of its own.  Then a training sample as a worker process sends it: bytes of its masks, kept
inside their windows, beside those of bitmaps over the whole image.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cascadezoo.benchmarks.measure import training
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.environment import process_memory, write_report
from cascadezoo.losses.assign import BACKGROUND, NEITHER, match
from cascadezoo.ops.anchors import grid_anchors
from cascadezoo.ops.boxes import pairwise_iou
from cascadezoo.providers import SPECS
from cascadezoo.spec.objective import Matching
from cascadezoo.spec.recipe import Augmentation
from cascadezoo.training.loader import TrainingSet

HEIGHT, WIDTH = 800, 1333
OBJECTS = (25, 100, 400)
SPEC = SPECS["mmdet"]["cascade_mask_r50_fpn"]


def inputs(objects: int) -> tuple[Tensor, Tensor]:
    """All anchors (A, 4) of the image, and objects (T, 4) of 16 to 300 pixels."""
    grid, device = SPEC.conventions.anchors, torch.device("cpu")
    anchors = torch.cat(grid_anchors([(-(-HEIGHT // s), -(-WIDTH // s)) for s in grid.strides], grid, device))
    generator = torch.Generator().manual_seed(0)
    sides = 16 + 284 * torch.rand(objects, 2, generator=generator)
    corners = (torch.tensor([WIDTH, HEIGHT]) - sides) * torch.rand(objects, 2, generator=generator)
    return anchors, torch.cat((corners, corners + sides), 1)


def match_whole(boxes: Tensor, objects: Tensor, rule: Matching, extent: int) -> Tensor:
    """``match`` on the matrix (R, T) of all IoUs at once."""
    iou = pairwise_iou(boxes, objects, extent)
    most, of = iou.max(1)
    matched = torch.where(most >= rule.positive, of, NEITHER).masked_fill(most < rule.negative, BACKGROUND)
    if rule.best is None:
        return matched
    best = iou.amax(0)
    is_best = (iou == best) & (best >= rule.best.least) & (best > 0)
    if rule.best.taken:
        of = (is_best * torch.arange(1, len(objects) + 1)).amax(1) - 1
    return torch.where(is_best.any(1), of, matched)


WAYS: dict[str, Callable[[Tensor, Tensor, Matching, int], Tensor]] = {"chunks": match, "whole": match_whole}


def measure(way: str, objects: int) -> dict[str, Any]:
    """Match once in this process: seconds, bytes at the highest, and how many anchors became positive."""
    torch.set_num_threads(1)
    anchors, boxes = inputs(objects)
    rule = SPEC.objective.rpn.matching
    WAYS[way](anchors[:1000], boxes[:1], rule, 0)  # what the first call alone takes
    before = process_memory("VmRSS")
    start = time.perf_counter()
    matched = WAYS[way](anchors, boxes, rule, 0)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_bytes": max(0, process_memory("VmHWM") - before),
        "matched": [int((matched >= 0).sum()), int(matched.clamp(min=0).sum())],
    }


def run_fresh(way: str, objects: int) -> dict[str, Any]:
    """What ``measure`` finds in a process of its own."""
    code = (
        "import json, sys; from cascadezoo.benchmarks.measure.dense import measure; "
        "print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, way, str(objects)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def matching(objects: int, runs: int) -> dict[str, Any]:
    """Both ways in turn, ``runs`` times."""
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way, rows in results.items():
            rows.append(run_fresh(way, objects))
    chunks, whole = results.values()
    return {
        "seconds": {way: spread([row["seconds"] for row in rows]) for way, rows in results.items()},
        "peak_bytes": {way: max(row["peak_bytes"] for row in rows) for way, rows in results.items()},
        "times_faster": spread([w["seconds"] / c["seconds"] for c, w in zip(chunks, whole, strict=True)]),
        "equal": all(row["matched"] == chunks[0]["matched"] for row in (*chunks, *whole)),
    }


def sample(folder: Path, objects: int) -> dict[str, Any]:
    """One training sample with masks: its bytes, and the seconds that a worker takes for it."""
    data = CocoDataset(*training.generate(folder, 1, objects, (HEIGHT, WIDTH)))
    training_set = TrainingSet(data, SPEC, Augmentation(flip=0), seed=0)
    start = time.perf_counter()
    targets = training_set.sample(0, 0).targets
    seconds = time.perf_counter() - start
    if targets.masks is None:
        raise ValueError(f"a network with masks is needed, which {SPEC.backbone.kind} has not")
    height, width = targets.masks.size
    return {
        "seconds": round(seconds, 3),
        "mask_bytes": targets.masks.pixels.nbytes + targets.masks.windows.nbytes,
        "bitmap_bytes": len(targets.boxes) * height * width,
    }


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Time and memory of the training targets of dense images.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/dense_targets.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'objects':>8}{'seconds':>10}{'whole':>8}{'peak MiB':>10}{'whole':>8}{'masks MiB':>11}{'bitmaps':>9}")
    for objects in OBJECTS:
        with TemporaryDirectory(prefix="cascadezoo-") as folder:
            row: dict[str, Any] = {
                "objects": objects,
                "matching": matching(objects, options.runs),
                "sample": sample(Path(folder), objects),
            }
        rows.append(row)
        seconds, peak = row["matching"]["seconds"], row["matching"]["peak_bytes"]
        masks = row["sample"]
        print(
            f"{objects:8}{seconds['chunks']['median']:10.2f}{seconds['whole']['median']:8.2f}"
            f"{peak['chunks'] / 2**20:10.0f}{peak['whole'] / 2**20:8.0f}"
            f"{masks['mask_bytes'] / 2**20:11.1f}{masks['bitmap_bytes'] / 2**20:9.1f}",
            flush=True,
        )
    report = {
        "benchmark": "dense_targets",
        "image": [HEIGHT, WIDTH],
        "anchors": len(inputs(1)[0]),
        "threads": 1,
        "runs": options.runs,
        "rows": rows,
    }
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
