"""The masks of one image's detections as run-length encodings, which are made without building the masks whole.

Shapes: N detections, M x M cells per mask, an image of H x W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from cascadezoo.coco.rle import Rle, encode_crop, encode_runs
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.mask_paste import PASTE, Crop, PasteMethod
from cascadezoo.ops.paste_rle import countable, default_cap, most_runs, paste_rle
from cascadezoo.spec.conventions import MaskPaste

_ROOM = 2**20  # runs that there is room for at a time, where there is a choice: 4 MB
_MOST_ROOM = 2**26  # runs of one mask: 256 MB


class BoxedMasks(NamedTuple):
    """Masks that are still probabilities over their boxes.

    Attributes:
        probabilities: (N, M, M).
        boxes: (N, 4) xyxy, pixels.
        image_size: (H, W).
        paste: how they become pixels.
    """

    probabilities: Tensor
    boxes: Tensor
    image_size: tuple[int, int]
    paste: PasteMethod

    def crops(self) -> Iterator[Crop]:
        """The part of each mask that can be set, one at a time."""
        return self.paste(self.probabilities, self.boxes, *self.image_size)

    def runs(self) -> tuple[()] | tuple[Tensor, Tensor]:
        """What ``paste_rle`` makes of all the masks, on their device; nothing where they are not pasted at once."""
        method = self._method()
        if method is None or not _at_once(self.probabilities):
            return ()
        return paste_rle(self.probabilities, self.boxes, *self.image_size, method)

    def rles(self, runs: Sequence[Tensor]) -> list[Rle]:
        """The encodings, from what ``runs`` gave, on the host."""
        if runs:
            return self._encoded(runs)
        method = self._method()
        if method is None or not _quickly():
            return self._one_by_one()
        some = max(1, _ROOM // default_cap(self.image_size[1]))
        return [
            rle
            for part in self._parts(some)
            for rle in part._encoded(paste_rle(part.probabilities, part.boxes, *self.image_size, method))
        ]

    def _method(self) -> MaskPaste | None:
        """How ``paste_rle`` pastes these masks; None where it cannot."""
        method = next((name for name, paste in PASTE.items() if paste is self.paste), None)
        return method if countable(*self.image_size) else None

    def _parts(self, some: int) -> Iterator["BoxedMasks"]:
        for probabilities, boxes in zip(self.probabilities.split(some), self.boxes.split(some), strict=True):
            yield self._replace(probabilities=probabilities, boxes=boxes)

    def _encoded(self, runs: Sequence[Tensor]) -> list[Rle]:
        ends, counts = runs
        left = [index for index, count in enumerate(counts.tolist()) if count < 0]
        others = iter(self._chosen(left)._of_many_runs(ends.shape[1]) if left else ())
        return [
            next(others) if count < 0 else encode_runs(row[:count], *self.image_size)
            for row, count in zip(ends.numpy(), counts.tolist(), strict=True)
        ]

    def _chosen(self, indices: list[int]) -> "BoxedMasks":
        return self._replace(probabilities=self.probabilities[indices], boxes=self.boxes[indices])

    def _of_many_runs(self, cap: int) -> list[Rle]:
        """The masks that ``paste_rle`` left to its caller: pasted again with room for the runs that any mask can have;
        one by one where that does not help."""
        room, method = most_runs(self.probabilities.shape[1], self.image_size[1]), self._method()
        if method is None or not cap < room <= _MOST_ROOM:
            return self._one_by_one()
        parts = self._parts(max(1, _ROOM // room))
        pasted = ((p, paste_rle(p.probabilities, p.boxes, *self.image_size, method, room)) for p in parts)
        on_host = ((p, runs if runs[0].device.type == "cpu" else to_host(runs)) for p, runs in pasted)
        return [rle for p, runs in on_host for rle in p._encoded(runs)]

    def _one_by_one(self) -> list[Rle]:
        return [encode_crop(mask.cpu().numpy(), top, left, *self.image_size) for top, left, mask in self.crops()]


def _at_once(probabilities: Tensor) -> bool:
    """Whether an image's masks are pasted at once: on a CPU, where nothing is waited for, less memory is better."""
    return probabilities.device.type != "cpu"


def _quickly() -> bool:
    """Whether ``paste_rle`` is compiled for a CPU: else it gains nothing there."""
    return "cpu" in COMPILED
