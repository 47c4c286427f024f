"""Masks that are made of several: what tiles show of one object, each part with a box of its own.

Shapes: N detections, P parts of all of them together, M x M cells per part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MaskParts:
    """In place of probabilities (N, M, M), where a detection's mask is all that one or more parts set.

    Rows are chosen, counted and moved as those of a tensor are, each with its parts.

    Attributes:
        probabilities: (P, M, M), the parts of one detection after those of another.
        boxes: (P, 4) xyxy pixels, which the parts spread over.
        counts: (N,) int64 on the host, the parts of each detection.
    """

    probabilities: Tensor
    boxes: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, chosen: slice | Tensor) -> "MaskParts":
        numbers = torch.arange(len(self))[chosen if isinstance(chosen, slice) else chosen.cpu()]
        counts, ends = self.counts[numbers], self.counts.cumsum(0)[numbers]
        # numbers of the chosen rows' parts: of each row as far on as its first part lies from where it is to be
        offsets = (ends - counts) - (counts.cumsum(0) - counts)
        parts = (torch.arange(int(counts.sum())) + offsets.repeat_interleave(counts)).to(self.device)
        return MaskParts(self.probabilities[parts], self.boxes[parts], counts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, M, M)."""
        return len(self), self.probabilities.shape[1], self.probabilities.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.boxes.device

    def to(self, device: str | torch.device) -> "MaskParts":
        """The same parts on ``device``."""
        return MaskParts(self.probabilities.to(device), self.boxes.to(device), self.counts)


def joined(masks: Sequence[Tensor | MaskParts], boxes: Sequence[Tensor]) -> Tensor | MaskParts:
    """The rows of several, of one device and one M, one after the other; ``boxes``: of each, (N, 4) xyxy, which those
    that are a tensor spread over."""
    tensors = [each for each in masks if isinstance(each, Tensor)]
    if len(tensors) == len(masks):
        return torch.cat(tensors)
    parts = [
        MaskParts(each, own, torch.ones(len(each), dtype=torch.int64)) if isinstance(each, Tensor) else each
        for each, own in zip(masks, boxes, strict=True)
    ]
    return MaskParts(
        *(torch.cat(each) for each in zip(*((p.probabilities, p.boxes, p.counts) for p in parts), strict=True))
    )
