"""Images to a batch by one operator: its levels are OpenCV's, and the batch is what is worked out by hand."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from cascadezoo.errors import UsageError
from cascadezoo.ops.preprocess import preprocess, resized

SIZES = [
    ((480, 640), (800, 1067)),
    ((427, 640), (800, 1199)),
    ((333, 500), (800, 1201)),
    ((1080, 1920), (750, 1333)),
    ((1600, 2132), (800, 1066)),  # half: OpenCV takes means of four
    ((800, 1201), (800, 1201)),  # OpenCV copies
    ((400, 300), (100, 75)),
    ((200, 300), (400, 600)),
    ((100, 75), (400, 300)),
    ((101, 75), (50, 37)),
    ((37, 53), (800, 1146)),
    ((53, 37), (20, 300)),  # one side more, the other less
    ((7, 1), (63, 9)),
    ((1, 7), (9, 63)),
    ((1, 1), (80, 80)),
    ((2, 2), (1, 1)),
    ((1, 4000), (1, 1333)),
    ((4000, 1), (1333, 1)),
    ((3000, 4000), (80, 107)),
]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def differences(
    size: tuple[int, int],
    resize: Callable[[np.ndarray], np.ndarray],
    step: Callable[[int, int], float],
    float32: bool,
) -> np.ndarray:
    image = noise(*size)
    right = resize(image.astype(np.float32) if float32 else image)
    new = right.shape[:2]
    steps = tuple(map(step, new, size)) if new != size else (1.0, 1.0)
    return np.abs(resized(torch.from_numpy(image), new, steps, float32).numpy() - right.astype(np.float32))


def by_sides(old: tuple[int, int], new: tuple[int, int], float32: bool = False) -> np.ndarray:
    return differences(
        old, lambda image: cv2.resize(image, new[::-1]), lambda after, before: 1 / (after / before), float32
    )


def by_scale(size: tuple[int, int], scale: float) -> np.ndarray:
    return differences(size, lambda image: cv2.resize(image, None, fx=scale, fy=scale), lambda *_: 1 / scale, True)


@pytest.fixture(params=[True, False], ids=["with Intel's library", "without"])
def intel(request):
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(request.param)
    yield cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(before)


@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
def test_linear_levels_of_whole_numbers_are_opencvs(old, new, intel) -> None:
    assert by_sides(old, new).max() == 0


def test_linear_levels_of_whole_numbers_are_opencvs_at_any_size(intel) -> None:
    sides = np.random.default_rng(0).integers(1, 250, (120, 4)).tolist()
    for height, width, rows, columns in sides:
        assert by_sides((height, width), (rows, columns)).max() == 0


SCALES = [((480, 640), 800 / 480), ((427, 640), 800 / 427), ((101, 75), 0.5), ((64, 64), 2), ((50, 80), 1.003)]
SCALES += [((1, 9), 3.0), ((333, 500), 1.5), ((640, 963), 1 / 3)]


@pytest.mark.parametrize(("size", "scale"), SCALES, ids=str)
def test_linear_levels_in_float32_are_opencvs_to_two_units_in_the_last_place(size, scale, intel) -> None:
    """Without Intel's library OpenCV's positions are of float32, and of its weights those digits are left that follow
    the point."""
    assert by_scale(size, scale).max() <= (2**-15 if intel else 0.05)


def test_a_batch_worked_out_by_hand() -> None:
    """Twice as wide: at -1/4, 1/4, 3/4, 5/4 the weights of the second pixel are 0 (the edge), 1/4, 3/4, 1."""
    image = torch.tensor([[[0, 8, 255], [40, 8, 15]]], dtype=torch.uint8)
    batch = preprocess([image], [(1, 4)], [(1.0, 0.5)], (2, 5), (10, 8, 0), (2, 1, 5), False, torch.float16)
    assert batch.dtype == torch.float16
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch[0, :, 0].tolist() == [[-5, 0, 10, 15, 0], [0] * 5, [51, 39, 15, 3, 0]]
    assert not batch[0, :, 1].any()


def test_no_images_are_refused() -> None:
    with pytest.raises(UsageError, match="no images"):
        preprocess([], [], [], (2, 2), (0, 0, 0), (1, 1, 1), False, torch.float32)
