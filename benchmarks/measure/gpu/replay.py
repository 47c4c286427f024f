"""The optimized model as a CUDA graph: does a replay find what the eager network finds, and how much faster is it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cascadezoo.benchmarks.measure.computing import PRECISIONS, computing
from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.latency import random_model, scene
from cascadezoo.benchmarks.measure.ways import SPANS, compared, eager, optimize, optimized, row, warmed
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.ops.boxes import pairwise_iou
from cascadezoo.ops.library import COMPILED

ENTRIES = (
    "cascade_mask_r50_fpn_1x.mmdet",
    "cascade_mask_internimage_l_fpn_1x.internimage",
    "mask_r50_c4_1x.paddle",
    "cascade_mask_r50_fpn_1x.detectron",
)
SIZE = (480, 800)
ONE_ENTRY = 12.0  # seconds
RUNS = 20
# as tests/parity/compare.py has it: pairs of IoU 0.9 and more; what float32 must meet
SAME, MATCHED, SCORE, BOX = 0.9, 0.97, 1e-3, 0.1


def run(report: Report, device: torch.device, runs: int = RUNS) -> None:
    """A row for each entry and precision."""
    report.data |= {"image": list(SIZE), "compiled_ops": list(COMPILED)}
    for entry in ENTRIES:
        if report.has_time(entry, ONE_ENTRY):
            with report.attempt(entry):
                model = random_model(entry, scene(*SIZE), device)
                for precision in PRECISIONS:
                    with report.attempt(f"{entry}, {precision}"):
                        found = of_precision(model, precision, device, runs)
                        report.data["rows"].append({"entry": entry, "precision": precision, **found})
                        if wrong := departed(found, precision):
                            report.fail(f"{entry}, {precision}", wrong)


def of_precision(model: Detector, precision: str, device: torch.device, runs: int) -> dict[str, Any]:
    """What replays find on the image that the graph was recorded with, and on its mirror image, and the times of both
    ways: beside the optimized model without a graph, and beside the network as it is."""
    image = scene(*SIZE)
    ready, without = (optimize(model, precision, device, graph) for graph in (True, False))
    ways = [warmed(eager(model, precision, [image], device)), warmed(optimized(ready, precision, [image]))]
    times = compared(ways, device, runs)
    rows: dict[str, Any] = {"from_the_eager_network": [], "from_no_graph": []}
    for picture in (image, np.ascontiguousarray(image[:, ::-1])):
        found = detected(ready, picture)
        with computing(device, precision):
            rows["from_the_eager_network"].append(departure(found, detected(model, picture)))
        rows["from_no_graph"].append(departure(found, detected(without, picture)))
    ratios = {span: [a / b for a, b in zip(times[0][span], times[1][span], strict=True)] for span in SPANS}
    return {
        **rows,
        "ways": [row(way, of_way) for way, of_way in zip(ways, times, strict=True)],
        "times_faster": {span: spread(ratio) for span, ratio in ratios.items()},
    }


def detected(model: Detector, image: NDArray[np.uint8]) -> Detections:
    """The detections on an image, in whatever arithmetic is on."""
    (found,) = model.detect([model.resize(image)])
    return found


def departure(found: Detections, right: Detections) -> dict[str, Any]:
    """How far two sets of detections on an image are apart: the share of each that has its like in the other (of its
    label, with an IoU of ``SAME``), and the largest differences of those pairs in score and in pixels."""
    alike = pairwise_iou(found.boxes, right.boxes, 0) * (found.labels[:, None] == right.labels)
    pairs: list[tuple[int, int]] = []
    for i in range(len(found)):  # best scores first
        best = int(alike[i].argmax()) if len(right) else -1
        if best >= 0 and alike[i, best] >= SAME:
            pairs.append((i, best))
            alike[:, best] = 0
    ours, theirs = (
        torch.tensor(index, dtype=torch.int64) for index in (zip(*pairs, strict=True) if pairs else ((), ()))
    )
    scores = (found.scores.cpu()[ours] - right.scores.cpu()[theirs]).abs()
    boxes = (found.boxes.cpu()[ours] - right.boxes.cpu()[theirs]).abs()
    return {
        "found": len(found),
        "expected": len(right),
        "matched": round(len(pairs) / max(len(found), len(right), 1), 4),
        "score": float(scores.max()) if pairs else 0.0,
        "box": float(boxes.max()) if pairs else 0.0,
        "bit_equal": all(torch.equal(a, b) for a, b in zip(numbers(found), numbers(right), strict=True)),
    }


def numbers(found: Detections) -> list[torch.Tensor]:
    """What was detected, without masks."""
    return [found.boxes.cpu(), found.scores.cpu(), found.labels.cpu()]


def departed(found: dict[str, Any], precision: str) -> str | None:
    """What is farther apart than it may be: a replay from the same work without a graph, and in float32 from the eager
    network."""
    for beside in ("from_no_graph", *(["from_the_eager_network"] if precision == "fp32" else [])):
        for one in found[beside]:
            together = one["matched"] if max(one["found"], one["expected"]) else 1.0
            if together < MATCHED or one["score"] > SCORE or one["box"] > BOX:
                return f"a replay is too far {beside.replace('_', ' ')}: {one}"
    return None
