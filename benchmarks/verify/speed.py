"""Speed of an entry: images per second by batch size, stage by stage, on fixed images already decoded.

Everything from resizing to the encoded masks counts, decoding does not.  Rounds over the images are repeated until
the median has settled, or a bound is met.
"""

import resource
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cascadezoo.benchmarks.reports.schema import BatchSpeed, Precision, SpeedTiming, Spread
from cascadezoo.benchmarks.verify.timing import Clock, timed
from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detector import Detector
from cascadezoo.devices import arithmetic
from cascadezoo.modeling.postprocess import select

STAGES = ("preprocess", "backbone+neck", "rpn", "box stages", "masks", "postprocess")


class Bounds(NamedTuple):
    """When to stop: medians of the last ``window`` rounds within ``settled`` of each other, or a bound is met."""

    warm_ups: int = 2
    window: int = 3
    settled: float = 0.02
    rounds: int = 20
    seconds: float = 120.0


@torch.inference_mode()
def measure(
    model: Detector,
    images: Sequence[NDArray[np.uint8]],
    batch_size: int,
    precision: Precision = "fp32",
    bounds: Bounds | None = None,
) -> SpeedTiming:
    """The speed at batch 1 and at ``batch_size``, on uint8 (H, W, 3) RGB images of any sizes.

    A batch is filled with copies of one image: what is timed is never the padding.  Where a batch does not fit the
    device's memory it is left out, and a note says so.
    """
    batches, notes = [], []
    for size in sorted({1, batch_size}):
        try:
            with arithmetic(next(model.parameters()).device, precision):
                batches.append(_measure(model, images, size, bounds or Bounds()))
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            notes.append(f"out of memory with {size} images at a time: not timed")
    return SpeedTiming(images=len(images), batches=tuple(batches), notes=tuple(notes))


def _measure(model: Detector, images: Sequence[NDArray[np.uint8]], size: int, bounds: Bounds) -> BatchSpeed:
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(bounds.warm_ups):
        run_stages(model, [images[0]] * size)
    rounds: list[float] = []
    clocks: list[Clock] = []
    detections = 0.0
    start = time.perf_counter()
    while len(rounds) < bounds.rounds and not is_settled(rounds, bounds):
        latest = [run_stages(model, [image] * size) for image in images]
        clocks += [clock for clock, _ in latest]
        rounds.append(statistics.median(sum(clock.values()) for clock, _ in latest))
        detections = statistics.mean(number for _, number in latest) / size
        if time.perf_counter() - start > bounds.seconds:
            break
    total = spread([sum(clock.values()) for clock in clocks])
    return BatchSpeed(
        batch_size=size,
        fps=round(1000 * size / total.median, 3),
        total_ms=total,
        stages_ms={stage: spread([clock[stage] for clock in clocks]) for stage in STAGES},
        detections=round(detections, 1),
        runs=len(clocks),
        stable=is_settled(rounds, bounds),
        peak_bytes=peak_memory(device),
    )


def is_settled(rounds: Sequence[float], bounds: Bounds) -> bool:
    """Whether the last medians agree."""
    last = rounds[-bounds.window :]
    return len(last) == bounds.window and max(last) <= min(last) * (1 + bounds.settled)


def run_stages(model: Detector, images: Sequence[NDArray[np.uint8]]) -> tuple[Clock, int]:
    """One batch of uint8 (H, W, 3) RGB images of one size, masks encoded: seconds of each stage, and detections."""
    device = next(model.parameters()).device
    clock: Clock = {}
    with timed(clock, "preprocess", device):
        resized = [model.resize(image) for image in images]
        batch = model.prepare(resized)
    with timed(clock, "backbone+neck", device):
        features = model.extract(batch.pixels)
    with timed(clock, "rpn", device):
        proposals = model.rpn(features, batch.sizes)
    with timed(clock, "box stages", device):
        scored = model.refine(features, proposals, batch.sizes)
    with timed(clock, "postprocess", device):
        detections = select(scored, batch, model.spec.stages[-1], model.spec.conventions.selection).trim()
    with timed(clock, "masks", device):
        detections = model.segment(features, detections)
    with timed(clock, "postprocess", device):
        for row, image in enumerate(resized):
            model.detections(detections, row, image.original_size).to("cpu").to_coco(row)
    return clock, int(detections.counts.sum())


def spread(seconds: Sequence[float]) -> Spread:
    """Median, extremes and quartiles, in milliseconds."""
    q1, median, q3 = np.quantile(seconds, (0.25, 0.5, 0.75)) * 1000
    numbers = {"median": median, "min": 1000 * min(seconds), "max": 1000 * max(seconds), "q1": q1, "q3": q3}
    return Spread(**{key: round(float(value), 3) for key, value in numbers.items()})


def peak_memory(device: torch.device) -> int:
    """The device's highest use in this measurement; on the CPU, of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
