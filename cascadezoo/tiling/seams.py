"""What tiles show of one image, as its detections: an object that several tiles show is one.

Shapes: D detections of all tiles together, F of them cut by a seam, T tiles, M x M cells per mask.

A detection is *cut* where it reaches a border of its tile beyond which the image goes on.  All others are whole views.

1. Whole views are compared by the model's own NMS, as if one image had shown them all.
2. A cut detection is of the same object as one of another tile that shows what lies beyond the cut, if the two agree
   where both tiles look: with masks, by the intersection of these over their union; of boxes, which a part of an object
   need not fill, over the smaller.  The limit is the IoU of the model's NMS.
3. One that agrees with a whole view is left out: what is whole stands as its tile found it.
4. The others that agree are one detection: the box round theirs, the best of their scores, all that their masks set.

Detections of one tile are never compared: the model has done so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.detections import Detections
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.mask_parts import MaskParts
from cascadezoo.ops.mask_paste import MASK_THRESHOLD
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import Nms
from cascadezoo.tiling.tiles import Window

Pairs: TypeAlias = tuple[Tensor, Tensor]
"""Numbers of detections, (P,) each: one that is cut, and one that shows what lies beyond."""

_NEAR = 1 / 50  # of a tile's side: a box that comes so close to its border reaches it
_POINTS = 32  # along each side of where two masks are compared
_AT_ONCE = 512  # cut detections, or pairs of masks, that are compared at a time


def merged(
    found: Sequence[Detections], windows: Sequence[Window], image_size: tuple[int, int], rule: Nms
) -> Detections:
    """The detections on an image, best first, of those on its tiles.

    Args:
        found: the detections on each window, in pixels of it.
        windows: where these lie.  One may be the whole image: what another shows whole is not taken from it.
        image_size: height and width of the image.
        rule: the model's suppression among the detections of one class.
    """
    together = _in_image(found, windows, image_size)
    boxes, scores, labels = to_host((together.boxes, together.scores, together.labels))
    seen = _Seen(boxes + boxes.new_tensor((0, 0, together.extent, together.extent)), labels, found, windows, image_size)
    whole = ~seen.cut.any(1) & ~seen.needless()
    kept = _suppressed(boxes, scores, labels, whole, rule)
    cut = seen.cut.any(1).nonzero()[:, 0]
    left = torch.ones(len(cut), dtype=torch.bool)
    left[torch.isin(cut, _agreeing(seen, seen.pairs(cut, kept), together, rule)[0])] = False
    cut = cut[left]
    groups = _groups(cut, _agreeing(seen, seen.pairs(cut, cut), together, rule))
    return _chosen(together, boxes, scores, [*([one] for one in kept.tolist()), *groups])


class _Seen:
    """Detections and the tiles that they are from.

    Attributes:
        edges: (D, 4) xyxy, where boxes end: pixels of the image.
        labels: (D,).
        tile: (D,) the number of each one's tile.
        tiles: (T, 4) xyxy.
        cut: (D, 4) bool, at which sides a seam cuts it: left, top, right, bottom.
    """

    def __init__(
        self,
        edges: Tensor,
        labels: Tensor,
        found: Sequence[Detections],
        windows: Sequence[Window],
        image_size: tuple[int, int],
    ) -> None:
        self.edges, self.labels = edges, labels
        self.tiles = torch.tensor(windows, dtype=torch.float32)
        self.tile = torch.arange(len(windows)).repeat_interleave(torch.tensor([len(each) for each in found]))
        height, width = image_size
        self._image = torch.tensor((0.0, 0.0, width, height))
        self.cut = _cut(edges, self.tiles[self.tile], self._image)

    def needless(self) -> Tensor:
        """(D,) bool: those on the whole image that a tile shows whole."""
        entire = (self.tiles == self._image).all(1)
        needless = entire[self.tile]
        shown = torch.zeros(int(needless.sum()), dtype=torch.bool)
        for tile in self.tiles[~entire] if len(shown) else ():
            shown |= ~_cut(self.edges[needless], tile, self._image).any(1)
        needless[needless.clone()] = shown
        return needless

    def pairs(self, cut: Tensor, others: Tensor) -> Pairs:
        """Of some that are cut (F,) and some others, those of one class whose boxes meet where both their tiles look,
        the other's tile beyond the cut."""
        first, second = [], []
        for some in cut.split(_AT_ONCE):
            tiles, of_others = self.tiles[self.tile[some]][:, None], self.tiles[self.tile[others]][None]
            beyond = torch.cat((of_others[..., :2] < tiles[..., :2], of_others[..., 2:] > tiles[..., 2:]), -1)
            possible = (beyond & self.cut[some][:, None]).any(-1)
            possible &= self.labels[some][:, None] == self.labels[others][None]
            rows, columns = possible.nonzero().unbind(1)
            first.append(some[rows])
            second.append(others[columns])
        a, b = (torch.cat(each) if each else cut[:0] for each in (first, second))
        meeting = _area(_common(*self.shared(a, b))) > 0
        return a[meeting], b[meeting]

    def shared(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Of pairs, both boxes (P, 4) as far as both tiles look; a box may end before it begins."""
        zone = _common(self.tiles[self.tile[a]], self.tiles[self.tile[b]])
        return _common(self.edges[a], zone), _common(self.edges[b], zone)


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


def _in_image(found: Sequence[Detections], windows: Sequence[Window], image_size: tuple[int, int]) -> Detections:
    """All detections in one, in pixels of the image."""
    masks = [each.mask_probs for each in found if isinstance(each.mask_probs, Tensor)]
    shifted = [
        each.boxes + each.boxes.new_tensor((window.left, window.top) * 2)
        for each, window in zip(found, windows, strict=True)
    ]
    return Detections(
        boxes=torch.cat(shifted),
        scores=torch.cat([each.scores for each in found]),
        labels=torch.cat([each.labels for each in found]),
        image_size=image_size,
        categories=found[0].categories,
        mask_probs=torch.cat(masks) if masks else None,
        paste_method=found[0].paste_method,
        extent=found[0].extent,
    )


def _suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor, rule: Nms) -> Tensor:
    """The numbers of the valid detections that NMS keeps."""
    keep, count = grouped_nms(boxes[None], scores[None], labels[None], valid[None], rule, max(1, len(boxes)))
    return keep[0, : int(count)]


def _agreeing(seen: _Seen, pairs: Pairs, together: Detections, rule: Nms) -> Pairs:
    """Those of the pairs that are of one object."""
    a, b = pairs
    ours, theirs = seen.shared(a, b)
    if isinstance(together.mask_probs, Tensor):
        agreement = _mask_iou(together.mask_probs, seen.edges, a, b, ours, theirs)
    else:
        smaller = torch.minimum(_area(ours), _area(theirs))
        agreement = _area(_common(ours, theirs)) / smaller
    agree = agreement > rule.iou
    return a[agree], b[agree]


def _mask_iou(masks: Tensor, edges: Tensor, a: Tensor, b: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """(P,) intersection over union of pairs of masks, sampled where both tiles look and there is one of the two."""
    hull = torch.cat((torch.minimum(ours[:, :2], theirs[:, :2]), torch.maximum(ours[:, 2:], theirs[:, 2:])), 1)
    found = [torch.zeros(0)]
    for pairs in torch.arange(len(a)).split(_AT_ONCE):
        points = _points(hull[pairs])
        limits = [_inside(points, box[pairs]) for box in (ours, theirs)]
        one, other = (
            _sampled(masks[each[pairs].to(masks.device)], edges[each[pairs]], points) & limit.to(masks.device)
            for each, limit in zip((a, b), limits, strict=True)
        )
        both, either = (one & other).flatten(1).sum(1), (one | other).flatten(1).sum(1)
        found.append((both / either.clamp(min=1)).cpu())
    return torch.cat(found)


def _points(boxes: Tensor) -> Tensor:
    """(P, G, G, 2) x and y of the middles of G x G cells of each box (P, 4)."""
    steps = (torch.arange(_POINTS) + 0.5) / _POINTS
    x, y = (boxes[:, i, None] + (boxes[:, i + 2] - boxes[:, i])[:, None] * steps for i in (0, 1))
    return torch.stack((x[:, None].expand(-1, _POINTS, -1), y[:, :, None].expand(-1, -1, _POINTS)), -1)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    return ((points >= low) & (points <= high)).all(-1)


def _sampled(masks: Tensor, edges: Tensor, points: Tensor) -> Tensor:
    """(P, G, G) bool: whether masks (P, M, M) that spread over ``edges`` (P, 4) are set at points (P, G, G, 2)."""
    low, high = edges[:, None, None, :2], edges[:, None, None, 2:]
    places = ((points - low) / (high - low) * 2 - 1).to(masks.device)
    values = F.grid_sample(masks[:, None].float(), places, padding_mode="zeros", align_corners=False)
    return values[:, 0] >= MASK_THRESHOLD


def _groups(cut: Tensor, pairs: Pairs) -> list[list[int]]:
    """The cut detections, those of one object together, also by way of others."""
    leader = {each: each for each in cut.tolist()}

    def first(each: int) -> int:
        while leader[each] != each:
            leader[each] = leader[leader[each]]
            each = leader[each]
        return each

    for one, other in zip(*(each.tolist() for each in pairs), strict=True):
        leader[max(first(one), first(other))] = min(first(one), first(other))
    groups: dict[int, list[int]] = {}
    for each in leader:
        groups.setdefault(first(each), []).append(each)
    return list(groups.values())


def _chosen(together: Detections, boxes: Tensor, scores: Tensor, groups: list[list[int]]) -> Detections:
    """One detection of each group, best first.  ``boxes``, ``scores``: those of ``together``, on the host."""
    groups = [sorted(group, key=lambda one: -scores[one].item()) for group in groups]
    groups.sort(key=lambda group: -scores[group[0]].item())  # of equal scores the earlier first
    best = together[[group[0] for group in groups]]
    if all(len(group) == 1 for group in groups):
        return best
    members = [boxes[group] for group in groups]
    hulls = torch.stack([torch.cat((each[:, :2].amin(0), each[:, 2:].amax(0))) for each in members])
    masks = best.mask_probs
    if isinstance(together.mask_probs, Tensor):
        parts = together[[one for group in groups for one in group]]
        counts = torch.tensor([len(group) for group in groups])
        masks = MaskParts(parts.mask_probs, parts.boxes, counts)
    return replace(best, boxes=hulls.to(best.boxes.device), mask_probs=masks)
