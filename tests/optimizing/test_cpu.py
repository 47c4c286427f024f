"""The layers of a lean network on a CPU: each computes what the one in whose place it is put does."""

from collections.abc import Callable

import pytest
import torch
from optimizing.test_lean import NETWORKS, assert_same_detections, image, trained
from torch import Tensor, nn

from cascadezoo.modeling.channels_last import MLP
from cascadezoo.modeling.layers import Conv, LinearReLU
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd import winograd_conv3x3
from cascadezoo.ops.winograd6 import winograd6_conv3x3
from cascadezoo.ops.winograd_bf16 import is_quick
from cascadezoo.optimizing.cpu import (
    KERNELS,
    CompiledMaskEnd,
    OneClassMaskHead,
    OneDNNConv,
    OneDNNLinear,
    OneDNNMaskEnd,
    OneDNNMLP,
    WinogradConv,
    for_cpu,
)
from cascadezoo.optimizing.lean import lean
from cascadezoo.spec.model import MaskHeadSpec

BOUND = {torch.float32: 2e-5, torch.bfloat16: 3e-2}
processor_has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
DTYPES = [torch.float32, *([torch.bfloat16] if processor_has_bfloat16 else [])]


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() <= BOUND[dtype] * expected.abs().max()


def replaced(layer: nn.Module, exact: bool = False) -> nn.Module:
    holder = nn.Sequential(layer)
    for_cpu(holder, exact)
    return holder[0]


def on_cpu(publisher: str, architecture: str, exact: bool):
    made = lean(trained(publisher, architecture))
    for_cpu(made, exact)
    return made


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda relu: Conv(32, 64, 3, relu=relu),
        lambda relu: Conv(32, 64, 3, stride=2, relu=relu),
        lambda relu: Conv(32, 64, 3, groups=4, relu=relu),
        lambda relu: Conv(32, 20, 1, relu=relu),
        lambda relu: Conv(3, 32, 7, stride=2, relu=relu),
        lambda relu: Conv(32, 32, 3, bias=False, relu=relu),
    ],
    ids=["3x3", "stride", "groups", "1x1", "colours", "no bias"],
)
def test_a_convolution(make: Callable[[bool], Conv], exact: bool, summed: bool, relu: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = make(relu).to(dtype)
    x = noise(2, conv.in_channels, 17, 22, dtype=dtype)
    plain = conv.double()
    onto = noise(*plain(x.double()).shape, dtype=dtype) if summed else None
    expected = plain(x.double(), None if onto is None else onto.double())
    layer = replaced(conv.to(dtype), exact)
    assert_close(layer(x, onto), expected, dtype)


def test_a_3x3_convolution_takes_winograds_way_unless_it_is_to_be_exact() -> None:
    kind = WinogradConv if "cpu" in COMPILED else OneDNNConv
    assert isinstance(replaced(Conv(32, 32, 3)), kind)
    assert isinstance(replaced(Conv(512, 512, 3)), kind)
    assert isinstance(replaced(Conv(32, 32, 3), exact=True), OneDNNConv)
    assert isinstance(replaced(Conv(32, 32, 3, stride=2)), OneDNNConv)


@pytest.mark.skipif("cpu" not in COMPILED, reason="oneDNN's convolution has one way")
def test_its_tiles_are_smaller_where_its_weights_are_large() -> None:
    assert replaced(Conv(256, 256, 3)).convolve is winograd6_conv3x3
    assert replaced(Conv(512, 512, 3)).convolve is winograd_conv3x3


def test_in_bfloat16_it_does_so_where_that_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(answer: bool) -> None:
        monkeypatch.setitem(KERNELS, torch.bfloat16, KERNELS[torch.bfloat16]._replace(are_quick=lambda: answer))

    quick(True)
    assert isinstance(replaced(Conv(32, 32, 3).bfloat16()), WinogradConv)
    assert isinstance(replaced(Conv(32, 32, 3).bfloat16(), exact=True), OneDNNConv)
    assert isinstance(replaced(Conv(48, 32, 3).bfloat16()), OneDNNConv)
    assert isinstance(replaced(Conv(32, 32, 3, groups=4).bfloat16()), OneDNNConv)
    quick(False)
    assert isinstance(replaced(Conv(32, 32, 3).bfloat16()), OneDNNConv)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 6, 48), (0, 48)])
def test_an_mlp(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mlp = MLP(48, 192).to(dtype)
    nn.init.normal_(mlp.fc1.weight)  # hidden numbers over all of the GELU's bend
    x = noise(*shape).to(dtype)
    layer = replaced(mlp)
    assert isinstance(layer, OneDNNMLP)
    found = layer(x)
    assert found.shape == x.shape
    if x.numel():
        assert_close(found, mlp.double()(x.double()), dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [nn.Linear, LinearReLU])
@pytest.mark.parametrize("shape", [(7, 48), (2, 5, 6, 48), (0, 48)])
def test_a_linear_layer(shape: tuple[int, ...], kind: type[nn.Linear], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = kind(48, 40).to(dtype)
    x = noise(*shape).to(dtype)
    layer = replaced(linear)
    assert isinstance(layer, OneDNNLinear)
    found = layer(x)
    assert found.shape == (*shape[:-1], 40)
    if x.numel():
        assert_close(found, linear.double()(x.double()), dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("between", [24, 32])
def test_a_mask_head_gives_the_mask_of_each_rows_class(
    between: int, exact: bool, rows: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    spec = MaskHeadSpec(resolution=7, convs=(32, 32), deconv=between, heads=1)
    head = MaskHead(32, 6, spec).to(dtype)
    layer = replaced(head, exact)
    assert isinstance(layer, OneClassMaskHead)
    has_kernel = {torch.bfloat16: is_quick(), torch.float32: "cpu" in COMPILED}[dtype]
    assert type(layer.end) is (CompiledMaskEnd if between == 32 and has_kernel else OneDNNMaskEnd)
    pooled, labels = noise(rows, 32, 7, 7, dtype=dtype), torch.tensor([3, 0, 5, 5, 1])[:rows]
    found = layer.of_classes(pooled, labels)
    expected = head.double().of_classes(pooled.double(), labels)
    assert found.shape == expected.shape == (rows, 14, 14)
    if rows:
        assert_close(found, expected, dtype)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("publisher", "architecture"), NETWORKS)
def test_a_network_detects_the_same(publisher: str, architecture: str, exact: bool) -> None:
    model = trained(publisher, architecture)
    made = on_cpu(publisher, architecture, exact)
    assert_same_detections(model.predict(image()), made.predict(image()))
    assert not any(type(module) in (LinearReLU, nn.Linear, MaskHead) for module in made.modules())
