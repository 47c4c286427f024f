"""Masks kept inside their windows: the same pixels, and the same targets as the whole bitmaps give."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from cascadezoo.losses.masks import Masks

HEIGHT, WIDTH = 20, 30


def rectangle(x1: int, y1: int, x2: int, y2: int) -> torch.Tensor:
    bitmap = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    bitmap[y1:y2, x1:x2] = 1
    return bitmap


def kept(*bitmaps: torch.Tensor) -> Masks:
    return Masks.of(bitmaps, (HEIGHT, WIDTH))


def test_a_window_ends_at_the_last_pixels() -> None:
    masks = kept(
        rectangle(3, 5, 9, 6), rectangle(0, 0, WIDTH, HEIGHT), rectangle(29, 19, 30, 20), rectangle(0, 0, 0, 0)
    )
    assert masks.size == (HEIGHT, WIDTH)
    assert masks.windows.tolist() == [[3, 5, 9, 6], [0, 0, 30, 20], [29, 19, 30, 20], [0, 0, 0, 0]]
    assert masks.windows.dtype == torch.int64
    assert (len(masks.pixels), masks.pixels.dtype) == (6 + 600 + 1 + 0, torch.uint8)
    assert masks.pixels.all()


def test_none_at_all() -> None:
    masks = kept()
    assert (masks.windows.shape, masks.pixels.shape) == ((0, 4), (0,))
    assert masks.bitmaps(torch.zeros(0, dtype=torch.int64)).shape == (0, HEIGHT, WIDTH)
    assert masks.crop(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 7).shape == (0, 7, 7)
    assert masks.where(torch.zeros(0, dtype=torch.bool)).windows.shape == (0, 4)


def scattered(count: int, seed: int = 0) -> torch.Tensor:
    """Random pixels inside random windows, (count, HEIGHT, WIDTH) uint8."""
    generator = torch.Generator().manual_seed(seed)
    bitmaps = (torch.rand(count, HEIGHT, WIDTH, generator=generator) < 0.5).to(torch.uint8)
    for bitmap in bitmaps:
        x, y = (int(torch.randint(limit, (), generator=generator)) for limit in (WIDTH, HEIGHT))
        bitmap[:, :x] = 0
        bitmap[y + 4 :] = 0
    return bitmaps


def test_the_bitmaps_come_back_in_any_order() -> None:
    bitmaps = scattered(6)
    masks = kept(*bitmaps)
    assert torch.equal(masks.bitmaps(torch.arange(6)), bitmaps)
    assert torch.equal(masks.bitmaps(torch.tensor([4, 1, 4])), bitmaps[[4, 1, 4]])


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
def test_bitmaps_of_any_kind_of_numbers(dtype: torch.dtype) -> None:
    bitmaps = scattered(2)
    assert torch.equal(kept(*bitmaps.to(dtype)).bitmaps(torch.arange(2)), bitmaps)


def test_some_of_them() -> None:
    bitmaps = scattered(5)
    marks = torch.tensor([True, False, False, True, True])
    chosen = kept(*bitmaps).where(marks)
    assert len(chosen.windows) == 3
    assert torch.equal(chosen.bitmaps(torch.arange(3)), bitmaps[marks])


def test_it_travels() -> None:
    masks = kept(*scattered(2)).to(torch.device("meta"))
    assert (masks.pixels.device.type, masks.windows.device.type) == ("meta", "cpu")


def boxes_around(count: int, seed: int = 1) -> torch.Tensor:
    """Boxes of any size, which also lie across the image's edges and beside it."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH + 10.0, HEIGHT + 10]) - 8
    return torch.cat((corners, corners + 0.3 + 25 * torch.rand(count, 2, generator=generator)), 1)


def test_targets_are_those_of_the_whole_bitmaps() -> None:
    """torchvision's RoIAlign over bitmaps of the image, for more objects than are laid out at once, in any order."""
    bitmaps, boxes = scattered(20), boxes_around(300)
    objects = torch.randint(20, (300,), generator=torch.Generator().manual_seed(2))
    rois = torch.cat((objects[:, None].float(), boxes), 1)
    whole = roi_align(bitmaps[:, None].float(), rois, 7, spatial_scale=1.0, sampling_ratio=0, aligned=True)[:, 0]
    targets = kept(*bitmaps).crop(boxes, objects, 7)
    assert torch.equal(targets, (whole >= 0.5).float())
    assert targets.dtype == torch.float32
    assert 0.05 < targets.mean() < 0.95  # of both kinds


def test_targets_by_hand() -> None:
    # a mask of columns 10..14; a box over columns 8..15 has four bins of two pixels: 0, 1, 1, 1/2
    masks = kept(rectangle(0, 0, 0, 0), rectangle(10, 4, 15, 12))
    box, mine = torch.tensor([[8.0, 4, 16, 12]]), torch.tensor([1])
    assert masks.crop(box, mine, 4).tolist() == [[[0, 1, 1, 1]] * 4]  # from one half on
    # a little to the right the last bin covers 0.9 of two pixels, the first one 0.1 of them
    assert masks.crop(box + torch.tensor([0.1, 0, 0.1, 0]), mine, 4).tolist() == [[[0, 1, 1, 0]] * 4]
    # four rows further down, the lower half of the box holds nothing
    assert masks.crop(box + torch.tensor([0.0, 4, 0, 4]), mine, 4).tolist() == [[[0, 1, 1, 1]] * 2 + [[0] * 4] * 2]
    assert masks.crop(box, torch.tensor([0]), 4).sum() == 0


class Largest(TorchDispatchMode):
    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_t8_memory_does_not_grow_with_objects_times_the_image() -> None:
    """200 objects of 10 x 10 pixels in an image of a megapixel; eight bitmaps hold 8 million numbers, all 200 million.

    A tenth of the latter would be twice what is allowed here."""
    size = (1000, 1000)
    windows = torch.tensor([[i, i, i + 10, i + 10] for i in range(200)])
    masks = Masks(size, windows, torch.ones(200 * 100, dtype=torch.uint8))
    with Largest() as largest:
        targets = masks.crop(windows.float(), torch.arange(200), 14)
    assert targets.all()
    assert largest.numbers < 80e6
    bitmaps = (torch.zeros(size, dtype=torch.uint8).index_fill_(0, torch.tensor([i]), 1) for i in range(50))
    with Largest() as largest:
        assert Masks.of(bitmaps, size).pixels.shape == (50_000,)
    assert largest.numbers <= 1e6  # one bitmap at a time
