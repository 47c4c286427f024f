"""The CUDA kernel that makes a batch of images, emulated: the same numbers as the reference's, to the last bit."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cuda_emulation.building import operators
from cuda_emulation.on_device import DEVICE

pytestmark = pytest.mark.emulated
registered = torch.ops.cascadezoo
METHODS = pytest.mark.parametrize("float32", [False, True], ids=["whole levels", "float32"])
COLOURS = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
Size = tuple[int, int]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def arguments(
    images: Sequence[Tensor], sizes: Sequence[Size], padded: Size, *rest: object, steps: Sequence[float] = ()
) -> list:
    pairs = [(image.shape[axis], size[axis]) for image, size in zip(images, sizes, strict=True) for axis in (0, 1)]
    steps = list(steps) or [1 / (new / old) for old, new in pairs]
    return [list(images), [new for _, new in pairs], steps, *COLOURS, *padded, *rest]


def same(*given: object) -> None:
    found, right = operators().preprocess(*given), registered.preprocess(*given)
    assert (found.shape, found.dtype, found.stride()) == (right.shape, right.dtype, right.stride())
    assert torch.equal(found, right)


@METHODS
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(st.data())
def test_drawn_images(float32: bool, data) -> None:
    side = st.one_of(st.integers(1, 5), st.integers(1, 70))
    draw = data.draw(st.lists(st.tuples(side, side, side, side), min_size=1, max_size=3))
    images = [noise(height, width, seed=i) for i, (height, width, *_) in enumerate(draw)]
    sizes = [(rows, columns) for *_, rows, columns in draw]
    padded = tuple(max(axis) + data.draw(st.integers(0, 9)) for axis in zip(*sizes, strict=True))
    given = arguments(images, sizes, padded, float32, data.draw(st.sampled_from(DTYPES)))
    if data.draw(st.booleans()):  # the nominal step, a little more or less than the achieved one
        given[2] = [step * data.draw(st.floats(0.9, 1.1)) for step in given[2]]
    same(*given)


@METHODS
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)], ids=str)
def test_sides_of_one_pixel(size: Size, float32: bool) -> None:
    for new in ((1, 1), (1, 37), (53, 1), (16, 16), size):
        same(*arguments([noise(*size)], [new], (64, 64), float32, torch.float32))


@METHODS
def test_480_x_640_becomes_800_x_1067(float32: bool) -> None:
    same(*arguments([noise(480, 640)], [(800, 1067)], (800, 1088), float32, torch.float32))


@METHODS
def test_twelve_megapixels_become_800_x_1067(float32: bool) -> None:
    same(*arguments([noise(3000, 4000)], [(800, 1067)], (800, 1088), float32, torch.float16))


def test_more_images_than_one_launch_takes() -> None:
    images = [noise(3 + i % 5, 4 + i % 3, seed=i) for i in range(130)]
    same(*arguments(images, [(5 + i % 4, 7) for i in range(130)], (8, 12), False, torch.float32))


def test_images_that_do_not_lie_in_one_piece() -> None:
    images = [noise(20, 30).transpose(0, 1), noise(40, 9)[::2], noise(9, 12).flip(1)]
    same(*arguments(images, [(8, 9), (10, 11), (12, 13)], (13, 13), False, torch.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: []}, "no tensor arguments"),
        ({0: [torch.zeros(4, 5, 3)]}, "of uint8"),
        ({0: [torch.zeros(4, 5, 4, dtype=torch.uint8)]}, r"must be \(h, w, 3\)"),
        ({0: [torch.zeros(0, 5, 3, dtype=torch.uint8)]}, "sides must lie in"),
        ({1: [6]}, "two sides and two steps"),
        ({1: [0, 6]}, "a resized image of 0 x 6"),
        ({1: [6, 9]}, "a resized image of 6 x 9"),
        ({2: [1.0]}, "two sides and two steps"),
        ({2: [0.0, 1.0]}, "steps must be positive"),
        ({2: [float("nan"), 1.0]}, "steps must be positive"),
        ({2: [1.0, 1e12]}, "steps must be positive"),
        ({3: [1.0]}, "three numbers"),
        ({4: [1.0]}, "three numbers"),
        ({5: 2**20}, "sides must lie in"),
        ({6: 0}, "sides must lie in"),
        ({8: torch.int64}, "must be floating point"),
    ],
    ids=str,
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    given = arguments([noise(4, 5)], [(6, 7)], (8, 8), False, torch.float32)
    for place, value in change.items():
        given[place] = value
    if DEVICE and not given[0]:
        pytest.skip("without a tensor the dispatcher knows of no device")
    with pytest.raises(RuntimeError, match=words):
        operators().preprocess(*given)
