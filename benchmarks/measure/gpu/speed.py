"""Rows of latency and throughput: ways in turn in one process, and how near each comes to the least time."""

from typing import Any

import torch

from cascadezoo.benchmarks.measure.computing import PRECISIONS
from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.gpu.roofline import Peaks, bound, peaks_of
from cascadezoo.benchmarks.measure.latency import Images, random_model, scene, torchvision_model
from cascadezoo.benchmarks.measure.products import Work, count
from cascadezoo.benchmarks.measure.ways import (
    EAGER,
    OPTIMIZED,
    SPANS,
    TORCHVISION,
    Way,
    compared,
    eager,
    optimize,
    optimized,
    row,
    torchvisions,
    warmed,
)
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.detector import Detector
from cascadezoo.ops.library import COMPILED

HEADLINE = "cascade_mask_r50_fpn_1x.mmdet"
ENTRIES = (  # one of each kind of network, most worth first
    HEADLINE,
    "cascade_mask_internimage_l_fpn_1x.internimage",
    "cascade_mask_x101_64x4d_fpn_1x.mmdet",
    "mask_r50_c4_1x.paddle",
    "faster_r50_fpn_1x.detectron",
    "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron",
)
SIZE = (480, 800)  # of the image, which the publishers' resize takes to 800 x 1333
THEIRS = ("fp32", "tf32", "fp16")  # torchvision's precisions
TARGETS = {  # by name: what is at least so many times faster than what
    "fp16 beside our own eager float32": ((OPTIMIZED, "fp16"), (EAGER, "fp32"), 4.0),
    "fp16 beside torchvision's Mask R-CNN in fp16": ((OPTIMIZED, "fp16"), (TORCHVISION, "fp16"), 2.0),
}


def begin(report: Report, device: torch.device) -> dict[str, Peaks]:
    """Write down what all rows share, and find what the device can do."""
    peaks = peaks_of(device)
    report.data |= {
        "image": list(SIZE),
        "compiled_ops": list(COMPILED),
        "threads": torch.get_num_threads(),
        "peaks": {name: peak._asdict() for name, peak in peaks.items()},
    }
    report.write()
    return peaks


def measure(
    report: Report, entry: str, batch_size: int, device: torch.device, peaks: dict[str, Peaks], runs: int, theirs: bool
) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Rows of an entry at a batch size, in all precisions, optimized and not; ``theirs``: torchvision's beside them.

    Returns the times of each way and precision.  A way that cannot be made is a failure that leaves the others alone.
    """
    image = scene(*SIZE)
    images = [image] * batch_size
    model = random_model(entry, image, device)
    ways = made(report, f"{entry}, batch {batch_size}", model, images, device, theirs)
    times = compared(ways, device, runs)
    padded = model.prepare([model.resize(image)]).pixels.shape[2:]
    stages = count(model.spec, (padded[0], padded[1]), batch_size)
    for way, of_way in zip(ways, times, strict=True):
        found = {"batch_size": batch_size, "network_input": list(padded), **row(way, of_way)}
        found["images_per_second"] = round(1000 * batch_size / found["whole_ms"]["median"], 2)
        if way.name == TORCHVISION:
            found["entry"] = "maskrcnn_resnet50_fpn"
        else:
            least = {
                name: {stage: round(bound(works, way.precision, peak), 4) for stage, works in stages.items()}
                for name, peak in peaks.items()
            }
            total = sum(next(iter(least.values())).values())
            found |= {"entry": entry, "gflop": _gflop(stages), "roofline": least, "roofline_ms": round(total, 3)}
            found["share_of_roofline"] = round(total / found["network_ms"]["median"], 3)
        report.data["rows"].append(found)
    report.write()
    return {(way.name, way.precision): of_way for way, of_way in zip(ways, times, strict=True)}


def _gflop(stages: dict[str, list[Work]]) -> dict[str, float]:
    return {stage: round(sum(work.flops for work in works) / 1e9, 1) for stage, works in stages.items()}


def made(report: Report, what: str, model: Detector, images: Images, device: torch.device, theirs: bool) -> list[Way]:
    """The ways that can be made and run."""
    ways: list[Way] = []
    for precision in PRECISIONS:
        with report.attempt(f"{what}, eager, {precision}"):
            ways.append(warmed(eager(model, precision, images, device)))
        with report.attempt(f"{what}, optimized, {precision}"):
            ways.append(warmed(optimized(optimize(model, precision, device), precision, images)))
    if theirs:
        network = torchvision_model(images[0], device)
        for precision in THEIRS:
            with report.attempt(f"{what}, torchvision, {precision}"):
                ways.append(warmed(torchvisions(precision, images, device, network)))
    return ways


def targets(times: dict[tuple[str, str], dict[str, list[float]]]) -> dict[str, Any]:
    """How many times faster each way of ``TARGETS`` is than its yardstick, run by run, and whether the median of that
    is enough; None where a way was not measured."""
    found: dict[str, Any] = {}
    for name, (ours, other, least) in TARGETS.items():
        if ours not in times or other not in times:
            found[name] = None
            continue
        ratios = {
            span: spread([b / a for a, b in zip(times[ours][span], times[other][span], strict=True)]) for span in SPANS
        }
        met = {span: ratio["median"] >= least for span, ratio in ratios.items()}
        found[name] = {"least": least, "times_faster": ratios, "met": met}
    return found
