"""Speed of an entry: images per second by batch size, stage by stage, on fixed images.

Everything from resizing to the encoded masks counts; decoding only of images that are given as files.  Rounds over the
images are repeated until the median has settled, or a bound is met.
"""

import resource
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cascadezoo.benchmarks.reports.schema import BatchSpeed, Precision, SpeedTiming, Spread
from cascadezoo.benchmarks.verify.sensors import watched
from cascadezoo.benchmarks.verify.timing import Clock, timed
from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detections import to_coco_of
from cascadezoo.detector import Detector, OptimizedDetector
from cascadezoo.devices import arithmetic
from cascadezoo.images import read_image
from cascadezoo.modeling.postprocess import select

Frame: TypeAlias = NDArray[np.uint8] | Path  # decoded, (H, W, 3) RGB, or a file to decode

DECODE = "decode"
STAGES = ("preprocess", "backbone+neck", "rpn", "box stages", "masks", "postprocess")


class Bounds(NamedTuple):
    """When to stop: after ``least`` seconds, once the medians of the last ``window`` rounds are within ``settled`` of
    each other, or a bound is met."""

    warm_ups: int = 2
    window: int = 3
    settled: float = 0.02
    rounds: int = 20
    seconds: float = 120.0
    least: float = 0.0


@torch.inference_mode()
def measure(
    model: Detector,
    images: Sequence[Frame],
    batch_size: int,
    precision: Precision = "fp32",
    bounds: Bounds | None = None,
    least: float = 0.0,
) -> SpeedTiming:
    """The speed at batch 1 and at ``batch_size``, on uint8 (H, W, 3) RGB images of any sizes, or on image files.

    ``least``: seconds that each batch size is timed for at least.

    A batch is filled with copies of one image: what is timed is never the padding.  Where a batch does not fit the
    device's memory it is left out, and a note says so.
    """
    batches, notes = [], []
    bounds = (bounds or Bounds())._replace(least=least)
    for size in sorted({1, batch_size}):
        try:
            with arithmetic(next(model.parameters()).device, precision):
                batches.append(_measure(model, images, size, bounds))
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            notes.append(f"out of memory with {size} images at a time: not timed")
    return SpeedTiming(images=len(images), batches=tuple(batches), notes=tuple(notes))


def _measure(model: Detector, images: Sequence[Frame], size: int, bounds: Bounds) -> BatchSpeed:
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(bounds.warm_ups):
        run_stages(model, [images[0]] * size)
    rounds: list[float] = []
    clocks: list[Clock] = []
    with watched(device) as watch:
        start = time.perf_counter()
        while True:
            latest = [run_stages(model, [image] * size) for image in images]
            clocks += [clock for clock, _ in latest]
            rounds.append(statistics.median(sum(clock.values()) for clock, _ in latest))
            spent = time.perf_counter() - start
            is_enough = len(rounds) >= bounds.rounds or spent > bounds.seconds or is_settled(rounds, bounds)
            if is_enough and spent >= bounds.least:
                break
    detections = statistics.mean(number for _, number in latest) / size
    stages = (DECODE, *STAGES) if DECODE in clocks[0] else STAGES
    total = spread([sum(clock.values()) for clock in clocks])
    return BatchSpeed(
        batch_size=size,
        fps=round(1000 * size / total.median, 3),
        total_ms=total,
        stages_ms={stage: spread([clock[stage] for clock in clocks]) for stage in stages},
        detections=round(detections, 1),
        runs=len(clocks),
        stable=is_settled(rounds, bounds),
        peak_bytes=peak_memory(device),
        sensors=watch.sensors(),
    )


def is_settled(rounds: Sequence[float], bounds: Bounds) -> bool:
    """Whether the last medians agree."""
    last = rounds[-bounds.window :]
    return len(last) == bounds.window and max(last) <= min(last) * (1 + bounds.settled)


def run_stages(model: Detector, images: Sequence[Frame]) -> tuple[Clock, int]:
    """One batch of images of one size, masks encoded: seconds of each stage, and detections.

    Files are decoded, one after another, which is a stage of its own.  An optimised model computes as it was asked to,
    but without CUDA graphs, which hold several stages at once.
    """
    with model.settings.arithmetic() if isinstance(model, OptimizedDetector) else nullcontext():
        return _run_stages(model, images)


def _run_stages(model: Detector, images: Sequence[Frame]) -> tuple[Clock, int]:
    device = next(model.parameters()).device
    clock: Clock = {}
    decoded = [image for image in images if not isinstance(image, Path)]
    if len(decoded) < len(images):
        with timed(clock, DECODE, device):
            decoded = [read_image(image) if isinstance(image, Path) else image for image in images]
    with timed(clock, "preprocess", device):
        resized = [model.resize(image) for image in decoded]
        batch = model.prepare(resized)
    with timed(clock, "backbone+neck", device):
        features = model.extract(batch.pixels)
    with timed(clock, "rpn", device):
        proposals = model.rpn(features, batch.sizes)
    with timed(clock, "box stages", device):
        scored = model.refine(features, proposals, batch.sizes)
    with timed(clock, "postprocess", device):
        detections = select(scored, batch, model.spec.stages[-1], model.spec.conventions.selection)
        host = detections.on_host()
        detections = detections.trim(host.rows)
    with timed(clock, "masks", device):
        detections = model.segment(features, detections)
    with timed(clock, "postprocess", device):
        sizes = [image.original_size for image in resized]
        to_coco_of(model.detections(detections, host, sizes), range(len(sizes)))
    return clock, int(host.counts.sum())


def spread(seconds: Sequence[float]) -> Spread:
    """Median, extremes, quartiles and the highest percentiles, in milliseconds."""
    q1, median, q3, p90, p99 = np.quantile(seconds, (0.25, 0.5, 0.75, 0.9, 0.99)) * 1000
    numbers = {"median": median, "min": 1000 * min(seconds), "max": 1000 * max(seconds), "q1": q1, "q3": q3}
    numbers |= {"p90": p90, "p99": p99}
    return Spread(**{key: round(float(value), 3) for key, value in numbers.items()})


def peak_memory(device: torch.device) -> int:
    """The device's highest use in this measurement; on the CPU, of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
