"""Masks that are made of several: what tiles show of one object, each part with a box of its own.

Shapes: N detections, P parts of all of them together, M x M cells per part, an image of H x W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from cascadezoo.ops.mask_paste import Crop, PasteMethod


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
        # the parts of the rows chosen, numbered through; each row's begin where those of the rows before it end
        before = (ends - counts) - (counts.cumsum(0) - counts)
        parts = torch.arange(int(counts.sum())) + before.repeat_interleave(counts)
        parts = parts.to(self.boxes.device)
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

    def paste(self, height: int, width: int, method: PasteMethod) -> Iterator[Crop]:
        """One ``Crop`` per detection: what any of its parts sets, pasted by ``method``."""
        crops = method(self.probabilities, self.boxes, height, width)
        for count in self.counts.tolist():
            yield _joined(list(islice(crops, count)))


def _joined(crops: Sequence[Crop]) -> Crop:
    """What any of the crops sets."""
    crops = [crop for crop in crops if crop.mask.numel()] or crops[:1]
    if len(crops) == 1:
        return crops[0]
    top, left = min(crop.top for crop in crops), min(crop.left for crop in crops)
    bottom = max(crop.top + crop.mask.shape[0] for crop in crops)
    right = max(crop.left + crop.mask.shape[1] for crop in crops)
    mask = torch.zeros((bottom - top, right - left), dtype=torch.bool, device=crops[0].mask.device)
    for crop in crops:
        h, w = crop.mask.shape
        mask[crop.top - top : crop.top - top + h, crop.left - left : crop.left - left + w] |= crop.mask
    return Crop(top, left, mask)
