"""The end of a mask head for one class per RoI, the reference and each instruction set that this processor has."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.one_class_masks import can_pack, one_class_masks, pack_deconvolution

LANES = (4, 8, 16) if "cpu" in COMPILED else (16,)


def drawn(rois: int, cells: int, channels: int, between: int, classes: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "x": (rois, channels, cells, cells),
        "weight": (channels, between, 2, 2),
        "bias": (between,),
        "class_weight": (classes, between),
        "class_bias": (classes,),
    }
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**made, "labels": torch.arange(rois) % classes}


def exact(x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor) -> Tensor:
    between = F.conv_transpose2d(x.double(), weight.double(), bias.double(), stride=2).relu()
    logits = F.conv2d(between, class_weight.double()[..., None, None], class_bias.double())
    return logits[torch.arange(len(x)), labels]


def packed(arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**arguments, "weight": pack_deconvolution(arguments["weight"])}


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("rois", [0, 1, 5])
@pytest.mark.parametrize(("cells", "channels", "between"), [(1, 16, 32), (5, 48, 64), (14, 64, 32)])
def test_equals_the_two_convolutions(rois: int, cells: int, channels: int, between: int, lanes: int) -> None:
    arguments = drawn(rois, cells, channels, between, classes=3)
    found = one_class_masks(**packed(arguments), lanes=lanes)
    expected = exact(**arguments)
    assert found.shape == expected.shape == (rois, 2 * cells, 2 * cells)
    if rois:
        assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize("lanes", LANES)
def test_what_is_no_number_stays_so(lanes: int) -> None:
    arguments = packed(drawn(1, 3, 16, 32, classes=2))
    arguments["x"][0, 5, 1, 2] = float("nan")
    found = one_class_masks(**arguments, lanes=lanes)[0].isnan()
    assert found[2:4, 4:].all()
    assert found.sum() == 4


@pytest.mark.skipif("cpu" not in COMPILED, reason="the reference is matrix products, whose sums follow their shapes")
def test_gives_the_same_in_any_number_of_threads() -> None:
    arguments = packed(drawn(5, 14, 32, 32, classes=3))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(one_class_masks(**arguments))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("shape", "able"),
    [((16, 32, 2, 2), True), ((16, 32, 4, 4), False), ((24, 32, 2, 2), False), ((16, 24, 2, 2), False)],
)
def test_says_what_it_can_pack(shape: tuple[int, ...], able: bool) -> None:
    assert can_pack(torch.zeros(shape)) is able


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 24, 4, 4)}, "multiples"),
        ({"x": torch.zeros(1, 32, 4, 4)}, "pack_deconvolution"),
        ({"x": torch.zeros(1, 16, 4, 4, dtype=torch.float64)}, "float32"),
        ({"bias": torch.zeros(64)}, "pack_deconvolution"),
        ({"class_weight": torch.zeros(3, 32)}, "class_weight"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, "labels"),
        ({"labels": torch.tensor([2])}, "labels"),
        ({"labels": torch.tensor([-1])}, "labels"),
        ({"labels": torch.zeros(1, dtype=torch.int32)}, "labels"),
        ({"lanes": 5}, "lanes"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Tensor | int], message: str) -> None:
    arguments = packed(drawn(1, 4, 16, 32, classes=2))
    with pytest.raises((UsageError, RuntimeError), match=message):
        one_class_masks(**(arguments | change))
