"""The CUDA kernel of selection, emulated: the same anchors in the same order as the reference's.

Boxes and probabilities differ by what exponentials do: C's and PyTorch's differ by a unit in the last place.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from cuda_emulation.building import operators, shared_memory
from cuda_emulation.selected import SCALE, SIDE, arguments, drawn, of_a_pyramid, reference

pytestmark = pytest.mark.emulated
ULP = 2**-23  # of 1 in float32


def same(found: tuple[Tensor, ...], right: tuple[Tensor, ...], side: float) -> None:
    """``side``: no box is larger before it is clipped."""
    torch.testing.assert_close(found[0], right[0], rtol=2 * ULP, atol=side * ULP, equal_nan=True)
    torch.testing.assert_close(found[1], right[1], rtol=3 * ULP, atol=0, equal_nan=True)
    assert torch.equal(found[2], right[2])
    assert torch.equal(found[3], right[3])


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(drawn())
def test_drawn_levels_are_selected_as_by_the_reference(given_: list) -> None:
    same(operators().rpn_select(*given_), reference(*given_), SIDE * math.exp(SCALE))


@pytest.mark.parametrize("ties", [False, True])
def test_anchors_are_selected_one_by_one(ties: bool) -> None:
    """Every box carries its anchor's number: with deltas of zero nothing differs by a bit."""
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 20_000, generator=noise)
    if ties:  # the cut falls among equal scores
        logits = logits.round()
    given_ = arguments(
        [logits], [torch.zeros(2, 20_000, 4)], [100], 1, 3000, sizes=torch.full((2, 2), 1e6), firsts=[1e3]
    )
    boxes, scores, levels, valid = operators().rpn_select(*given_)
    order = (-logits).argsort(dim=1, stable=True)[:, :3000]
    assert torch.equal(scores, logits.gather(1, order))
    assert torch.equal(boxes[..., 0] + SIDE / 2, 1000 + 4.0 * (order % 100))
    assert torch.equal(boxes[..., 1], (1000 + 4.0 * (order // 100)) - torch.tensor(SIDE / 2 / (4 / 3)))
    assert valid.all()
    assert not levels.any()


def test_boxes_differ_by_one_unit_in_the_last_place_of_the_exponential() -> None:
    noise = torch.Generator().manual_seed(0)
    deltas = torch.randn(1, 5000, 4, generator=noise)
    given_ = arguments(
        [torch.randn(1, 5000, generator=noise)], [deltas], [50], 1, 5000, sizes=torch.full((1, 2), 1e6), firsts=[2e3]
    )
    found, right = operators().rpn_select(*given_)[0].double(), reference(*given_)[0].double()
    half = (right[..., 2:] - right[..., :2]).repeat(1, 1, 2) / 2
    one = 2.0 ** (right.abs().log2().floor() - 23)  # the coordinate's own last place, by which it may round otherwise
    assert ((found - right).abs() <= half * ULP + one).all()


@pytest.mark.parametrize("probability", [False, True])
@pytest.mark.parametrize("images", [1, 2])
def test_267_000_anchors_of_five_levels(images: int, probability: bool) -> None:
    given_ = of_a_pyramid(images, probability)
    found, right = operators().rpn_select(*given_), reference(*given_)
    same(found, right, SIDE * 8)
    assert found[3].sum(1).min() > 3000  # 819 anchors on the fifth level


@pytest.mark.parametrize("kilobytes", [48, 163, 227], ids=["without asking", "sm_80", "sm_90"])
@pytest.mark.parametrize(("count", "top"), [(64_000, 6000), (40_000, 12_000), (40_000, 30_000), (32_000, 40_000)])
def test_one_level_of_many_rows(count: int, top: int, kilobytes: int) -> None:
    """C4's 6000 and 12000 fit into a GPU's shared memory, in 64 and 128 KB; more lie in global memory."""
    noise = torch.Generator().manual_seed(top)
    logits, deltas = torch.randn(1, count, generator=noise) * 50, torch.zeros(1, count, 4)
    given_ = arguments([logits.round()], [deltas], [count // 40 // 4], 4, top)
    with shared_memory(kilobytes):
        found = operators().rpn_select(*given_)
    same(found, reference(*given_), SIDE)


@pytest.mark.parametrize(("least", "kept"), [(0.0, 12), (1.17549435e-38, 4)])
def test_boxes_clipped_to_a_line_are_kept_where_no_side_is_too_small(least: float, kept: int) -> None:
    """Of 12 anchors each third stays, each third lies left of its image, and each third above it."""
    deltas = torch.zeros(1, 12, 4)
    deltas[0, 1::3, 0] = deltas[0, 2::3, 1] = -100
    given_ = arguments([torch.arange(12.0)[None]], [deltas], [4], 1, 12, min_size=least)
    found = operators().rpn_select(*given_)
    same(found, reference(*given_), SIDE)
    sides = found[0][..., 2:] - found[0][..., :2]
    assert (sides == 0).any(-1).sum() == 8
    assert found[3].sum() == kept


HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@HALVES
def test_deltas_of_half_types_are_widened_and_nothing_else(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, count, generator=noise) for count in (2400, 600)]
    deltas = [torch.randn(2, count, 4, generator=noise).to(dtype) for count in (2400, 600)]
    deltas[0][:, ::7, 2] = math.inf
    deltas[1][:, ::5, 1] = math.nan
    given_ = arguments(logits, deltas, [40, 20], 3, 1000, min_size=1.0)
    widened = arguments(logits, [d.float() for d in deltas], [40, 20], 3, 1000, min_size=1.0)
    for select in (operators().rpn_select, reference):
        for one, other in zip(select(*given_), select(*widened), strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    same(operators().rpn_select(*given_), reference(*given_), SIDE * math.exp(SCALE))


@HALVES
def test_deltas_of_levels_in_different_types_are_refused(dtype: torch.dtype) -> None:
    deltas = [torch.zeros(1, 6, 4), torch.zeros(1, 6, 4, dtype=dtype)]
    with pytest.raises(RuntimeError, match="deltas of different types"):
        operators().rpn_select(*arguments([torch.zeros(1, 6)] * 2, deltas, [3, 3], 2, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_maps_that_are_not_dense_or_not_aligned(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    apart = torch.randn(2, 12, 2, generator=noise)[..., 0]
    behind = torch.randn(1 + 2 * 12 * 4, generator=noise).to(dtype)[1:].view(2, 12, 4)
    given_ = arguments([apart], [behind], [4], 1, 5)
    same(operators().rpn_select(*given_), reference(*given_), 2000)


def test_no_images_have_no_rows() -> None:
    given_ = arguments([torch.zeros(0, 6)], [torch.zeros(0, 6, 4)], [3], 2, 5)
    assert [x.shape[:2] for x in operators().rpn_select(*given_)] == [(0, 5)] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": [torch.zeros(1, 5)]}, "logits must be"),
        ({"logits": [torch.zeros(1, 6, dtype=torch.float16)]}, "logits must be float32"),
        ({"logits": [torch.zeros(1, 6)] * 9}, "1 to 8 levels"),
        ({"deltas": [torch.zeros(1, 6, 4, dtype=torch.float64)]}, "float32 or of a half type"),
        ({"deltas": [torch.zeros(2, 6, 4)]}, "deltas \\(N, K, 4\\)"),
        ({"sizes": torch.zeros(1, 3)}, "sizes must be"),
        ({"widths": [3, 3]}, "for each level"),
        ({"widths": [2]}, "rows of 2 cells"),
        ({"halves": [1.0] * 3}, "halves must be"),
        ({"halves": [1.0] * 514}, "at most 256"),
        ({"stds": [1.0]}, "stds must be"),
        ({"extent": 2}, "extent must be"),
        ({"top": 0}, "top must lie"),
        ({"logits": [torch.zeros(1, 0)], "deltas": [torch.zeros(1, 0, 4)]}, "must have 1 to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        operators().rpn_select(*arguments([torch.zeros(1, 6)], [torch.zeros(1, 6, 4)], [3], 2, 5, **change))
