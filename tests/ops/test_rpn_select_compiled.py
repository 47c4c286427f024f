"""The CPU kernel of selection: every number of every row is the reference's, to the last bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from cascadezoo.ops.library import COMPILED

from cuda_emulation.selected import arguments, drawn, of_a_pyramid, reference

pytestmark = pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
compiled = torch.ops.cascadezoo.rpn_select
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])


def both(given_: list) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = compiled(*given_)
    for one, other in zip(found, reference(*given_), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    return found


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(drawn())
def test_drawn_levels_are_selected_as_by_the_reference(given_: list) -> None:
    both(given_)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("probability", [False, True])
def test_267_000_anchors_of_five_levels(probability: bool, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = both(of_a_pyramid(2, probability))
    finally:
        torch.set_num_threads(before)
    assert found[3].sum(1).min() > 3000  # 819 anchors on the fifth level


@pytest.mark.parametrize("order", ["rising", "falling", "equal", "noise", "ties", "zeros of both signs"])
@pytest.mark.parametrize("top", [1, 2, 999, 1000, 1001, 2500, 4999, 5000, 5001, 12_000])
def test_one_level_of_many_rows(order: str, top: int) -> None:
    rising, noise = torch.arange(5000.0), torch.randn(5000, generator=torch.Generator().manual_seed(top))
    logits = {
        "rising": rising,
        "falling": -rising,
        "equal": torch.ones(5000),
        "noise": noise,
        "ties": noise.round(),
        "zeros of both signs": torch.where(noise > 0, 0.0, -0.0),
    }[order]
    found = both(arguments([logits[None]], [torch.zeros(1, 5000, 4)], [50], 4, top))
    assert torch.equal(found[1][0, :5000], logits.sort(descending=True, stable=True).values[:top])


@TYPES
def test_deltas_of_other_types_become_float32(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, count, generator=noise) for count in (2400, 600)]
    deltas = [torch.randn(2, count, 4, generator=noise).to(dtype) for count in (2400, 600)]
    deltas[0][:, ::7, 2] = math.inf
    deltas[1][:, ::5, 1] = math.nan
    found = both(arguments(logits, deltas, [40, 20], 3, 1000, min_size=1.0))
    assert found[0].dtype == torch.float32


@TYPES
def test_maps_that_are_not_dense(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    apart = torch.randn(2, 12, 2, generator=noise)[..., 0]
    behind = torch.randn(1 + 2 * 12 * 4, generator=noise).to(dtype)[1:].view(2, 12, 4)
    sizes = torch.tensor([[30, 46]]).expand(2, 2)  # whole numbers, one row for both
    for probability in (False, True):
        both(arguments([apart], [behind], [4], 1, 5, probability=probability, sizes=sizes))


def test_more_levels_and_anchors_than_a_gpus_kernel_takes() -> None:
    noise = torch.Generator().manual_seed(0)
    logits = [torch.randn(1, 2 * 60, generator=noise) for _ in range(9)]
    both(arguments(logits, [torch.randn(1, 120, 4, generator=noise)] * 9, [2] * 9, 60, 50))


def test_no_images_have_no_rows() -> None:
    given_ = arguments([torch.zeros(0, 6)], [torch.zeros(0, 6, 4)], [3], 2, 5)
    assert [x.shape[:2] for x in both(given_)] == [(0, 5)] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": [torch.zeros(1, 5)]}, "logits must be"),
        ({"logits": [torch.zeros(1, 6, dtype=torch.float16)]}, "logits must be float32"),
        ({"deltas": [torch.zeros(1, 6, 4, dtype=torch.int64)]}, "floating point"),
        ({"deltas": [torch.zeros(2, 6, 4)]}, "deltas \\(N, K, 4\\)"),
        ({"logits": [torch.zeros(1, 6)] * 2}, "for each level"),
        ({"logits": [], "deltas": [], "widths": [], "strides": [], "firsts": []}, "for each level"),
        ({"sizes": torch.zeros(1, 3)}, "sizes must be"),
        ({"widths": [3, 3]}, "for each level"),
        ({"widths": [2]}, "rows of 2 cells"),
        ({"widths": [0]}, "rows of 0 cells"),
        ({"halves": [1.0] * 3}, "halves must be"),
        ({"stds": [1.0]}, "stds must be"),
        ({"extent": 2}, "extent must be"),
        ({"top": 0}, "top must lie"),
        ({"top": 2**30 + 1}, "top must lie"),
        ({"logits": [torch.zeros(1, 0)], "deltas": [torch.zeros(1, 0, 4)]}, "must have 1 to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        compiled(*arguments([torch.zeros(1, 6)], [torch.zeros(1, 6, 4)], [3], 2, 5, **change))


def test_deltas_of_levels_in_different_types_are_refused() -> None:
    deltas = [torch.zeros(1, 6, 4), torch.zeros(1, 6, 4, dtype=torch.float16)]
    with pytest.raises(RuntimeError, match="deltas of different types"):
        compiled(*arguments([torch.zeros(1, 6)] * 2, deltas, [3, 3], 2, 5))
