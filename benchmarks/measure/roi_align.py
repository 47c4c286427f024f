"""The compiled RoIAlign of the CPU beside torchvision's: ``python -m cascadezoo.benchmarks.measure.roi_align``.

At the shapes of an FPN network on an image of 800 x 1216: the boxes of an inference stage, its masks, and what one
training image samples, forward and backward.  Both run in turn within one process, on the same threads.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.errors import OpsNotBuilt
from cascadezoo.ops.library import COMPILED, STATUS
from cascadezoo.ops.roi_align import as_pooled

LEVEL, CHANNELS, STRIDE = (200, 304), 256, 4  # the finest level, which most boxes are pooled from
OURS, THEIRS = "compiled", "torchvision"
CPU = torch.device("cpu")


class Case(NamedTuple):
    """One use of the operator."""

    boxes: int
    resolution: int
    backward: bool


CASES = {
    "boxes": Case(1000, 7, False),
    "masks": Case(100, 14, False),
    "boxes, training": Case(512, 7, True),
    "masks, training": Case(128, 14, True),
}


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    """A level (1, C, H, W) and boxes (1, R, 4) of 8 to 112 pixels, as the finest level gets."""
    generator = torch.Generator().manual_seed(0)
    height, width = LEVEL
    side = 8 + 104 * torch.rand(case.boxes, 2, generator=generator)
    room = torch.tensor([width * STRIDE, height * STRIDE]) - side
    corner = room * torch.rand(case.boxes, 2, generator=generator)
    boxes = torch.cat((corner, corner + side), 1)[None]
    return torch.randn(1, CHANNELS, height, width, generator=generator), boxes


def contenders(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Each way to pool, or, for training, to pool and find the gradient of the features."""
    feature, boxes = inputs(case)
    channels_last, rois = as_pooled(feature), list(boxes)
    levels, scale, size = torch.zeros(boxes.shape[:2], dtype=torch.int64), 1 / STRIDE, case.resolution
    height, width = LEVEL

    def ours() -> Tensor:
        pooled: Tensor = torch.ops.cascadezoo.pyramid_roi_align([channels_last], boxes, levels, [scale], size, 0, True)
        if not case.backward:
            return pooled
        back = torch.ops.cascadezoo.pyramid_roi_align_backward
        gradient: Tensor = back(pooled, boxes, levels, [scale], 0, True, [height], [width])[0]
        return gradient

    def theirs() -> Tensor:
        pooled: Tensor = torchvision_roi_align(feature, rois, size, scale, 0, True)
        if not case.backward:
            return pooled
        back = torch.ops.torchvision._roi_align_backward
        rows = torch.cat((torch.zeros(case.boxes, 1), boxes[0]), 1)
        gradient: Tensor = back(pooled, rows, scale, size, size, 1, CHANNELS, *LEVEL, 0, True)
        return gradient

    return {OURS: ours, THEIRS: theirs}


@torch.inference_mode()
def measure_case(case: Case, runs: int) -> dict[str, Any]:
    """Milliseconds of each contender, and how many times faster the compiled one is, over runs taken in turn."""
    ways = contenders(case)
    clocks: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Tensor] = {}
    for run in range(runs + 1):
        for name, way in ways.items():
            start = now(CPU)
            results[name] = way()
            if run:
                clocks[name].append(1000 * (now(CPU) - start))
    ratios = [theirs / ours for ours, theirs in zip(clocks[OURS], clocks[THEIRS], strict=True)]
    difference = (results[OURS] - results[THEIRS]).abs().max() / results[THEIRS].abs().max()
    return {
        **case._asdict(),
        "milliseconds": {name: spread(each) for name, each in clocks.items()},
        "times_faster": spread(ratios),
        "largest_difference": float(difference),
    }


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="The compiled RoIAlign beside torchvision's, on the CPU.")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "roi_align.json")
    options = parser.parse_args()
    if "cpu" not in COMPILED:
        raise OpsNotBuilt(f"no compiled operators for the CPU ({STATUS['cpu']}): run `cascadezoo build-ops`")
    cases = {name: measure_case(case, options.runs) for name, case in CASES.items()}
    print(f"{'median ms':18}{OURS:>10}{THEIRS:>13}   times faster")
    for name, case in cases.items():
        ours, theirs = (case["milliseconds"][way]["median"] for way in (OURS, THEIRS))
        ratio = case["times_faster"]
        print(f"{name:18}{ours:10.1f}{theirs:13.1f}   {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})")
    report = {
        "benchmark": "roi_align",
        "feature": [1, *LEVEL, CHANNELS],
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "runs": options.runs,
        "cases": cases,
    }
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
