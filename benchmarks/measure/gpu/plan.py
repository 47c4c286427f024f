"""The parts, most worth first, and how the time is shared among them."""

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """``share`` of the time, beside the shares of the parts after it; with less than ``least`` seconds it is not begun:
    a process takes some of them to import torch and to find the GPU."""

    name: str
    share: float
    least: float
    about: str


PARTS = (
    Part("build", 0.10, 20, "the operators compiled for this GPU"),
    Part("ops", 0.24, 30, "every operator's tests on the GPU, and compute-sanitizer"),
    Part("sync", 0.05, 15, "waits for the GPU inside the network"),
    Part("graph", 0.10, 20, "the optimized model as a CUDA graph beside the eager one"),
    Part("latency", 0.14, 30, "one image, by precision, beside torchvision"),
    Part("parity", 0.22, 30, "recorded cases of the publishers' code"),
    Part("throughput", 0.08, 30, "batches of 4 and 8"),
    Part("training", 0.07, 30, "steps of training"),
)


def chosen(only: str | None) -> list[Part]:
    """The parts of a list of names with commas, most worth first; None: all.

    Raises:
        ValueError: there is no part of such a name.
    """
    if only is None:
        return list(PARTS)
    names = [name.strip() for name in only.split(",")]
    known = [part.name for part in PARTS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no part {unknown[0]!r}: the parts are {', '.join(known)}")
    return [part for part in PARTS if part.name in names]


def seconds_for(part: Part, after: Sequence[Part], left: float) -> float:
    """The seconds that a part gets of those that are left for it and the parts after it: its share of them, so that
    what one does not use goes to the others."""
    return left * part.share / (part.share + sum(other.share for other in after))
