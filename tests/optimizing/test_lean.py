"""The lean form of a network detects what the network does, by fewer operators, and leaves the network as it was."""

import pytest
import torch
from torch import nn

from cascadezoo.modeling import convnext
from cascadezoo.modeling.box_head import BoxHead
from cascadezoo.modeling.internimage import Block
from cascadezoo.modeling.layers import DeformConv
from cascadezoo.modeling.norms import ConvLayerNorm
from cascadezoo.modeling.resnet import AffineNorm, ConvNorm
from cascadezoo.optimizing.lean import FlattenChannelsLast, lean
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.resnet import NormLearning

from tiny import lively, tiny

NETWORKS = [
    ("mmdet", "cascade_mask_r50_fpn"),
    ("mmdet", "cascade_mask_x101_32x8d_fpn"),
    ("mmdet", "cascade_mask_x101_32x4d_dconv_c3c5_fpn"),
    ("detectron", "cascade_mask_r50_fpn"),
    ("detectron", "faster_r50_fpn"),
    ("paddle", "cascade_mask_r50_vd_fpn"),
    ("paddle", "mask_r50_c4"),
    ("internimage", "cascade_mask_internimage_l_fpn"),
    ("detectron2", "cascade_mask_vitdet_b"),
    ("detectron2", "cascade_mask_swin_b"),
    ("swin", "cascade_mask_swin_t_fpn"),
    ("convnext", "cascade_mask_convnext_t_fpn"),
    ("convnext", "mask_convnext_t_fpn"),
    ("cascadezoo", "cascade_mask_r18_fpn"),
]


def trained(publisher: str, architecture: str):
    """A tiny network whose norms do something."""
    model = lively(tiny(architecture, publisher))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        changed = module.tensors() if isinstance(module, AffineNorm) else ()
        if isinstance(module, Block):
            changed = module.gamma1, module.gamma2
        if isinstance(module, convnext.Block):
            changed = (module.gamma,)
        if isinstance(module, DeformConv):
            nn.init.normal_(module.offset.weight, std=0.1, generator=generator)
            nn.init.normal_(module.offset.bias, generator=generator)
        for tensor in changed:
            nn.init.uniform_(tensor, 0.7, 1.4, generator=generator)
    return model


def image() -> torch.Tensor:
    return torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))


def assert_same_detections(one, other) -> None:
    assert len(one) >= 5
    assert one.labels.tolist() == other.labels.tolist()
    torch.testing.assert_close(one.boxes, other.boxes, atol=1e-2, rtol=0)  # pixels
    torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
    if one.mask_probs is not None:
        torch.testing.assert_close(one.mask_probs, other.mask_probs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("publisher", "architecture"), NETWORKS)
def test_it_detects_the_same(publisher: str, architecture: str) -> None:
    model = trained(publisher, architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = lean(model)
    assert_same_detections(model.predict(image()), made.predict(image()))
    assert type(made) is type(model)
    assert made.spec is model.spec
    assert not any(isinstance(module, ConvNorm) for module in made.modules())
    assert not any(isinstance(module, ConvLayerNorm) for module in made.modules())
    normed = (ConvNorm, ConvLayerNorm)
    assert any(isinstance(module, normed) for module in model.modules()) or model.spec.backbone.kind != "resnet"
    heads = [head for head in made.box_heads if isinstance(head, BoxHead)]
    assert all(isinstance(head.flatten, FlattenChannelsLast) for head in heads)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_what_stays_is_shared_and_wants_no_gradients() -> None:
    model = trained("mmdet", "cascade_mask_r50_fpn")
    made = lean(model)
    own, others = dict(model.named_parameters()), dict(made.named_parameters())
    shared = {name for name in own.keys() & others.keys() if own[name].data_ptr() == others[name].data_ptr()}
    assert {"box_heads.0.fcs.0.bias", "box_heads.2.cls_score.weight", "rpn.objectness.weight"} <= shared
    assert "backbone.stem.0.weight" not in shared
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert model.box_heads[0].cls_score.weight.requires_grad


def test_weights_lie_as_images_do() -> None:
    for name, parameter in lean(trained("mmdet", "cascade_mask_r50_fpn")).named_parameters():
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize("norm", list(Norm), ids=lambda norm: norm.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_is_folded_in_float32_and_cast_once(norm: Norm, dtype: torch.dtype) -> None:
    learning = NormLearning.STATISTICS if norm is Norm.BATCH else NormLearning.AFFINE
    conv = ConvNorm(4, 8, 3, stride=2, groups=2, norm=norm, learning=learning).eval()
    for tensor in conv.norm.tensors():
        nn.init.uniform_(tensor, 0.5, 2)
    conv.to(dtype)
    network = lively(tiny())
    network.backbone.layer1 = nn.Sequential(conv)
    (made,) = lean(network).backbone.layer1
    scale, shift = conv.norm.scale_and_shift()
    assert scale.dtype == torch.float32
    torch.testing.assert_close(made.weight.detach(), (conv.weight.float() * scale[:, None, None, None]).to(dtype))
    torch.testing.assert_close(made.bias.detach(), shift.to(dtype))
    x = torch.randn(1, 4, 9, 7).to(dtype)
    torch.testing.assert_close(made(x), conv(x))


@pytest.mark.parametrize("post_norm", [True, False])
def test_an_internimage_block_holds_its_scales_where_its_branches_end(post_norm: bool) -> None:
    spec = InternImageSpec(width=8, blocks=(1, 1, 1, 1), groups=(1, 2, 4, 8), post_norm=post_norm)
    torch.manual_seed(0)
    block = Block(8, 2, 0.0, spec).eval()
    for parameter in block.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    network = lively(tiny())
    network.backbone.layer1 = nn.Sequential(block)
    (made,) = lean(network).backbone.layer1
    x = torch.randn(1, 7, 9, 8)
    assert {name.rpartition(".")[2] for name, _ in made.named_parameters()} == {"weight", "bias"}
    torch.testing.assert_close(made(x), block(x))


def test_a_convnext_block_holds_its_scale_where_its_branch_ends() -> None:
    torch.manual_seed(0)
    block = convnext.Block(8, 0.5).eval()
    for parameter in block.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    network = lively(tiny())
    network.backbone.layer1 = nn.Sequential(block)
    (made,) = lean(network).backbone.layer1
    x = torch.randn(2, 7, 9, 8)
    before = x.clone()
    assert {name.rpartition(".")[2] for name, _ in made.named_parameters()} == {"weight", "bias"}
    torch.testing.assert_close(made(x), block(x))
    assert torch.equal(x, before)


def test_the_lean_form_of_a_network_in_training_is_for_inference() -> None:
    model = trained("internimage", "cascade_mask_internimage_l_fpn")  # its heads' norms learn their statistics
    expected = model.predict(image())
    made = lean(model.train())
    assert not any(module.training for module in made.modules())
    assert_same_detections(expected, made.predict(image()))
    assert model.training


def test_it_is_made_on_the_device_it_is_for() -> None:
    made = lean(trained("mmdet", "cascade_r50_fpn"), torch.device("meta"))
    assert {parameter.device.type for parameter in made.parameters()} == {"meta"}
