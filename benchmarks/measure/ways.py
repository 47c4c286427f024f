"""The ways to detect that are compared: our network as it is, optimized, and torchvision's Mask R-CNN.

Two spans are timed, each as it runs, with no wait for the device inside that the program itself does not need:

network  ours: resized images on the host to detections on the host; torchvision's: prepared pixels on the device to its
         detections, before it pastes their masks
whole    images on the host to detections, ours with masks as run lengths, torchvision's with pasted masks
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.latency import (
    Images,
    our_stages,
    our_whole,
    their_input,
    their_stages,
    their_whole,
)
from cascadezoo.benchmarks.verify.speed import STAGES
from cascadezoo.benchmarks.verify.timing import Clock, now, spread
from cascadezoo.detector import Detector

EAGER, OPTIMIZED, TORCHVISION = "eager", "optimized", "torchvision"
SPANS = ("network", "whole")
WARM_UPS, FENCED_RUNS = 3, 5


class Way(NamedTuple):
    """One way to detect in one precision; ``stages``: with a wait for the device around each, where it has any."""

    name: str
    precision: str
    arithmetic: Callable[[], AbstractContextManager[None]]
    network: Callable[[], object]
    whole: Callable[[], object]
    stages: Callable[[], Clock] | None = None


def eager(model: Detector, precision: str, images: Images, device: torch.device) -> Way:
    """Our network with weights of float32; half types by autocast, as ``verify`` computes."""
    resized = [model.resize(image) for image in images]
    return Way(
        EAGER,
        precision,
        partial(computing, device, precision),
        partial(model.detect, resized),
        partial(our_whole, model, images),
        partial(our_stages, model, images),
    )


def optimize(model: Detector, precision: str, device: torch.device, graph: bool = True) -> Detector:
    """``model.optimize``; on a GPU, unless ``graph`` is false, as a CUDA graph."""
    given: Any = model
    ready: Detector = given.optimize(device=device, precision=precision, cuda_graph=graph and device.type == "cuda")
    return ready


def optimized(ready: Detector, precision: str, images: Images) -> Way:
    """An optimized model, which brings its own arithmetic."""
    resized = [ready.resize(image) for image in images]
    return Way(OPTIMIZED, precision, nullcontext, partial(ready.detect, resized), partial(our_whole, ready, images))


def torchvisions(precision: str, images: Images, device: torch.device, model: Any) -> Way:
    """torchvision's ``maskrcnn_resnet50_fpn``; half types by autocast."""
    batch, _ = model.transform(their_input(images, device))

    def network() -> object:
        features = model.backbone(batch.tensors)
        proposals, _ = model.rpn(batch, features)
        return model.roi_heads(features, proposals, batch.image_sizes)

    return Way(
        TORCHVISION,
        precision,
        partial(computing, device, precision),
        network,
        partial(their_whole, model, images, device),
        partial(their_stages, model, images, device),
    )


@torch.inference_mode()
def warmed(way: Way) -> Way:
    """The same way, once it has run: kernels are chosen, graphs recorded."""
    with way.arithmetic():
        for _ in range(WARM_UPS):
            way.network()
            way.whole()
    return way


@torch.inference_mode()
def compared(ways: Sequence[Way], device: torch.device, runs: int) -> list[dict[str, list[float]]]:
    """Milliseconds of each span of each way, over ``runs`` runs of all ways in turn; and of the fenced stages."""
    times: list[dict[str, list[float]]] = [{span: [] for span in SPANS} for _ in ways]
    for _ in range(runs):
        for way, of_way in zip(ways, times, strict=True):
            with way.arithmetic():
                of_way["network"].append(span_ms(way.network, device))
                of_way["whole"].append(span_ms(way.whole, device))
    for way, of_way in zip(ways, times, strict=True):
        if way.stages is not None:
            with way.arithmetic():
                clocks = [way.stages() for _ in range(FENCED_RUNS)]
            of_way |= {stage: [1000 * clock[stage] for clock in clocks] for stage in STAGES}
            of_way["detections"] = [clock["detections"] for clock in clocks]
    return times


def span_ms(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call; on a GPU between two events of its stream, both waited for at the end."""
    if device.type != "cuda":
        start = now(device)
        call()
        return 1000 * (now(device) - start)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    call()
    ended.record()
    ended.synchronize()
    milliseconds: float = began.elapsed_time(ended)
    return milliseconds


def row(way: Way, times: dict[str, list[float]]) -> dict[str, Any]:
    """What a report says of a way."""
    found: dict[str, Any] = {"way": way.name, "precision": way.precision, "runs": len(times["whole"])}
    found |= {f"{span}_ms": spread(times[span]) for span in SPANS}
    if way.stages is not None:
        found["stages_ms"] = {stage: spread(times[stage]) for stage in STAGES}
        found["detections"] = round(times["detections"][0])
    return found
