"""The masks of an image's objects: bitmaps, each kept only inside the window that its pixels lie in, or polygons.

T objects of one image of h x w network pixels; F positive boxes; M the side of a mask target.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from cascadezoo.losses.polygons import Points, Polygons
from cascadezoo.spec.objective import Drawing

_LAID_OUT = 8  # masks that are laid out over the whole image at once, in float32


class Masks(NamedTuple):
    """T masks of zeros and ones; every pixel outside a mask's window is zero.

    An object with polygons has no pixels: its window is empty.
    """

    size: tuple[int, int]  # (h, w) of the image
    windows: Tensor  # (T, 4) int64 x1, y1, x2, y2 in pixels, x2 and y2 the edges behind the last ones; on the CPU
    pixels: Tensor  # (sum of the windows' areas,) uint8, row by row, one window after the other
    polygons: Polygons | None = None  # of the objects whose targets are drawn, if any are

    @classmethod
    def of(
        cls,
        shapes: Iterable[Tensor | Sequence[Points]],
        size: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> "Masks":
        """From bitmaps (h, w) on ``device``, of which only one at a time need exist, or polygons to be drawn."""
        windows: list[tuple[int, int, int, int]] = []
        parts = [torch.zeros(0, dtype=torch.uint8, device=device)]
        polygons: list[Sequence[Points]] = []
        for shape in shapes:
            x1 = x2 = y1 = y2 = 0
            if isinstance(shape, Tensor):
                (x1, x2), (y1, y2) = _span(shape.any(0)), _span(shape.any(1))
                parts.append(shape[y1:y2, x1:x2].to(torch.uint8).flatten())
            windows.append((x1, y1, x2, y2))
            polygons.append(() if isinstance(shape, Tensor) else shape)
        drawn = Polygons.of(polygons) if any(polygons) else None
        return cls(size, torch.tensor(windows, dtype=torch.int64).view(-1, 4), torch.cat(parts), drawn)

    def to(self, device: torch.device) -> "Masks":
        """The same masks with their pixels on another device."""
        return self._replace(pixels=self.pixels.to(device, non_blocking=True))

    def where(self, keep: Tensor) -> "Masks":
        """The masks that ``keep`` (T,) bool marks."""
        marks = keep.cpu()
        kept = [part for part, mark in zip(self._parts(), marks.tolist(), strict=True) if mark]
        polygons = None if self.polygons is None else self.polygons.where(marks)
        return Masks(self.size, self.windows[marks], torch.cat([self.pixels[:0], *kept]), polygons)

    def bitmaps(self, objects: Tensor) -> Tensor:
        """The masks of ``objects`` (n,) int64 over the whole image, (n, h, w) uint8."""
        parts, windows = self._parts(), self.windows.tolist()
        whole = self.pixels.new_zeros(len(objects), *self.size)
        for bitmap, index in zip(whole, objects.tolist(), strict=True):
            x1, y1, x2, y2 = windows[index]
            bitmap[y1:y2, x1:x2] = parts[index].view(y2 - y1, x2 - x1)
        return whole

    def targets(self, boxes: Tensor, objects: Tensor, side: int, drawing: Drawing | None, extent: int) -> Tensor:
        """What is learned inside each of boxes (F, 4), of object (F,): float32 (F, M, M) zeros and ones.

        Bitmaps are cropped; polygons are drawn as ``drawing`` says.
        """
        if self.polygons is None:
            return self.crop(boxes, objects, side)
        if drawing is None:
            raise ValueError("polygons for a network that learns from bitmaps")
        drawn = torch.isin(objects, self.polygons.objects.to(objects.device))
        targets = boxes.new_empty(len(boxes), side, side, dtype=torch.float32)
        targets[~drawn] = self.crop(boxes[~drawn], objects[~drawn], side)
        outlined, own = boxes[drawn], objects[drawn]
        if drawing.nearest:
            own = self.polygons.nearest(outlined, extent)
        targets[drawn] = self.polygons.draw(outlined, own, side, drawing.least_side)
        return targets

    def crop(self, boxes: Tensor, objects: Tensor, side: int) -> Tensor:
        """Inside each of boxes (F, 4) the mask of its object (F,), float32 (F, M, M) zeros and ones.

        Source: mmdetection's ``BitmapMasks.crop_and_resize``: RoIAlign over the image's bitmap, one from 0.5 on.
        """
        cropped = boxes.new_empty(len(boxes), side, side, dtype=torch.float32)
        for some in objects.unique().split(_LAID_OUT):
            rows = torch.isin(objects, some).nonzero().flatten()
            which = torch.searchsorted(some, objects[rows])
            rois = torch.cat((which[:, None].to(boxes.dtype), boxes[rows]), 1)
            cropped[rows] = roi_align(self.bitmaps(some)[:, None].float(), rois, side, 1.0, 0, True).squeeze(1)
        return (cropped >= 0.5).float()

    def _parts(self) -> tuple[Tensor, ...]:
        """Each mask's own pixels."""
        x1, y1, x2, y2 = self.windows.unbind(1)
        parts: tuple[Tensor, ...] = self.pixels.split(((x2 - x1) * (y2 - y1)).tolist())
        return parts


def _span(marks: Tensor) -> tuple[int, int]:
    """From the first to behind the last of the marks that are set; (0, 0) where none is."""
    places = marks.nonzero().flatten()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
