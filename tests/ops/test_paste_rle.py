"""Masks to run lengths by one operator: runs written out by hand, and what it leaves to the caller."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cascadezoo.coco.rle import encode_runs
from cascadezoo.errors import UsageError
from cascadezoo.ops.mask_paste import PASTE, paste
from cascadezoo.ops.paste_rle import countable, paste_rle
from cascadezoo.spec.conventions import MaskPaste


def test_runs_end_where_the_image_read_by_columns_changes(device: str) -> None:
    """A full mask of one cell on 2 x 2 pixels at (1, 0) sets all four of them: 0.75 * 0.75 is 0.56.  The image has 3
    rows: 3 pixels of the first column are empty, then 2 are set, 1 is empty, 2 are set, 1 is empty."""
    masks, boxes = torch.ones(1, 1, 1, device=device), torch.tensor([[1.0, 0.0, 3.0, 2.0]], device=device)
    ends, counts = paste_rle(masks, boxes, 3, 3, MaskPaste.BILINEAR, 8)
    assert (ends.dtype, counts.dtype) == (torch.int32, torch.int32)
    assert ends.tolist() == [[3, 5, 6, 8, 9, 0, 0, 0]]
    assert counts.tolist() == [5]


def test_a_full_image_begins_with_an_empty_run_and_an_empty_one_has_no_other(device: str) -> None:
    boxes = torch.tensor([[-9.0, -9.0, 12.0, 12.0], [-9.0, -9.0, -5.0, -5.0]], device=device)
    ends, counts = paste_rle(torch.ones(2, 28, 28, device=device), boxes, 3, 4, MaskPaste.BILINEAR, 3)
    assert ends.tolist() == [[0, 12, 0], [12, 0, 0]]
    assert counts.tolist() == [2, 1]


def test_more_runs_than_there_is_room_for_are_left_to_the_caller(device: str) -> None:
    masks, boxes = torch.ones(1, 1, 1, device=device), torch.tensor([[1.0, 0.0, 3.0, 2.0]], device=device)
    for cap, count in ((5, 5), (4, -1)):
        ends, counts = paste_rle(masks, boxes, 3, 3, MaskPaste.BILINEAR, cap)
        assert counts.tolist() == [count]
        assert bool(ends.any()) is (count > 0)


@pytest.mark.parametrize("method", list(MaskPaste), ids=lambda method: method.name)
def test_encode_as_pycocotools_encodes_the_whole_mask(method: MaskPaste) -> None:
    noise = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 14, 14, generator=noise)
    low = torch.rand(12, 2, generator=noise) * 50 - 10
    boxes = torch.cat((low, low + torch.rand(12, 2, generator=noise) * 60), 1)
    ends, counts = paste_rle(masks, boxes, 33, 47, method, 2000)
    for row, count, mask in zip(ends, counts, paste(masks, boxes, 33, 47, PASTE[method]), strict=True):
        expected = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        assert encode_runs(row[:count].numpy(), 33, 47) == {"size": [33, 47], "counts": expected["counts"].decode()}


@pytest.mark.parametrize(
    ("size", "fits"),
    [((2**24, 127), True), ((2**24, 128), False), ((1, 2**24 + 1), False), ((46340, 46340), True)],
    ids=str,
)
def test_images_whose_pixels_can_be_counted(size: tuple[int, int], fits: bool) -> None:
    assert countable(*size) is fits
    if not fits:
        with pytest.raises(UsageError, match="at most 2\\^24 pixels a side"):
            paste_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), *size, MaskPaste.BILINEAR)
