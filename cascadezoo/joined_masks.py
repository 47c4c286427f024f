"""Masks of one image's detections, each of which is all that one or more parts set (``ops/mask_parts.py``)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from cascadezoo.coco.rle import Rle
from cascadezoo.mask_rles import BoxedMasks
from cascadezoo.ops.mask_paste import Crop


class JoinedMasks(NamedTuple):
    """What ``BoxedMasks`` is of masks in one part.

    Attributes:
        parts: P of them, those of one detection after those of another.
        counts: (N,) int64 on the host, the parts of each detection.
    """

    parts: BoxedMasks
    counts: Tensor

    def crops(self) -> Iterator[Crop]:
        """The part of each mask that can be set, one at a time."""
        crops = self.parts.crops()
        for count in self.counts.tolist():
            yield _joined(list(islice(crops, count)))

    def runs(self) -> Sequence[Tensor]:
        """What ``paste_rle`` makes of all the parts, on their device; nothing where they are not pasted at once."""
        return self.parts.runs()

    def rles(self, runs: Sequence[Tensor]) -> list[Rle]:
        """The encodings, from what ``runs`` gave, on the host."""
        rles = iter(self.parts.rles(runs))
        return [_joined_rle(list(islice(rles, count))) for count in self.counts.tolist()]


def _joined(crops: Sequence[Crop]) -> Crop:
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


def _joined_rle(rles: Sequence[Rle]) -> Rle:
    if len(rles) == 1:
        return rles[0]
    joined = coco_mask.merge(list(rles))
    return Rle(size=rles[0]["size"], counts=joined["counts"].decode("ascii"))
