"""What tiles show of one image, as its detections: an object that several tiles show is one.

Shapes: D detections of all tiles together, N that become of them.

A detection is *cut* where it reaches a border of its tile beyond which the image goes on.  All others are whole views.

1. Whole views are compared by the model's own NMS, as if one image had shown them all.
2. A cut detection is of the same object as one of another tile that shows what lies beyond the cut, if the two agree
   where both tiles look (``Views.agreement``).  The limit is the IoU of the model's NMS.
3. One that agrees with a whole view of its class is left out: box and mask are those of the whole view, the score is
   the best of all that agree.  Left out is also what agrees with a whole view of another class and a higher score.
4. The others of one class that agree are one detection: the box round theirs, the best of their scores, all that their
   masks set.

Detections of one tile are never compared: the model has done so.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cascadezoo.detections import Detections
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.mask_parts import MaskParts
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import Nms
from cascadezoo.tiling.tiles import Window
from cascadezoo.tiling.views import Pairs, Views


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
    masks = together.mask_probs if isinstance(together.mask_probs, Tensor) else None
    boxes, scores, labels = to_host((together.boxes, together.scores, together.labels))
    edges = boxes + boxes.new_tensor((0, 0, together.extent, together.extent))
    views = Views(edges, labels, list(map(len, found)), windows, image_size)
    is_cut = views.cut.any(1)
    whole = _suppressed(boxes, scores, labels, ~is_cut & ~views.needless(), rule)
    cut = is_cut.nonzero()[:, 0]
    pairs = views.pairs(cut, whole)
    pairs = pairs.where(views.of_one_class(pairs) | (scores[pairs.cut] < scores[pairs.beyond]))
    pairs = _agreeing(views, pairs, masks, rule)
    of_class = views.of_one_class(pairs)
    scores = _raised(scores, pairs.where(of_class & ~torch.isin(pairs.cut, pairs.cut[~of_class])))
    cut = cut[~torch.isin(cut, pairs.cut)]
    pairs = views.pairs(cut, cut)
    groups = _groups(cut, _agreeing(views, pairs.where(views.of_one_class(pairs)), masks, rule))
    return _chosen(together, boxes, scores, [*([one] for one in whole.tolist()), *groups])


def _in_image(found: Sequence[Detections], windows: Sequence[Window], image_size: tuple[int, int]) -> Detections:
    """All detections in one, in pixels of the image."""
    first, *_ = found
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
        categories=first.categories,
        mask_probs=torch.cat(masks) if masks else None,
        paste_method=first.paste_method,
        extent=first.extent,
    )


def _suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor, rule: Nms) -> Tensor:
    """The numbers of the valid detections that NMS keeps."""
    keep, count = grouped_nms(boxes[None], scores[None], labels[None], valid[None], rule, max(1, len(boxes)))
    return keep[0, : int(count)]


def _agreeing(views: Views, pairs: Pairs, masks: Tensor | None, rule: Nms) -> Pairs:
    """The pairs that are of one object, those that agree best last."""
    agreement = views.agreement(pairs, masks)
    order = agreement.argsort()
    return pairs.where(order[agreement[order] > rule.iou])


def _raised(scores: Tensor, pairs: Pairs) -> Tensor:
    """The scores (D,), where a whole view has at least those of the cut detections that agree with it best; the pairs
    that agree best come last."""
    scores = scores.clone()
    for cut, whole in dict(zip(pairs.cut.tolist(), pairs.beyond.tolist(), strict=True)).items():
        scores[whole] = torch.maximum(scores[whole], scores[cut])
    return scores


def _groups(cut: Tensor, pairs: Pairs) -> list[list[int]]:
    """The cut detections, those of one object together, also by way of others."""
    leader = {each: each for each in cut.tolist()}

    def first(each: int) -> int:
        while leader[each] != each:
            leader[each] = leader[leader[each]]
            each = leader[each]
        return each

    for one, other in zip(pairs.cut.tolist(), pairs.beyond.tolist(), strict=True):
        leader[max(first(one), first(other))] = min(first(one), first(other))
    groups: dict[int, list[int]] = {}
    for each in leader:
        groups.setdefault(first(each), []).append(each)
    return list(groups.values())


def _chosen(together: Detections, boxes: Tensor, scores: Tensor, groups: list[list[int]]) -> Detections:
    """One detection of each group (N), best first; ``boxes`` (D, 4) and ``scores`` (D,) are on the host."""
    values = scores.tolist()
    groups = sorted((sorted(group, key=lambda one: -values[one]) for group in groups), key=lambda g: -values[g[0]])
    best = [group[0] for group in groups]
    device, masks = together.boxes.device, together.mask_probs
    chosen = replace(together[best], scores=scores[best].to(device))
    if all(len(group) == 1 for group in groups):
        return chosen
    members = [boxes[group] for group in groups]
    hulls = torch.stack([torch.cat((each[:, :2].amin(0), each[:, 2:].amax(0))) for each in members]).to(device)
    if not isinstance(masks, Tensor):
        return replace(chosen, boxes=hulls)
    parts = torch.tensor([one for group in groups for one in group], device=device)
    counts = torch.tensor([len(group) for group in groups])
    return replace(chosen, boxes=hulls, mask_probs=MaskParts(masks[parts], together.boxes[parts], counts))
