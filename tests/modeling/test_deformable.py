"""ResNets whose 3x3 convolutions are deformable."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from cascadezoo.loading import build
from cascadezoo.modeling.layers import DeformConv
from cascadezoo.modeling.resnet import ConvNorm, DeformConvNorm, ResNet
from cascadezoo.optimizing.lean import lean
from cascadezoo.providers import SPECS
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.resnet import NormLearning, ResNetSpec

from tiny import lively, tiny

DEFORMABLE = "cascade_mask_r50_dconv_c3c5_fpn"


@pytest.mark.parametrize("name", [name for name in SPECS["mmdet"] if "dconv" in name])
def test_every_3x3_convolution_of_c3_to_c5_is_deformable_and_no_other(name: str) -> None:
    with torch.device("meta"):
        network = ResNet(SPECS["mmdet"][name].backbone)
    kinds = {path: type(module) for path, module in network.named_modules() if isinstance(module, ConvNorm)}
    expected = {path for path in kinds if path.endswith(".conv2") and not path.startswith("layer1")}
    assert {path for path, kind in kinds.items() if kind is DeformConvNorm} == expected
    assert len(expected) == (13 if "r50" in name else 30)
    for path in expected:
        conv = network.get_submodule(path)
        assert conv.offset.weight.shape == (18, conv.in_channels, 3, 3)
        assert (conv.offset.stride, conv.offset.groups) == (conv.stride, 1)


def layer(groups: int = 1, stride: int = 1, learning: NormLearning = NormLearning.AFFINE) -> DeformConvNorm:
    torch.manual_seed(0)
    made = DeformConvNorm(32, 32, 3, stride, groups, Norm.BATCH, learning, relu=True)
    for tensor in (*made.norm.tensors(), made.offset.bias):
        nn.init.uniform_(tensor, 0.5, 2)
    nn.init.normal_(made.offset.weight, std=0.05)
    return made


def expected(conv: DeformConvNorm, x: Tensor, onto: Tensor | None = None) -> Tensor:
    """Three steps of torch and torchvision, in float64."""
    x, stride = x.double(), conv.stride
    offset = F.conv2d(x, conv.offset.weight.double(), conv.offset.bias.double(), stride, 1)
    plain = deform_conv2d(x, offset, conv.weight.double(), None, stride, 1)
    norm, batch = conv.norm, conv.training and conv.norm.__class__.__name__ == "BatchNorm"
    statistics = (norm.running_mean.double(), norm.running_var.double(), norm.weight.double(), norm.bias.double())
    out = F.batch_norm(plain, *statistics, batch, eps=norm.eps)
    return (out if onto is None else out + onto.double()).relu()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("learning", [NormLearning.AFFINE, NormLearning.STATISTICS])
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (4, 2)])
def test_a_layer_is_what_torchvision_and_a_norm_make(
    groups: int, stride: int, learning: NormLearning, training: bool
) -> None:
    """Of so many pixels that an ordinary convolution of these channels takes Winograd's way in training."""
    conv, x = layer(groups, stride, learning).train(training), noise(2, 32, 36, 40)
    right = expected(conv, x)
    torch.testing.assert_close(conv(x).double(), right, rtol=0, atol=1e-5 * right.abs().max().item())
    onto = noise(*right.shape)
    if not training:
        right = expected(conv, x, onto)
        torch.testing.assert_close(conv(x, onto).double(), right, rtol=0, atol=1e-5 * right.abs().max().item())


def test_gradients_reach_everything_and_equal_torchvisions() -> None:
    conv, x = layer(4), noise(2, 32, 9, 11).requires_grad_()
    leaves = {"x": x, **dict(conv.named_parameters())}
    assert leaves.keys() == {"x", "weight", "offset.weight", "offset.bias", "norm.weight", "norm.bias"}
    weights = noise(2, 32, 9, 11)
    right = torch.autograd.grad((expected(conv, x) * weights).sum(), leaves.values())
    found = torch.autograd.grad((conv(x) * weights).sum(), leaves.values())
    for name, one, other in zip(leaves, found, right, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5 * other.abs().max().item(), msg=name)


def test_a_network_starts_as_an_ordinary_one() -> None:
    plain, deformable = build(tiny("cascade_mask_r50_fpn")), build(tiny(DEFORMABLE))
    convs = [module for module in deformable.modules() if isinstance(module, DeformConv)]
    assert len(convs) == 3
    assert not any(tensor.any() for conv in convs for tensor in conv.offset.parameters())
    assert all(conv.weight.std() > 0 for conv in convs)
    state = {name: tensor for name, tensor in deformable.state_dict().items() if ".offset." not in name}
    plain.load_state_dict(state)
    pixels = noise(1, 3, 64, 96)
    for one, other in zip(plain.backbone(pixels), deformable.backbone(pixels), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * other.abs().max().item())


def test_a_step_of_learning_moves_points() -> None:
    network = ResNet(tiny(DEFORMABLE).backbone)
    for conv in (module for module in network.modules() if isinstance(module, DeformConv)):
        conv.init_weights()
        nn.init.zeros_(conv.offset.bias)
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    pixels = noise(1, 3, 64, 96)
    sum(map_.square().sum() for map_ in network(pixels)).backward()
    optimizer.step()
    moved = [module.offset for module in network.modules() if isinstance(module, DeformConv)]
    assert all(offset.weight.any() and offset.bias.any() for offset in moved)


def test_a_lean_layer_shares_the_convolution_of_the_offsets() -> None:
    model = lively(tiny(DEFORMABLE))
    conv, made = (m.get_submodule("backbone.layer3.0.conv2") for m in (model, lean(model)))
    assert type(made) is DeformConv
    assert torch.equal(made.offset.weight, conv.offset.weight)
    weight, bias = conv.scaled()
    assert torch.equal(made.weight, weight)
    assert torch.equal(made.bias, bias)
    assert not any(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize("size", [(32, 32), (20, 64)])
def test_maps_smaller_than_the_kernel(size: tuple[int, int]) -> None:
    """The last stage of a picture of 32 pixels has one cell, which mmcv's operator refuses."""
    torch.manual_seed(0)
    network = ResNet(tiny(DEFORMABLE).backbone).eval()
    maps = network(noise(1, 3, *size))
    assert [tuple(map_.shape[2:]) for map_ in maps][-1] == (1, -(-size[1] // 32))
    assert all(map_.isfinite().all() for map_ in maps)


@pytest.mark.parametrize("stages", [(0,), (5,), (3, 2), (2, 2), (-1,)])
def test_stages_are_those_that_there_are_in_order(stages: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="deformable stages are some of 1 to 4, in order"):
        ResNetSpec(blocks=(1, 1, 1, 1), deformable_stages=stages)
    with pytest.raises(ValidationError, match="some of 1 to 3"):
        ResNetSpec(blocks=(1, 1, 1), deformable_stages=(4,))


def test_basic_blocks_are_not_deformable() -> None:
    with pytest.raises(ValidationError, match="basic blocks are not deformable"):
        ResNetSpec(blocks=(1, 1, 1, 1), basic=True, deformable_stages=(2,))


def test_frozen_stages_keep_their_offsets() -> None:
    network = ResNet(ResNetSpec(blocks=(1, 1, 1, 1), width=8, deformable_stages=(1, 2), frozen_stages=1))
    assert not network.get_submodule("layer1.0.conv2.offset").weight.requires_grad
    assert network.get_submodule("layer2.0.conv2.offset").weight.requires_grad
