"""Layer norms over channels, alone and behind a convolution; the simple pyramid that is made of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cascadezoo.modeling.layers import Conv
from cascadezoo.modeling.norms import ChannelLayerNorm, ConvLayerNorm, convolution
from cascadezoo.modeling.resnet import ConvNorm
from cascadezoo.modeling.simple_pyramid import SimplePyramid
from cascadezoo.spec.norm import Norm


def normed(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """(N, C, H, W): less the mean over channels, by the root of the biased variance and a millionth."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    out = (x - mean) / torch.sqrt(variance + 1e-6)
    return norm.weight[:, None, None] * out + norm.bias[:, None, None]


@torch.no_grad()
def lively(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.uniform_(-1, 1, generator=torch.Generator().manual_seed(parameter.numel()))
    return module


@torch.no_grad()
@pytest.mark.parametrize("spread", [1.0, 1e-3])  # of 1e-3 the millionth is half
def test_a_layer_norm_is_over_the_channels_of_each_cell(spread: float) -> None:
    norm, x = lively(ChannelLayerNorm(6)), spread * torch.randn(2, 6, 3, 4)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        found = norm(given)
        torch.testing.assert_close(found, normed(x, norm), rtol=1e-4, atol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_convolution_is_normed_before_the_sum_and_the_relu(kernel, relu, summed, training) -> None:
    conv = lively(ConvLayerNorm(4, 6, kernel, relu=relu)).train(training)
    x, other = torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5)
    expected = normed(F.conv2d(x, conv.weight, padding=kernel // 2), conv.norm)
    expected = expected + other if summed else expected
    expected = expected.relu() if relu else expected
    found = conv(x, other.clone()) if summed else conv(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


@pytest.mark.parametrize(
    ("norm", "kind", "names"),
    [
        (None, Conv, {"weight", "bias"}),
        (Norm.LAYER, ConvLayerNorm, {"weight", "norm.weight", "norm.bias"}),
        (Norm.BATCH, ConvNorm, {"weight", *(f"norm.{n}" for n in ("weight", "bias", "running_mean", "running_var"))}),
    ],
)
def test_a_norm_stands_in_the_place_of_the_bias(norm: Norm | None, kind: type, names: set[str]) -> None:
    made = convolution(norm, 4, 6, 3, relu=True)
    assert type(made) is kind
    assert made.state_dict().keys() == names
    assert made.relu


@torch.no_grad()
def test_a_simple_pyramid_by_hand() -> None:
    neck, x = lively(SimplePyramid(8, 6)), torch.randn(2, 8, 6, 4)
    finest, fine, same, coarse = neck.levels

    def ended(level: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        first, second = level[-2:]
        x = normed(F.conv2d(x, first.weight), first.norm)
        return normed(F.conv2d(x, second.weight, padding=1), second.norm)

    def doubled(deconv: nn.ConvTranspose2d, x: torch.Tensor) -> torch.Tensor:
        out = x.new_zeros(len(x), deconv.weight.shape[1], 2 * x.shape[2], 2 * x.shape[3])
        for i in range(2):
            for j in range(2):
                out[:, :, i::2, j::2] = torch.einsum("nchw,ck->nkhw", x, deconv.weight[:, :, i, j])
        return out + deconv.bias[:, None, None]

    halfway = normed(doubled(finest[0], x), finest[1])
    halfway = halfway * (1 + torch.erf(halfway / 2**0.5)) / 2  # GELU
    pooled = torch.stack([x[:, :, i::2, j::2] for i in range(2) for j in range(2)]).amax(0)
    expected = [
        ended(finest, doubled(finest[3], halfway)),
        ended(fine, doubled(fine[0], x)),
        ended(same, x),
        ended(coarse, pooled),
    ]
    found = neck([torch.zeros(2, 3, 12, 8), x])  # the last map alone
    assert [tuple(level.shape[1:]) for level in found] == [(6, 24, 16), (6, 12, 8), (6, 6, 4), (6, 3, 2), (6, 2, 1)]
    for one, other in zip(found, [*expected, expected[-1][:, :, ::2, ::2]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
