"""The least time that a GPU needs for a network: its products counted, against what the card can do.

Counted (``measure.products``) are floating-point operations of convolutions and matrix products, and the numbers that
each of these reads and writes once.  An operator takes at least the longer of computing and moving; a stage the sum of
its operators.  What has no products counts nothing, so no implementation can be faster than this.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.products import Work
from cascadezoo.benchmarks.verify.timing import now

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}


class Peaks(NamedTuple):
    """What a card does in a second: operations by precision, and bytes to and from its memory."""

    flops: dict[str, float]
    bytes: float
    source: str


def _sheet(half: float, tf32: float, fp32: float, terabytes: float) -> Peaks:
    flops = {"fp32": fp32 * 1e12, "tf32": tf32 * 1e12, "fp16": half * 1e12, "bf16": half * 1e12}
    return Peaks(flops, terabytes * 1e12, "NVIDIA's data sheet, without sparsity")


CARDS = {  # by torch's name of the device: TFLOP/s in half types, TF32 and float32; TB/s
    "NVIDIA H100 80GB HBM3": _sheet(989.4, 494.7, 66.9, 3.35),
    "NVIDIA H100 PCIe": _sheet(756, 378, 51, 2.0),
    "NVIDIA H200": _sheet(989.4, 494.7, 66.9, 4.8),
    "NVIDIA A100-SXM4-40GB": _sheet(312, 156, 19.5, 1.555),
    "NVIDIA A100-SXM4-80GB": _sheet(312, 156, 19.5, 2.039),
    "NVIDIA A100 80GB PCIe": _sheet(312, 156, 19.5, 1.935),
}


def bound(works: Sequence[Work], precision: str, peaks: Peaks) -> float:
    """The least milliseconds of some operators."""
    flops, size = peaks.flops[precision], BYTES[precision]
    return 1000 * sum(max(work.flops / flops, work.numbers * size / peaks.bytes) for work in works)


@torch.inference_mode()
def measured(device: torch.device, side: int = 8192, megabytes: int = 1024, runs: int = 5) -> Peaks:
    """What this device does: a product of two square matrices of ``side`` rows in each precision, and a copy."""
    flops = {}
    for precision in BYTES:
        left, right = torch.randn(2, side, side, device=device).unbind()
        if BYTES[precision] == 2:
            left, right = (x.to(torch.float16 if precision == "fp16" else torch.bfloat16) for x in (left, right))
        with computing(device, precision):
            flops[precision] = 2 * side**3 / _best(device, runs, left, right)
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _best(device, runs, source, target, copy=True)
    return Peaks(flops, 2 * source.numel() / seconds, "measured: a product of matrices, a copy")


def _best(device: torch.device, runs: int, one: Tensor, other: Tensor, copy: bool = False) -> float:
    """The seconds of the fastest of some runs after one that warms up."""
    seconds = []
    for _ in range(runs + 1):
        start = now(device)
        if copy:
            other.copy_(one)
        else:
            one @ other
        seconds.append(now(device) - start)
    return min(seconds[1:])


def peaks_of(device: torch.device) -> dict[str, Peaks]:
    """``measured`` always, and ``card`` where there is a data sheet of it."""
    found = {"measured": measured(device)}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return ({"card": CARDS[name]} if name in CARDS else {}) | found
