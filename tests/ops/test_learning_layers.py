"""What learns on a CPU by other sums than PyTorch's own: results and gradients against those in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.modeling.layers import Conv, LinearReLU
from cascadezoo.ops import conv3x3, linear_relu
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd import weight_gradient

compiled = pytest.mark.skipif("cpu" not in COMPILED, reason="PyTorch's own layers run where no operator is compiled")


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def error(found: Tensor, expected: Tensor) -> float:
    """Of what is expected, as standard deviations."""
    return ((found - expected).std() / expected.std()).item()


Layer = Callable[..., Tensor]


def compared(layer: Layer, plain: Layer, inputs: list[Tensor], grad: Tensor) -> list[float]:
    """The errors of a layer's result and of its inputs' gradients."""
    own = [x.clone().requires_grad_() for x in inputs]
    wide = [x.double().requires_grad_() for x in inputs]
    out, expected = layer(*own), plain(*wide)
    grad = grad.where(expected > 1e-3, 0)  # on one side of zero in both
    pairs = zip(torch.autograd.grad(out, own, grad), torch.autograd.grad(expected, wide, grad.double()), strict=True)
    return [error(out, expected), *(error(one, other) for one, other in pairs)]


@compiled
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("channels", "out", "sides"), [(64, 96, (33, 38)), (256, 256, (50, 70))])
def test_a_convolution_by_winograd_learns_as_the_plain_one(
    channels: int, out: int, sides: tuple[int, int], relu: bool
) -> None:
    """A plain sum in float32 has errors of 1.5e-6; these are some three times as large."""
    x, weight, bias, grad = drawn((2, channels, *sides), (out, channels, 3, 3), (out,), (2, out, *sides))
    assert conv3x3.is_quicker(x, weight)

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        found = F.conv2d(x, weight, bias, padding=1)
        return found.relu() if relu else found

    found = compared(lambda *given: conv3x3.conv3x3(*given, relu=relu), plain, [x, weight, bias], grad)
    assert max(found) < 1e-5


@compiled
def test_a_layer_in_training_takes_the_quicker_way_and_no_other() -> None:
    conv, (x,) = Conv(32, 32, 3, relu=True), drawn((1, 32, 40, 40))
    own = conv(x).permute(0, 2, 3, 1).grad_fn.next_functions[0][0].next_functions[0][0]
    ways = [type(fn).__name__ for fn in (own, conv(x).grad_fn, conv.eval()(x).grad_fn)]
    assert "Conv3x3" in ways[0]
    assert ways[1:] == ["PermuteBackward0", "ReluBackward0"]
    conv.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((1, 32, 31, 33), (32, 32, 3, 3)),  # too few pixels
        ((1, 32, 40, 40), (32, 32, 1, 1)),
        ((1, 16, 40, 40), (32, 16, 3, 3)),  # whose input's gradient has 16 channels
        ((1, 32, 40, 40), (32, 16, 3, 3)),  # groups
    ],
)
def test_other_convolutions_stay_pytorchs(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    assert not conv3x3.is_quicker(torch.zeros(x), torch.zeros(weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_stay_pytorchs(dtype: torch.dtype) -> None:
    assert not conv3x3.is_quicker(torch.zeros(1, 32, 40, 40, dtype=dtype), torch.zeros(32, 32, 3, 3, dtype=dtype))
    assert not linear_relu.is_quicker(torch.zeros(4, 4, dtype=dtype), torch.zeros(4, 4, dtype=dtype))


@compiled
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (3, 48, 13, 18), (5, 16, 14, 14)])
def test_the_weights_gradient_by_any_instructions_and_threads(shape: tuple[int, ...], lanes: int) -> None:
    x, grad = drawn(shape, (shape[0], 96, *shape[2:]))
    weight = torch.zeros(96, shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x.double(), weight, padding=1), weight, grad.double())
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(weight_gradient(x, grad, lanes=lanes))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    assert error(found[0], expected) < 1e-5


def test_of_no_pixels_the_weights_gradient_is_zero() -> None:
    assert torch.equal(weight_gradient(torch.zeros(2, 16, 0, 4), torch.zeros(2, 32, 0, 4)), torch.zeros(32, 16, 3, 3))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_a_linear_layer_learns_as_pytorchs() -> None:
    x, weight, bias, grad = drawn((50, 70), (90, 70), (90,), (50, 90))
    plain: Layer = lambda x, weight, bias: F.linear(x, weight, bias).relu()  # noqa: E731
    assert max(compared(linear_relu.linear_relu, plain, [x, weight, bias], grad)) < 1e-6
    layer = LinearReLU(70, 90)
    assert layer(x).grad_fn.name() == "_LinearReLUBackward"
    assert layer(x[:0]).shape == (0, 90)
    torch.testing.assert_close(layer(x), layer.eval()(x))
