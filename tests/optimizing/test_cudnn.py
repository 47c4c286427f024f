"""The layers of a lean network on an NVIDIA GPU: each computes what the one in whose place it is put does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from optimizing.test_cpu import noise
from optimizing.test_lean import trained
from torch import Tensor, nn

from cascadezoo.modeling.layers import Conv, LinearReLU
from cascadezoo.optimizing import cudnn, weights
from cascadezoo.optimizing.cudnn import AddmmReLU, CudnnConv, for_cudnn
from cascadezoo.optimizing.lean import lean
from cascadezoo.optimizing.precision import Settings

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


def convolved(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
    """cuDNN's operator, as its documentation has it."""
    stride, padding, dilation, groups = geometry
    return F.relu(F.conv2d(x, weight, bias, stride, padding, dilation, groups))


def convolved_onto(x: Tensor, weight: Tensor, onto: Tensor, alpha: float, bias: Tensor, *geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    return F.relu(F.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * onto)


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch) -> str:
    """A device; on a CPU with stand-ins for cuDNN's operators, which only a GPU has."""
    if request.param == "cpu":
        monkeypatch.setattr(torch, "cudnn_convolution_relu", convolved)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", convolved_onto)
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    return request.param


def replaced(layer: nn.Module) -> nn.Module:
    holder = nn.Sequential(nn.Sequential(layer))
    for_cudnn(holder)
    return holder[0][0]


@torch.no_grad()
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize(
    "conv",
    [
        Conv(32, 64, 3, relu=True),
        Conv(32, 64, 3, stride=2, relu=True),
        Conv(32, 64, 3, groups=4, relu=True),
        Conv(32, 20, 1, relu=True),
        Conv(3, 32, 7, stride=2, relu=True),
    ],
    ids=["3x3", "stride", "groups", "1x1", "colours"],
)
def test_a_convolution(device: str, conv: Conv, summed: bool) -> None:
    x = noise(2, conv.in_channels, 17, 22)
    onto = noise(*conv(x).shape) if summed else None
    expected = conv(x, None if onto is None else onto.clone())
    layer = replaced(conv).to(device)
    assert isinstance(layer, CudnnConv)
    found = layer(x.to(device), None if onto is None else onto.to(device)).cpu()
    conv.cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_regions_at_all(device: str) -> None:
    layer = replaced(Conv(32, 64, 3, relu=True)).to(device)
    assert layer(torch.empty(0, 32, 14, 14, device=device)).shape == (0, 64, 14, 14)


@torch.no_grad()
def test_a_linear_layer(device: str) -> None:
    torch.manual_seed(0)
    linear = LinearReLU(24, 40)
    expected = linear(noise(9, 24))
    layer = replaced(linear).to(device)
    assert isinstance(layer, AddmmReLU)
    torch.testing.assert_close(layer(noise(9, 24).to(device)).cpu(), expected, rtol=1e-4, atol=1e-5)


def test_what_ends_in_no_relu_stays(device: str) -> None:
    for layer in (Conv(8, 8, 3), Conv(8, 8, 3, bias=False, relu=True), nn.Conv2d(8, 8, 1), nn.Linear(8, 8)):
        assert replaced(layer) is layer


@torch.no_grad()
def test_what_cudnn_cannot_count_is_left_to_pytorch(device: str, monkeypatch) -> None:
    conv = Conv(8, 16, 3, relu=True)
    expected = conv(noise(2, 8, 5, 6))
    monkeypatch.setattr(cudnn, "_MOST", 2 * 16 * 5 * 6 - 1)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", None)
    layer = replaced(conv).to(device)
    torch.testing.assert_close(layer(noise(2, 8, 5, 6).to(device)).cpu(), expected, rtol=1e-4, atol=1e-5)


def test_without_cudnn_a_network_stays_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    conv = Conv(8, 8, 3, relu=True)
    assert replaced(conv) is conv


@pytest.mark.parametrize(("device", "compiled", "expected"), [("cuda", False, 1), ("cuda", True, 0), ("cpu", False, 0)])
def test_networks_for_a_gpu_have_them(device: str, compiled: bool, expected: int, monkeypatch) -> None:
    calls: list[nn.Module] = []
    monkeypatch.setattr(weights, "for_cudnn", calls.append)
    monkeypatch.setattr(weights, "lean", lambda network, _: lean(network))  # stays where it is
    network = trained("cascadezoo", "cascade_mask_r18_fpn")
    weights.prepared(network, Settings(torch.device(device), "fp32", False, compiled))
    assert len(calls) == expected
