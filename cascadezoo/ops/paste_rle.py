"""Masks pasted into an image straight to run lengths, by one operator: nothing waits for the host between them.

Shapes: D detections, M x M cells per mask, an image of H x W pixels.
"""

import torch
from torch import Tensor

from cascadezoo.coco.rle import run_ends
from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define
from cascadezoo.ops.mask_paste import PASTE
from cascadezoo.spec.conventions import MaskPaste


def countable(height: int, width: int) -> bool:
    """Whether an image's rows and columns can be counted in float32, and its pixels in int32."""
    return max(height, width) <= 2**24 and height * width < 2**31


def default_cap(width: int) -> int:
    """Runs enough for the masks that networks make: four per column of an image."""
    return max(64, 4 * width)


def most_runs(side: int, width: int) -> int:
    """Room for the runs of any mask of ``side`` x ``side`` cells: down a column of the image, what is interpolated
    between cells crosses the threshold once between two of them, and at either edge."""
    return (side + 2) * width


def paste_rle(
    probabilities: Tensor, boxes: Tensor, height: int, width: int, method: MaskPaste, cap: int | None = None
) -> tuple[Tensor, Tensor]:
    """Where the runs of each detection's mask end (``cascadezoo.coco.rle.run_ends``), as ``PASTE[method]`` pastes it.

    Args:
        probabilities: (D, M, M) floating point in 0..1.
        boxes: (D, 4) xyxy pixels.
        height, width: of the image, which must be ``countable``.
        cap: runs of a mask that there is room for; None: ``default_cap``.

    Returns:
        ``ends`` (D, cap) int32, zero beyond each mask's runs, and ``counts`` (D,) int32: how many runs it has, or -1
        for a mask that the caller has to paste: one of more runs than ``cap``; from a compiled operator also one whose
        integer box has more than four times the image's pixels, and more than 2^22; and from that for a CPU also one
        more than 2^22 of whose pixels are NaN or lie so near the threshold that each has to be computed.

    Raises:
        UsageError: the image is larger.
    """
    if not countable(height, width):
        raise UsageError(f"paste_rle: an image of {height} x {width}: give at most 2^24 pixels a side, 2^31 - 1 in all")
    cap = default_cap(width) if cap is None else cap
    integer_box = method is MaskPaste.INTEGER_BOX
    ends, counts = torch.ops.cascadezoo.paste_rle(probabilities, boxes, height, width, integer_box, cap)
    return ends, counts


def _reference(
    probabilities: Tensor, boxes: Tensor, height: int, width: int, integer_box: bool, cap: int
) -> tuple[Tensor, Tensor]:
    paste = PASTE[MaskPaste.INTEGER_BOX if integer_box else MaskPaste.BILINEAR]
    ends = torch.zeros(len(boxes), cap, dtype=torch.int32)
    counts = torch.full((len(boxes),), -1, dtype=torch.int32)
    for index, (top, left, mask) in enumerate(paste(probabilities, boxes, height, width)):
        runs = run_ends(mask.cpu().numpy(), top, left, height, width)
        if len(runs) <= cap:
            ends[index, : len(runs)] = torch.from_numpy(runs)
            counts[index] = len(runs)
    return ends.to(boxes.device), counts.to(boxes.device)


def _fake(
    probabilities: Tensor, boxes: Tensor, height: int, width: int, integer_box: bool, cap: int
) -> tuple[Tensor, Tensor]:
    detections = boxes.shape[0]
    return boxes.new_empty(detections, cap, dtype=torch.int32), boxes.new_empty(detections, dtype=torch.int32)


define(
    "paste_rle(Tensor probabilities, Tensor boxes, SymInt height, SymInt width, bool integer_box, SymInt cap)"
    " -> (Tensor, Tensor)",
    _reference,
    _fake,
    compiled=("cpu", "cuda"),
)
