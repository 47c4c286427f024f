"""Images to a batch by one operator: its levels are OpenCV's, and the batch is what is worked out by hand."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from cascadezoo.errors import UsageError
from cascadezoo.ops.preprocess import preprocess, resized
from cascadezoo.spec.conventions import Interpolation

LINEAR, CUBIC = Interpolation.LINEAR, Interpolation.CUBIC
METHODS = {LINEAR: cv2.INTER_LINEAR, CUBIC: cv2.INTER_CUBIC}
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
    *method: object,
) -> np.ndarray:
    image = noise(*size)
    right = resize(image.astype(np.float32) if method[1] else image)
    new = right.shape[:2]
    steps = tuple(map(step, new, size)) if new != size else (1.0, 1.0)
    return np.abs(resized(torch.from_numpy(image), new, steps, *method).numpy() - right.astype(np.float32))


def by_sides(old: tuple[int, int], new: tuple[int, int], method: Interpolation, float32: bool) -> np.ndarray:
    def resize(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, new[::-1], interpolation=METHODS[method])

    return differences(old, resize, lambda after, before: 1 / (after / before), method, float32)


def by_scale(size: tuple[int, int], scale: float, method: Interpolation, float32: bool) -> np.ndarray:
    def resize(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, None, fx=scale, fy=scale, interpolation=METHODS[method])

    return differences(size, resize, lambda *_: 1 / scale, method, float32)


@pytest.fixture(params=[True, False], ids=["with Intel's library", "without"])
def intel(request):
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(request.param)
    yield cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(before)


@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
def test_linear_levels_of_whole_numbers_are_opencvs(old, new, intel) -> None:
    assert by_sides(old, new, LINEAR, False).max() == 0


def test_linear_levels_of_whole_numbers_are_opencvs_at_any_size(intel) -> None:
    sides = np.random.default_rng(0).integers(1, 250, (120, 4)).tolist()
    for height, width, rows, columns in sides:
        assert by_sides((height, width), (rows, columns), LINEAR, False).max() == 0


SCALES = [((480, 640), 800 / 480), ((427, 640), 800 / 427), ((101, 75), 0.5), ((64, 64), 2), ((50, 80), 1.003)]
SCALES += [((1, 9), 3.0), ((333, 500), 1.5), ((640, 963), 1 / 3)]


@pytest.mark.parametrize(("size", "scale"), SCALES, ids=str)
def test_linear_levels_in_float32_are_opencvs_to_two_units_in_the_last_place(size, scale, intel) -> None:
    """Without Intel's library OpenCV's positions are of float32, and of its weights those digits are left that follow
    the point."""
    assert by_scale(size, scale, LINEAR, True).max() <= (2**-15 if intel else 0.05)


@pytest.mark.parametrize(("size", "scale"), SCALES, ids=str)
def test_cubic_levels_are_opencvs_but_for_few_that_differ_by_one(size, scale, intel) -> None:
    """Without Intel's library OpenCV's weights are of 2048."""
    found = by_scale(size, scale, CUBIC, False)
    assert found.max() <= 1
    assert found.sum() <= 3 + found.size * (1e-3 if intel else 0.1)
    assert by_scale(size, scale, CUBIC, True).max() <= 0.02


def test_a_batch_worked_out_by_hand() -> None:
    """Twice as wide: at -1/4, 1/4, 3/4, 5/4 the weights of the second pixel are 0 (the edge), 1/4, 3/4, 1."""
    image = torch.tensor([[[0, 8, 255], [40, 8, 15]]], dtype=torch.uint8)
    batch = preprocess([image], [(1, 4)], [(1.0, 0.5)], (2, 5), (10, 8, 0), (2, 1, 5), LINEAR, False, torch.float16)
    assert batch.dtype == torch.float16
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch[0, :, 0].tolist() == [[-5, 0, 10, 15, 0], [0] * 5, [51, 39, 15, 3, 0]]
    assert not batch[0, :, 1].any()


def test_cubic_weights_worked_out_by_hand() -> None:
    """Half-way between two pixels the four weights are -3/32, 19/32, 19/32, -3/32; 255 * 38/32 is beyond white."""
    rows = torch.tensor([0, 255, 255, 0], dtype=torch.uint8)[:, None, None].expand(4, 1, 3)
    levels = resized(rows, (2, 1), (2.0, 1.0), CUBIC, True)
    assert levels[:, 0, 0].tolist() == pytest.approx([255 * 16 / 32, 255 * 16 / 32])  # the edge's weight counts twice
    rows = torch.tensor([0, 0, 255, 255, 0, 0], dtype=torch.uint8)[:, None, None].expand(6, 1, 3)
    assert resized(rows, (3, 1), (2.0, 1.0), CUBIC, True)[1, 0, 0].item() == pytest.approx(255 * 38 / 32)
    assert resized(rows, (3, 1), (2.0, 1.0), CUBIC, False)[1, 0, 0].item() == 255


def test_no_images_are_refused() -> None:
    with pytest.raises(UsageError, match="no images"):
        preprocess([], [], [], (2, 2), (0, 0, 0), (1, 1, 1), LINEAR, False, torch.float32)
