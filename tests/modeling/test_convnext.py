"""ConvNeXt's parts by written formulas; the recorded cases in tests/parity prove the whole.

The cases do not see another GELU, and see another epsilon in some norms only: both are held here.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cascadezoo.loading import build
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.channels_last import gelu
from cascadezoo.modeling.convnext import Block, ConvNeXt, Downsample, Stem
from cascadezoo.providers import SPECS
from cascadezoo.spec.convnext import ConvNeXtSpec

from tiny import tiny

COUNTS = {  # parameters of the backbone and of the whole, and tensors but counters, of the publishers' own models
    "cascade_mask_convnext_t_fpn": (27_821_472, 85_930_578, 322),
    "cascade_mask_convnext_s_fpn": (49_456_032, 107_565_138, 484),
    "cascade_mask_convnext_b_fpn": (87_568_256, 145_800_242, 484),
    "cascade_mask_convnext_l_fpn": (196_233_024, 254_710_770, 484),
    "cascade_mask_convnext_xl_fpn": (348_151_552, 406_875_058, 484),
    "mask_convnext_t_fpn": (27_821_472, 48_095_376, 228),
}
SMALL = ConvNeXtSpec(width=8, blocks=(1, 2, 3, 1), drop_path=0.6)


@pytest.mark.parametrize("architecture", COUNTS)
def test_parameters_are_as_many_as_the_publisher_counts(architecture: str) -> None:
    backbone, total, tensors = COUNTS[architecture]
    shapes = canonical_shapes(SPECS["convnext"][architecture])
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items() if "running" not in name}
    assert sum(size for name, size in sizes.items() if name.startswith("backbone.")) == backbone
    assert sum(sizes.values()) == total
    assert len(shapes) == tensors


def test_every_size_is_there_and_the_two_publishers_differ_in_numerics_alone() -> None:
    assert SPECS["convnext"].keys() == COUNTS.keys()
    for size in ("t", "s"):
        own, other = (SPECS[name][f"cascade_mask_convnext_{size}_fpn"] for name in ("convnext", "mmdet"))
        assert own.conventions.proposals.min_size == 0
        assert other.conventions.proposals.min_size > 0
        assert own.model_copy(update={"conventions": other.conventions}) == other


# ------------------------------------------------------------------------------------------------- formulas


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Over the last axis, with the biased variance and an epsilon of 1e-6."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * norm.weight + norm.bias


def by_erf(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def each_channel_convolved(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """(N, H, W, C): 7 x 7 weights per channel, over zeros outside the map."""
    height, width = x.shape[1:3]
    padded = nn.functional.pad(x, (0, 0, 3, 3, 3, 3))
    taps = [padded[:, i : i + height, j : j + width] * conv.weight[:, 0, i, j] for i in range(7) for j in range(7)]
    return torch.stack(taps).sum(0) + conv.bias


def patches_mixed(x: Tensor, conv: nn.Conv2d, side: int) -> Tensor:
    """(N, H, W, C): each patch of ``side`` x ``side`` cells to one cell."""
    n, height, width, channels = x.shape
    patches = x.view(n, height // side, side, width // side, side, channels)
    return torch.einsum("nyixjc,dcij->nyxd", patches, conv.weight) + conv.bias


def random(module: nn.Module) -> nn.Module:
    """The module in float64 with random numbers of every kind in its tensors."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module.eval()


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * scale


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("scale", [1, 1e-3], ids=["", "little variance, where the epsilon decides"])
def test_a_block(scale: float, gradients: bool) -> None:
    block, x = random(Block(8, 0.5)), drawn(2, 9, 10, 8, scale=scale)
    with torch.no_grad():
        if scale < 1:
            block.dwconv.bias.zero_()  # or its spread would be what is normed
        mixed = normed(each_channel_convolved(x, block.dwconv), block.norm)
        hidden = by_erf(mixed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        expected = x + block.gamma * (hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gradients", [False, True])
def test_gelu_is_by_the_error_function(gradients: bool) -> None:
    x = torch.linspace(-6, 6, 1000, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        found = gelu(x.clone())
    torch.testing.assert_close(found, by_erf(x), rtol=0, atol=1e-14)
    by_tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert (found - by_tanh).abs().max() > 4e-4


@pytest.mark.parametrize("scale", [1, 1e-3])
@torch.no_grad()
def test_stem_and_downsampling_norm_after_and_before(scale: float) -> None:
    stem, down = random(Stem(8)), random(Downsample(8))
    stem.conv.bias.mul_(scale)
    pixels, x = drawn(2, 3, 16, 24, scale=scale), drawn(2, 6, 4, 8, scale=scale)
    expected = normed(patches_mixed(pixels.permute(0, 2, 3, 1).contiguous(), stem.conv, 4), stem.norm)
    torch.testing.assert_close(stem(pixels), expected, rtol=1e-10, atol=1e-10)
    expected = patches_mixed(normed(x, down.norm).contiguous(), down.conv, 2)
    torch.testing.assert_close(down(x), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_neck_reads_normed_copies_and_the_next_stage_what_is_not_normed() -> None:
    network, pixels = random(ConvNeXt(SMALL)), drawn(2, 3, 64, 96)
    features = network(pixels)
    assert [tuple(f.shape) for f in features] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6), (2, 64, 2, 3)]
    x = network.stem(pixels)
    for stage, feature in zip(network.stages, features, strict=True):
        x = stage.blocks(stage.downsample(x))
        expected = normed(x, stage.norm).permute(0, 3, 1, 2)
        torch.testing.assert_close(feature, expected, rtol=1e-10, atol=1e-10)
        assert feature.is_contiguous(memory_format=torch.channels_last)


def test_a_block_whose_gammas_are_zero_is_the_identity() -> None:
    block, x = Block(8, 0.0), torch.randn(1, 5, 6, 8)
    assert not torch.equal(block(x), x)
    nn.init.zeros_(block.gamma)
    assert torch.equal(block(x), x)


# ------------------------------------------------------------------------------------------------- training


def test_drop_paths_grow_from_none_in_equal_steps_to_the_last_block() -> None:
    rates = [module.p for module in ConvNeXt(SMALL).modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    torch.manual_seed(0)
    block, x = Block(4, 0.5), torch.randn(400, 1, 1, 4)
    with torch.no_grad():
        whole, found = block.eval()(x) - x, block.train()(x) - x
    dropped = (found == 0).all(-1).flatten()
    assert 150 < dropped.sum() < 250
    torch.testing.assert_close(found[~dropped], 2 * whole[~dropped], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "last"),
    [("t", 6), ("s", 12), ("b", 12), ("l", 12), ("xl", 12)],  # num_layers of the configurations
)
def test_layers_are_counted_as_the_publishers_learning_rates_decay(size: str, last: int) -> None:
    """Its own numbers, of ``last + 2`` layers; the rate of layer i is multiplied by decay ** (last + 1 - i)."""
    spec = SPECS["convnext"][f"cascade_mask_convnext_{size}_fpn"].backbone
    layers = {
        "stem.conv.weight": 0,
        "stem.norm.bias": 0,
        "stages.0.blocks.2.gamma": 1,
        "stages.1.downsample.norm.weight": 2,
        "stages.1.blocks.2.mlp.fc1.weight": 2,
        "stages.2.downsample.conv.bias": 3,
        "stages.2.blocks.2.dwconv.weight": 3,
        "stages.2.blocks.3.dwconv.weight": 4,
        f"stages.2.blocks.{spec.blocks[2] - 1}.norm.weight": last - 1,
        "stages.3.downsample.conv.weight": last,
        "stages.3.blocks.0.gamma": last,
        "stages.0.norm.weight": last + 1,
        "stages.3.norm.bias": last + 1,
    }
    assert {name: last + 1 - spec.layers_to_neck(name) for name in layers} == layers
    names = ConvNeXt(spec.model_copy(update={"width": 8})).state_dict()
    assert all(0 <= spec.layers_to_neck(name) <= last + 1 for name in names)
    assert spec.layers_to_neck("layer1.0.conv1.weight") is None


def test_random_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    network = build(tiny("cascade_mask_convnext_t_fpn", "convnext")).backbone
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:  # 0.02 is a truncated normal's deviation: no weight lies beyond 2
            spread, error = parameter.std().item(), 5 * 0.02 / math.sqrt(2 * parameter.numel())
            assert spread == pytest.approx(0.02, abs=error), name
            assert abs(parameter.mean().item()) < 5 * 0.02 / math.sqrt(parameter.numel()), name
        else:  # gammas and norms' weights are 1, all biases 0
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


def test_every_tensor_learns() -> None:
    torch.manual_seed(0)
    model = build(tiny("mask_convnext_t_fpn", "convnext")).train()
    target = {"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 64, 96)}
    losses = model([torch.rand(3, 64, 96)] * 4, [target] * 4)  # a path dropped for one image is there for another
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_mask", "loss_objectness", "loss_rpn_box_reg"]
    sum(losses.values()).backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still
