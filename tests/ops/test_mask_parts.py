"""Masks in parts are rows like those of a tensor: chosen, moved, pickled and pasted, each with its parts."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError
from cascadezoo.ops.mask_parts import MaskParts
from cascadezoo.ops.mask_paste import PASTE

COUNTS = (1, 3, 2)


def parts() -> MaskParts:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(6, 2, generator=generator) * 20
    boxes = torch.cat((corners, corners + 5 + torch.rand(6, 2, generator=generator) * 15), 1)
    return MaskParts(torch.rand(6, 7, 7, generator=generator), boxes, torch.tensor(COUNTS))


def detections(masks: MaskParts) -> Detections:
    firsts = masks.counts.cumsum(0) - masks.counts
    n = len(masks)
    return Detections(masks.boxes[firsts], torch.ones(n), torch.zeros(n), (30, 40), Categories.numbered(1), masks)


def alone(number: int) -> tuple[list[list[float]], list[int]]:
    """The boxes of one row's parts, and their number."""
    start = sum(COUNTS[:number])
    return parts().boxes[start : start + COUNTS[number]].tolist(), [COUNTS[number]]


@pytest.mark.parametrize("index", [1, -1, slice(1, 3), [2, 0], [True, False, True], [], [1, 1]], ids=str)
def test_rows_are_chosen_with_their_parts(index) -> None:
    chosen = detections(parts())[index]
    numbers = torch.arange(3)[index].reshape(-1).tolist() if index != [] else []
    assert len(chosen.mask_probs) == len(chosen) == len(numbers)
    boxes = [box for number in numbers for box in alone(number)[0]]
    assert chosen.mask_probs.boxes.tolist() == boxes
    assert chosen.mask_probs.counts.tolist() == [COUNTS[number] for number in numbers]
    assert chosen.mask_probs.shape == (len(numbers), 7, 7)


@pytest.mark.parametrize("method", PASTE.values(), ids=lambda method: method.__name__)
def test_a_mask_is_all_that_its_parts_set(method) -> None:
    masks = parts()
    found = replace(detections(masks), paste_method=method)
    each = Detections(masks.boxes, torch.ones(6), torch.zeros(6), (30, 40), Categories.numbered(1), masks.probabilities)
    single = replace(each, paste_method=method).masks.split(COUNTS)
    assert torch.equal(found.masks, torch.stack([of.any(0) for of in single]))
    for mask, crop, rle in zip(found.masks.numpy(), found.crops(), found.rles(), strict=True):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle == {"size": [30, 40], "counts": encoded["counts"].decode()}
        h, w = crop.mask.shape
        assert crop.mask.sum() == mask.sum() == mask[crop.top : crop.top + h, crop.left : crop.left + w].sum()
    assert found[1].rles() == found.rles()[1:2]


def test_parts_outside_the_image_set_nothing() -> None:
    outside = MaskParts(torch.ones(2, 7, 7), torch.tensor([[50.0, 50.0, 60.0, 60.0]]).expand(2, 4), torch.tensor([2]))
    assert detections(outside).masks.sum() == 0
    assert next(detections(outside).crops()).mask.numel() == 0


def test_parts_move_and_pickle() -> None:
    found = detections(parts())
    again = pickle.loads(pickle.dumps(found.to("cpu")))
    assert torch.equal(again.masks, found.masks)
    assert parts().to("meta").device.type == "meta"


def test_as_many_rows_as_boxes() -> None:
    with pytest.raises(UsageError, match=r"mask_probs \(3, 7, 7\) for 1 boxes"):
        replace(detections(parts())[0], mask_probs=parts())


def test_masks_in_parts_are_joined_with_others() -> None:
    several, box = detections(parts()), torch.tensor([[3.0, 4.0, 20.0, 22.0]])
    plain = Detections(box, torch.ones(1), torch.zeros(1), (30, 40), Categories.numbered(1), torch.ones(1, 7, 7))
    both = Detections.concat([several, plain])
    assert both.mask_probs.counts.tolist() == [*COUNTS, 1]
    assert torch.equal(both.masks, torch.cat((several.masks, plain.masks)))
    assert isinstance(Detections.concat([plain, plain]).mask_probs, torch.Tensor)
