"""DCNv3 against the recorded operator cases, and against a loop written from its definition."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cascadezoo.errors import UsageError
from cascadezoo.ops import dcnv3 as module
from cascadezoo.ops.dcnv3 import dcnv3

from cuda_emulation.building import EMULATED, operators

RECORDED = sorted((Path(__file__).parents[1] / "parity/internimage/ops").glob("*.npz"))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BOUND = {torch.float64: 1e-9, torch.float32: 1e-5}  # of the largest value
GRADIENTS = ("grad_input", "grad_offset", "grad_mask")
registered = torch.ops.cascadezoo


@pytest.fixture(params=["reference", "operator", EMULATED])
def route(request):
    """(forward, backward): the reference; what is registered, compiled where built; the CUDA kernels, emulated."""
    if request.param == "reference":
        return module.reference, module.backward_reference
    if request.param == "operator":
        return registered.dcnv3, registered.dcnv3_backward
    return operators().dcnv3, operators().dcnv3_backward


def load(path: Path, dtype: torch.dtype, device: str = "cpu") -> tuple[dict, list]:
    data = np.load(path)
    tensors = {k: torch.from_numpy(data[k]).to(device, dtype) for k in ("input", "offset", "mask", "w")}
    tensors |= {k: torch.from_numpy(data[k]) for k in ("output", *GRADIENTS)}
    pairs = [[int(data[k])] * 2 for k in ("kernel", "stride", "pad", "dilation")]
    return tensors, [*pairs, int(data["group"]), float(data["offset_scale"])]


def departure(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.cpu().double() - expected).abs().max() / expected.abs().max())


def test_all_six_cases_are_there() -> None:
    assert len(RECORDED) == 6


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_equals_the_recorded_case_with_its_gradients(path: Path, dtype: torch.dtype, route) -> None:
    forward, backward = route
    case, numbers = load(path, dtype)
    output = forward(case["input"], case["offset"], case["mask"], *numbers)
    grads = backward(case["w"], case["input"], case["offset"], case["mask"], *numbers)
    assert output.dtype == dtype
    assert departure(output, case["output"]) <= BOUND[dtype]
    for name, grad in zip(GRADIENTS, grads, strict=True):
        assert departure(grad, case[name]) <= BOUND[dtype], name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_autograd_reaches_the_recorded_gradients(path: Path, dtype: torch.dtype, device: str) -> None:
    case, (kernel, *numbers) = load(path, dtype, device)
    leaves = [case[k].requires_grad_() for k in ("input", "offset", "mask")]
    output = dcnv3(*leaves, kernel[0], *(tuple(n) if isinstance(n, list) else n for n in numbers))
    (output * case["w"]).sum().backward()
    assert departure(output.detach(), case["output"]) <= BOUND[dtype]
    for name, leaf in zip(GRADIENTS, leaves, strict=True):
        assert departure(leaf.grad, case[name]) <= BOUND[dtype], name


def by_loop(image, offset, mask, kernel, stride, pad, dilation, groups, scale) -> np.ndarray:
    """The definition, one number at a time, for one image; pairs are height, width."""
    h, w, channels = image.shape
    ho, wo, _ = mask.shape
    width, points = channels // groups, kernel[0] * kernel[1]
    out = np.zeros((ho, wo, channels))
    half = [dilation[a] * (kernel[a] - 1) // 2 for a in (0, 1)]
    for yo, xo, g, ix, iy in np.ndindex(ho, wo, groups, kernel[1], kernel[0]):
        p = g * points + ix * kernel[0] + iy
        x = xo * stride[1] - pad[1] + half[1] + (ix * dilation[1] - half[1] + offset[yo, xo, 2 * p]) * scale
        y = yo * stride[0] - pad[0] + half[0] + (iy * dilation[0] - half[0] + offset[yo, xo, 2 * p + 1]) * scale
        for row, column in np.ndindex(h, w):
            near = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            own = slice(g * width, (g + 1) * width)
            out[yo, xo, own] += mask[yo, xo, p] * near * image[row, column, own]
    return out


# kernel, stride, pad, dilation: height differs from width in each
OBLONG = [
    ([3, 1], [1, 1], [1, 0], [1, 1]),
    ([2, 3], [2, 1], [0, 2], [1, 2]),
    ([1, 4], [1, 3], [2, 1], [3, 1]),
]


def make(n, h, w, groups, width, window, dtype=torch.float64, spread=1.5, device="cpu"):
    out = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip((h, w), *window, strict=True)]
    points = groups * window[0][0] * window[0][1]
    generator = torch.Generator().manual_seed(1)
    shapes = [(n, h, w, groups * width), (n, *out, 2 * points), (n, *out, points)]
    scales = (1, spread, 1)
    return [
        (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(device, dtype)
        for shape, scale in zip(shapes, scales, strict=True)
    ]


@pytest.mark.parametrize("width", [1, 7, 16])
@pytest.mark.parametrize("window", OBLONG, ids=str)
def test_oblong_windows_and_any_group_width_follow_the_definition(window, width: int, route) -> None:
    tensors = make(2, 5, 6, 2, width, window)
    found = route[0](*tensors, *window, 2, 1.5)
    for i in range(2):
        expected = by_loop(*(t[i].numpy() for t in tensors), *window, 2, 1.5)
        assert departure(found[i], torch.from_numpy(expected)) <= 1e-12


SQUARE = ([3, 3], [1, 1], [1, 1], [1, 1])


@pytest.mark.parametrize("window", [SQUARE, OBLONG[1]], ids=["square", "oblong"])
def test_gradcheck(window) -> None:
    tensors = [t.requires_grad_() for t in make(1, 4, 5, 2, 3, window)]
    assert torch.autograd.gradcheck(lambda *t: dcnv3(*t, *map(tuple, window), 2, 1.5), tensors)


def test_compile_and_export_see_one_node() -> None:
    class Sampler(torch.nn.Module):
        def forward(self, input, offset, mask):
            return dcnv3(input, offset, mask, 3, 1, 1, 1, 2, 2.0)

    tensors = tuple(make(2, 4, 5, 2, 4, SQUARE, torch.float32))
    expected = Sampler()(*tensors)
    assert torch.equal(torch.compile(Sampler(), fullgraph=True, backend="aot_eager")(*tensors), expected)
    exported = torch.export.export(Sampler(), tensors)
    assert [str(n.target) for n in exported.graph.nodes if n.op == "call_function"] == ["cascadezoo.dcnv3.default"]
    assert torch.equal(exported.module()(*tensors), expected)


@pytest.mark.emulated
@pytest.mark.parametrize("points", [torch.float16, torch.float32], ids=str)
def test_emulated_half_types_lose_only_the_last_rounding(points: torch.dtype) -> None:
    """Vectors of 8 halves, as a width of 16 allows, and single ones, as 3 demands."""
    for width in (16, 3):
        tensors = make(1, 12, 10, 2, width, SQUARE, torch.float16)
        tensors = [tensors[0], *(t.to(points) for t in tensors[1:])]
        grad = torch.ones_like(tensors[0])
        numbers = (*SQUARE, 2, 2.0)
        found = [operators().dcnv3(*tensors, *numbers), *operators().dcnv3_backward(grad, *tensors, *numbers)]
        exact = [t.double() for t in tensors]
        right = [module.reference(*exact, *numbers), *module.backward_reference(grad.double(), *exact, *numbers)]
        for one, other in zip(found, right, strict=True):
            assert departure(one, other) < 2**-10
        assert [t.dtype for t in found] == [torch.float16, torch.float16, points, points]


@pytest.mark.emulated
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_emulated_at_the_size_of_most_of_internimages_layers(dtype: torch.dtype) -> None:
    """22 of InternImage-L's 37 lie here: stride 16 of 800 x 1344 pixels, 640 channels in 40 groups."""
    tensors = make(1, 50, 84, 40, 16, SQUARE, dtype)
    grad = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    numbers = (*SQUARE, 40, 1.0)
    found = [operators().dcnv3(*tensors, *numbers), *operators().dcnv3_backward(grad, *tensors, *numbers)]
    wide = [t.float() for t in (*tensors, grad)]
    right = [module.reference(*wide[:3], *numbers), *module.backward_reference(wide[3], *wide[:3], *numbers)]
    for one, other in zip(found, right, strict=True):
        assert one.dtype == dtype
        assert departure(one, other) < {torch.float32: 1e-5, torch.float16: 2**-10}[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("points", ["input's type", "float32"])
@pytest.mark.parametrize(("dtype", "digit"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)], ids=str)
def test_half_types_lose_only_the_last_rounding(dtype: torch.dtype, digit: float, points: str, device: str) -> None:
    input, offset, mask = make(1, 20, 30, 2, 16, SQUARE, dtype, device=device)
    if points == "float32":
        offset, mask = offset.float() + 1e-4, mask.float()
    leaves = [t.requires_grad_() for t in (input, offset, mask)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    found, expected = (dcnv3(*t, 3, 1, 1, 1, 2, 2.0) for t in (leaves, exact))
    assert found.dtype == dtype
    # one rounding of the result, half a unit in its last place, and float32's own errors before it
    assert bool(((found.double() - expected).abs() < digit * expected.abs() + 1e-4).all())
    found.sum().backward()
    expected.sum().backward()
    for leaf, right in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == leaf.dtype
        assert departure(leaf.grad, right.grad.cpu()) < digit


def test_mixed_types_are_sampled_in_float32() -> None:
    input, offset, mask = make(1, 6, 6, 1, 4, SQUARE, torch.float32)
    half = dcnv3(input.half(), offset.half(), mask, 3, 1, 1, 1, 1, 1.0)
    expected = dcnv3(input.half().float(), offset.half().float(), mask, 3, 1, 1, 1, 1, 1.0)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, expected.half())


def test_an_empty_batch_has_empty_results(route) -> None:
    tensors = make(0, 4, 5, 2, 4, SQUARE)
    output = route[0](*tensors, *SQUARE, 2, 2.0)
    assert output.shape == (0, 4, 5, 8)
    assert [g.shape for g in route[1](output, *tensors, *SQUARE, 2, 2.0)] == [t.shape for t in tensors]


@pytest.mark.parametrize("away", [40.0, 1e9, 1e30, math.inf, -math.inf, math.nan])
def test_points_outside_give_nothing(away: float, route) -> None:
    input, offset, mask = make(1, 4, 5, 2, 4, SQUARE)
    offset.fill_(away)
    assert not route[0](input, offset, mask, *SQUARE, 2, 2.0).any()
    for grad in route[1](torch.ones_like(input), input, offset, mask, *SQUARE, 2, 2.0):
        assert not grad.any()


def test_a_point_at_an_integer_takes_the_slope_to_its_right(route) -> None:
    """One row 1, 4, 9: at x = 1 the slope is 9 - 4 = 5; at x = -1 the point is dropped; at x = 2 it falls to 0: -9."""
    input = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64).reshape(1, 1, 3, 1)
    offset = torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    offset[0, 0, 0, 0] = -1.0
    mask = torch.ones(1, 1, 3, 1, dtype=torch.float64)
    window = ([1, 1], [1, 1], [0, 0], [1, 1])
    assert route[0](input, offset, mask, *window, 1, 1.0).flatten().tolist() == [0.0, 4.0, 9.0]
    _, slopes, _ = route[1](torch.ones_like(input), input, offset, mask, *window, 1, 1.0)
    assert slopes[0, 0, :, 0].tolist() == [0.0, 5.0, -9.0]


def test_chunks_do_not_show(monkeypatch) -> None:
    tensors = make(2, 5, 6, 2, 4, SQUARE)
    grad = torch.randn_like(tensors[0])
    whole = module.reference(*tensors, *SQUARE, 2, 2.0), *module.backward_reference(grad, *tensors, *SQUARE, 2, 2.0)
    for chunk in (1, 6 * 2 * 9 * 8 * 3):  # a row at a time; three rows, of ten
        monkeypatch.setattr(module, "CHUNK", chunk)
        parts = module.reference(*tensors, *SQUARE, 2, 2.0), *module.backward_reference(grad, *tensors, *SQUARE, 2, 2.0)
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_results_do_not_depend_on_the_threads() -> None:
    tensors = make(2, 9, 10, 3, 5, SQUARE, torch.float32)
    grad, threads, found = torch.ones_like(tensors[0]), torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        forward = registered.dcnv3(*tensors, *SQUARE, 3, 2.0)
        found.append((forward, *registered.dcnv3_backward(grad, *tensors, *SQUARE, 3, 2.0)))
    torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": (1, 4, 5, 7)}, "multiple of 2 groups"),
        ({"offset": (1, 4, 5, 35)}, "offset has shape"),
        ({"mask": (1, 4, 4, 18)}, "mask has shape"),
        ({"stride": 0}, "must be positive"),
        ({"pad": 0, "input": (1, 2, 5, 8)}, "smaller than the kernel"),
    ],
)
def test_shapes_that_do_not_belong_together_are_one_sentence(change: dict, words: str) -> None:
    shapes = {"input": (1, 4, 5, 8), "offset": (1, 4, 5, 36), "mask": (1, 4, 5, 18)}
    numbers = {"kernel": 3, "stride": 1, "pad": 1, "dilation": 1, "groups": 2, "offset_scale": 1.0}
    tensors = {name: torch.zeros(change.get(name, shape)) for name, shape in shapes.items()}
    with pytest.raises(UsageError, match=words):
        dcnv3(**tensors, **(numbers | {k: v for k, v in change.items() if k in numbers}))


def test_integers_are_refused() -> None:
    tensors = [t.int() for t in make(1, 4, 5, 2, 4, SQUARE)]
    with pytest.raises(UsageError, match="not floating point"):
        dcnv3(*tensors, 3, 1, 1, 1, 2, 1.0)


def test_there_is_no_second_derivative() -> None:
    tensors = [t.requires_grad_() for t in make(1, 4, 5, 2, 4, SQUARE)]
    (grad,) = torch.autograd.grad(dcnv3(*tensors, 3, 1, 1, 1, 2, 1.0).square().sum(), tensors[:1], create_graph=True)
    with pytest.raises(UsageError, match="differentiated once"):
        grad.sum().backward()
