"""InternImage's parts by hand; the recorded cases in tests/parity prove the whole."""

from copy import deepcopy

import pytest
import torch
from pydantic import ValidationError

from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.internimage import Block, DCNv3, InternImage
from cascadezoo.providers import SPECS
from cascadezoo.spec.internimage import InternImageSpec

L, XL = (SPECS["internimage"][f"cascade_mask_internimage_{size}_fpn"] for size in ("l", "xl"))
T, S, B = (SPECS["internimage"][f"mask_internimage_{size}_fpn"] for size in ("t", "s", "b"))


@pytest.mark.parametrize(
    ("spec", "backbone", "total"),
    [
        (T, 28_769_520, 48_920_544),
        (S, 48_502_560, 68_715_024),
        (B, 94_909_920, 115_245_264),
        (L, 218_952_370, 277_307_236),
        (XL, 328_971_228, 387_448_974),
    ],
)
def test_parameters_are_as_many_as_the_publisher_counts(spec, backbone: int, total: int) -> None:
    sizes = {name: torch.Size(shape).numel() for name, shape in canonical_shapes(spec).items() if "running" not in name}
    assert sum(size for name, size in sizes.items() if name.startswith("backbone.")) == backbone
    assert sum(sizes.values()) == total


@pytest.mark.parametrize("post_norm", [True, False])
def test_a_block_whose_gammas_are_zero_is_the_identity(post_norm: bool) -> None:
    spec = InternImageSpec(width=8, blocks=(1, 1, 1, 1), groups=(1, 2, 4, 8), post_norm=post_norm)
    block, x = Block(8, 1, 0.0, spec), torch.randn(1, 5, 6, 8)
    assert not torch.equal(block(x), x)
    torch.nn.init.zeros_(block.gamma1)
    torch.nn.init.zeros_(block.gamma2)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("post_norm", [True, False])
def test_maps_halve_and_only_early_norms_close_a_stage(post_norm: bool) -> None:
    spec = InternImageSpec(width=8, blocks=(1, 2, 1, 1), groups=(1, 2, 4, 8), post_norm=post_norm)
    network = InternImage(spec)
    shapes = [tuple(f.shape) for f in network(torch.randn(2, 3, 64, 96))]
    assert shapes == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6), (2, 64, 2, 3)]
    assert any(".norm.weight" in name and "downsample" not in name for name in network.state_dict()) != post_norm


def test_the_norm_that_closes_a_stage_is_read_by_the_neck_and_by_the_next_stage() -> None:
    torch.manual_seed(0)
    spec = InternImageSpec(width=8, blocks=(1, 1, 1, 1), groups=(1, 2, 4, 8), post_norm=False)
    network, pixels = InternImage(spec), torch.randn(1, 3, 32, 32)
    for stage in network.stages:
        torch.nn.init.normal_(stage.norm.weight)
        torch.nn.init.normal_(stage.norm.bias)
    x = network.stem(pixels)
    for stage, feature in zip(network.stages, network(pixels), strict=True):
        for block in stage.blocks:  # x + gamma DCNv3(LN(x)), then x + gamma MLP(LN(x))
            x = x + block.gamma1 * block.dcn(block.norm1(x))
            x = x + block.gamma2 * block.mlp(block.norm2(x))
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        x = (x - mean) / (variance + 1e-6).sqrt() * stage.norm.weight + stage.norm.bias
        torch.testing.assert_close(feature, x.permute(0, 3, 1, 2))
        x = stage.downsample(x)


def test_groups_must_divide_channels() -> None:
    with pytest.raises(ValidationError, match="3 groups do not divide 8 channels"):
        InternImageSpec(width=8, blocks=(1, 1, 1, 1), groups=(3, 2, 4, 8))


def fused(network: InternImage) -> InternImage:
    """A copy of it with every deformable convolution in its form for inference."""
    network = deepcopy(network)
    for module in list(network.modules()):
        if isinstance(module, Block):
            module.dcn = module.dcn.fused()
    return network


@pytest.mark.parametrize("post_norm", [True, False])
def test_the_form_for_inference_computes_the_same(post_norm: bool) -> None:
    torch.manual_seed(0)
    spec = InternImageSpec(width=8, blocks=(1, 2, 1, 1), groups=(1, 2, 4, 8), offset_scale=2.0, post_norm=post_norm)
    network = InternImage(spec).eval()
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 64, 96)
        expected, found = network(pixels), fused(network)(pixels)
    for one, other in zip(found, expected, strict=True):
        # the softmax alone is computed in another order: four bits of float32
        assert (one - other).abs().max() <= 16 * torch.finfo(torch.float32).eps * other.abs().max()


def test_the_form_for_inference_has_one_layer_of_points_and_shares_the_others() -> None:
    dcn = DCNv3(16, 4, 1.0).to(torch.bfloat16)
    other = dcn.fused()
    assert {name.split(".")[0] for name, _ in other.named_parameters()} == {
        *("input_proj", "dw_conv", "dw_norm", "offset_mask", "output_proj")
    }
    assert other.offset_mask.weight.shape == (112, 16)  # 4 groups of 9 points, 3 numbers each, and 4 unused
    assert other.offset_mask.weight.dtype == torch.bfloat16
    assert not other.offset_mask.weight[108:].any()
    assert other.output_proj is dcn.output_proj
