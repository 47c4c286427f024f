"""DCNv3 of one tensor of points against the softmax and ``dcnv3``, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.dcnv3 import dcnv3, reference
from cascadezoo.ops.dcnv3_fused import POINTS, dcnv3_fused, packed

from cuda_emulation.building import EMULATED, operators

registered = torch.ops.cascadezoo


@pytest.fixture(params=["registered", EMULATED])
def fused(request):
    """The operator as registered, and the CUDA kernel, emulated."""
    return registered.dcnv3_fused if request.param == "registered" else operators().dcnv3_fused


def make(n: int, h: int, w: int, groups: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """An input, offsets, and logits, for a kernel of 3 x 3 that keeps the size."""
    noise = torch.Generator().manual_seed(h * w)
    shapes = [(n, h, w, groups * width), (n, h, w, groups * POINTS * 2), (n, h, w, groups * POINTS)]
    return [torch.randn(shape, generator=noise, dtype=torch.float64).to(dtype) for shape in shapes]


def together(offset: Tensor, logits: Tensor, groups: int) -> Tensor:
    """As the layer of ``packed`` rows would give them; the filling, which nobody may read, is no number."""
    rows = packed(offset.movedim(-1, 0), logits.movedim(-1, 0), groups).movedim(0, -1).contiguous()
    rows[..., 3 * groups * POINTS :] = math.nan
    return rows


def apart(logits: Tensor, groups: int) -> Tensor:
    return logits.unflatten(-1, (groups, POINTS)).softmax(-1).flatten(-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("groups", "width"), [(1, 16), (5, 4), (3, 7)])
def test_equals_softmax_and_dcnv3(groups: int, width: int, dtype: torch.dtype, fused) -> None:
    input, offset, logits = make(2, 9, 13, groups, width, dtype)
    expected = dcnv3(input, offset, apart(logits, groups), 3, 1, 1, 1, groups, 1.5)
    found = fused(input, together(offset, logits, groups), [1, 1], [1, 1], [1, 1], groups, 1.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=32 * torch.finfo(dtype).eps)


def test_every_point_and_group_has_its_own_numbers(fused) -> None:
    """A logit of 1000 leaves one point alone; its offset of thousands of pixels brings it to a pixel of its own."""
    input = torch.arange(2 * 12 * 4, dtype=torch.float32).view(1, 2, 12, 4)
    for group in range(2):
        for point in range(POINTS):
            offset, logits = torch.zeros(1, 2, 12, 2 * POINTS * 2), torch.zeros(1, 2, 12, 2 * POINTS)
            number = group * POINTS + point
            logits[..., number] = 1000
            offset[..., 2 * number] = 3 - point // 3
            offset[..., 2 * number + 1] = 1 - point % 3
            found = fused(input, together(offset, logits, 2), [1, 1], [1, 1], [1, 1], 2, 1.0)
            own = slice(2 * group, 2 * group + 2)
            assert torch.equal(found[:, :, :-2, own], input[:, :, 2:, own])


@pytest.mark.parametrize("away", [40.0, 1e9, 3e38, math.inf, -math.inf, math.nan])
def test_points_outside_give_nothing(away: float, fused) -> None:
    input, offset, logits = make(1, 4, 5, 2, 4)
    rows = together(offset.fill_(away), logits, 2)
    assert not fused(input, rows, [1, 1], [1, 1], [1, 1], 2, 2.0).any()


def test_large_logits_do_not_overflow_and_one_that_is_no_number_spoils_its_group_alone(fused) -> None:
    input, offset, logits = make(1, 4, 5, 2, 4)
    offset.zero_()
    large = fused(input, together(offset, logits + 1e4, 2), [1, 1], [1, 1], [1, 1], 2, 1.0)
    assert large.isfinite().all()
    logits[..., 3] = math.nan
    found = fused(input, together(offset, logits, 2), [1, 1], [1, 1], [1, 1], 2, 1.0)
    assert found[..., :4].isnan().all()
    assert found[..., 4:].isfinite().all()


@pytest.mark.parametrize("shape", [(1, 0, 3, 8), (1, 3, 0, 8), (2, 4, 5, 0), (0, 4, 5, 8)], ids=str)
def test_of_nothing_is_zero(shape: tuple[int, ...], fused) -> None:
    n, h, w, channels = shape
    found = fused(torch.ones(shape), torch.zeros(n, h + 2, w + 2, 56), [1, 1], [2, 2], [1, 1], 2, 1.0)
    assert found.shape == (n, h + 2, w + 2, channels)
    assert not found.any()


@pytest.mark.parametrize(("dtype", "digit"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)], ids=str)
def test_half_types_lose_only_the_last_rounding(dtype: torch.dtype, digit: float, fused) -> None:
    """The softmax is of float32: its weights are never rounded to halves."""
    input, offset, logits = make(1, 12, 10, 2, 16, dtype)
    found = fused(input, together(offset, logits, 2), [1, 1], [1, 1], [1, 1], 2, 2.0)
    exact = [t.double() for t in (input, offset, apart(logits.double(), 2))]
    right = reference(*exact, [3, 3], [1, 1], [1, 1], [1, 1], 2, 2.0)
    assert found.dtype == dtype
    assert bool(((found.double() - right).abs() <= digit * right.abs() + 1e-5).all())


def test_compile_and_export_see_one_node() -> None:
    class Sampler(torch.nn.Module):
        def forward(self, input, rows):
            return dcnv3_fused(input, rows, 1, 1, 1, 2, 2.0)

    input, offset, logits = make(2, 4, 5, 2, 4)
    tensors = input, together(offset, logits, 2)
    expected = Sampler()(*tensors)
    assert torch.equal(torch.compile(Sampler(), fullgraph=True, backend="aot_eager")(*tensors), expected)
    exported = torch.export.export(Sampler(), tensors)
    called = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    assert called == ["cascadezoo.dcnv3_fused.default"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset_mask": torch.zeros(1, 4, 5, 54)}, r"not \(1, 4, 5, 56\)"),
        ({"offset_mask": torch.zeros(4, 5, 56)}, r"not \(1, 4, 5, 56\)"),
        ({"offset_mask": torch.zeros(1, 4, 5, 56).half()}, "float16"),
        ({"offset_mask": torch.zeros(1, 4, 4, 56)}, r"not \(1, 4, 5, 56\)"),
        ({"input": torch.zeros(1, 4, 5, 7)}, "multiple of 2 groups"),
        ({"stride": 0}, "must be positive"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(change: dict, words: str) -> None:
    arguments = {"input": torch.zeros(1, 4, 5, 8), "offset_mask": torch.zeros(1, 4, 5, 56), "stride": 1} | change
    with pytest.raises(UsageError, match=words):
        dcnv3_fused(**arguments, pad=1, dilation=1, groups=2, offset_scale=1.0)


def test_there_is_no_gradient() -> None:
    rows = torch.zeros(1, 4, 5, 56, requires_grad=True)
    with pytest.raises(UsageError, match="train with dcnv3"):
        dcnv3_fused(torch.zeros(1, 4, 5, 8), rows, 1, 1, 1, 2, 1.0).sum().backward()


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("input", "rows", "words"),
    [
        (torch.zeros(1, 4, 5, 8), torch.zeros(1, 4, 5, 54), "rounded up to a multiple of 8"),
        (torch.zeros(1, 4, 5, 8), torch.zeros(1, 4, 5, 56).half(), "of input's type"),
        (torch.zeros(1, 4, 5, 8).int(), torch.zeros(1, 4, 5, 56).int(), "floating point"),
        (torch.zeros(1).expand(1, 1, 1, 2**27), torch.zeros(1, 1, 1, 56), "2\\^26 channels"),
        (torch.zeros(1).expand(2**16, 2**8, 2**8, 2), torch.zeros(1).expand(2**16, 2**8, 2**8, 56), "fewer images"),
    ],
)
def test_the_kernel_refuses_what_it_is_not_for(input: Tensor, rows: Tensor, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        operators().dcnv3_fused(input, rows, [1, 1], [1, 1], [1, 1], 2, 1.0)
