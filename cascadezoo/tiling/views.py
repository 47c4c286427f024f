"""Detections as views of objects through tiles: which a seam cuts, and how well two agree where both tiles look.

Shapes: D detections of all tiles together, T tiles, P pairs of detections, M x M cells per mask, G x G points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.ops.mask_paste import MASK_THRESHOLD
from cascadezoo.tiling.tiles import Window

_NEAR = 1 / 50  # of a tile's side: a box that comes so close to its border reaches it
_POINTS = 32  # G: along each side of where two masks are compared
_AT_ONCE = 512  # cut detections, or pairs of masks, that are compared at a time


class Pairs(NamedTuple):
    """Numbers of detections: of each that a seam cuts, (P,), and of another whose tile shows what lies beyond, (P,)."""

    cut: Tensor
    beyond: Tensor

    def where(self, chosen: Tensor) -> "Pairs":
        """Those of the pairs that are chosen (P,), by numbers or truth values."""
        return Pairs(self.cut[chosen], self.beyond[chosen])


class Views:
    """The detections on the tiles of an image, in its pixels, on the host.

    Attributes:
        edges: (D, 4) xyxy, where boxes end.
        labels: (D,).
        tile: (D,) the number of each one's tile.
        tiles: (T, 4) xyxy.
        cut: (D, 4) bool, at which sides a seam cuts it: left, top, right, bottom.
    """

    def __init__(
        self, edges: Tensor, labels: Tensor, counts: Sequence[int], windows: Sequence[Window], size: tuple[int, int]
    ) -> None:
        """``counts``: the detections of each tile, which come tile by tile; ``size``: height and width of the image."""
        self.edges, self.labels = edges, labels
        self.tiles = torch.tensor(windows, dtype=torch.float32)
        self.tile = torch.arange(len(windows)).repeat_interleave(torch.tensor(counts))
        self._image = torch.tensor((0.0, 0.0, size[1], size[0]))
        self.cut = _cut(edges, self.tiles[self.tile], self._image)

    def needless(self) -> Tensor:
        """(D,) bool: those on a tile that is the whole image which another tile shows whole."""
        entire = (self.tiles == self._image).all(1)
        needless = entire[self.tile]
        shown = torch.zeros(int(needless.sum()), dtype=torch.bool)
        for tile in self.tiles[~entire] if len(shown) else ():
            shown |= ~_cut(self.edges[needless], tile, self._image).any(1)
        needless[needless.clone()] = shown
        return needless

    def pairs(self, cut: Tensor, others: Tensor) -> Pairs:
        """Of some that are cut and some others, those whose boxes meet where both their tiles look, the other's tile
        beyond the cut."""
        found = [Pairs(cut[:0], others[:0])]
        for some in cut.split(_AT_ONCE):
            tiles, of_others = self.tiles[self.tile[some]][:, None], self.tiles[self.tile[others]][None]
            beyond = torch.cat((of_others[..., :2] < tiles[..., :2], of_others[..., 2:] > tiles[..., 2:]), -1)
            rows, columns = (beyond & self.cut[some][:, None]).any(-1).nonzero().unbind(1)
            pairs = Pairs(some[rows], others[columns])
            found.append(pairs.where(_area(_common(*self._shared(pairs))) > 0))
        return Pairs(*map(torch.cat, zip(*found, strict=True)))

    def of_one_class(self, pairs: Pairs) -> Tensor:
        """(P,) bool: the pairs of one class."""
        return self.labels[pairs.cut] == self.labels[pairs.beyond]

    def agreement(self, pairs: Pairs, masks: Tensor | None) -> Tensor:
        """(P,) 0 to 1: how much the two of a pair cover the same where both their tiles look.

        Of masks (D, M, M) it is the intersection over the union.  Of boxes too, if they are of two classes; if they are
        of one, over the smaller, since the box of a part need not fill that of the whole.
        """
        ours, theirs = self._shared(pairs)
        if masks is not None:
            return self._mask_iou(pairs, ours, theirs, masks)
        both, one, other = _area(_common(ours, theirs)), _area(ours), _area(theirs)
        return both / torch.where(self.of_one_class(pairs), torch.minimum(one, other), one + other - both)

    def _shared(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Both boxes (P, 4) as far as both tiles look; a box may end before it begins."""
        zone = _common(self.tiles[self.tile[pairs.cut]], self.tiles[self.tile[pairs.beyond]])
        return _common(self.edges[pairs.cut], zone), _common(self.edges[pairs.beyond], zone)

    def _mask_iou(self, pairs: Pairs, ours: Tensor, theirs: Tensor, masks: Tensor) -> Tensor:
        hull = torch.cat((torch.minimum(ours[:, :2], theirs[:, :2]), torch.maximum(ours[:, 2:], theirs[:, 2:])), 1)
        found = [torch.zeros(0)]
        for some in torch.arange(len(hull)).split(_AT_ONCE):
            points = _points(hull[some])
            one, other = (
                _set(masks[numbers.to(masks.device)], self.edges[numbers], limits[some], points)
                for numbers, limits in zip(pairs.where(some), (ours, theirs), strict=True)
            )
            both, either = (one & other).flatten(1).sum(1), (one | other).flatten(1).sum(1)
            found.append((both / either.clamp(min=1)).cpu())
        return torch.cat(found)


def _cut(edges: Tensor, tiles: Tensor, image: Tensor) -> Tensor:
    """(D, 4) bool: at which sides boxes reach beyond, or close to, borders of tiles beyond which the image goes on."""
    near = (tiles[..., 2:] - tiles[..., :2]) * _NEAR
    inner = torch.cat((tiles[..., :2] > image[:2], tiles[..., 2:] < image[2:]), -1)
    reached = torch.cat((edges[..., :2] - tiles[..., :2] <= near, tiles[..., 2:] - edges[..., 2:] <= near), -1)
    return inner & reached


def _common(boxes: Tensor, others: Tensor) -> Tensor:
    """The part of boxes (P, 4) that lies in others (P, 4); where there is none, it ends before it begins."""
    return torch.cat((torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])), 1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _points(boxes: Tensor) -> Tensor:
    """(P, G, G, 2) x and y of the middles of G x G cells of each box (P, 4)."""
    steps = (torch.arange(_POINTS) + 0.5) / _POINTS
    x, y = (boxes[:, i, None] + (boxes[:, i + 2] - boxes[:, i])[:, None] * steps for i in (0, 1))
    return torch.stack((x[:, None].expand(-1, _POINTS, -1), y[:, :, None].expand(-1, -1, _POINTS)), -1)


def _set(masks: Tensor, edges: Tensor, limits: Tensor, points: Tensor) -> Tensor:
    """(P, G, G) bool: whether masks (P, M, M) that spread over ``edges`` (P, 4) are set at points (P, G, G, 2); outside
    ``limits`` (P, 4) nothing is."""
    low, high = edges[:, None, None, :2], edges[:, None, None, 2:]
    places = ((points - low) / (high - low) * 2 - 1).to(masks.device)
    values = F.grid_sample(masks[:, None].float(), places, padding_mode="zeros", align_corners=False)
    inside = (points >= limits[:, None, None, :2]) & (points <= limits[:, None, None, 2:])
    return (values[:, 0] >= MASK_THRESHOLD) & inside.all(-1).to(masks.device)
