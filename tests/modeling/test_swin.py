"""Swin Transformer's parts by written formulas; the recorded cases in tests/parity prove the whole.

The cases do not see another GELU or epsilon, and have no map of a single window: these are held here.
"""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging as OfTorchvision
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.ops import StochasticDepth

from cascadezoo.loading import build
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.swin import Block, PatchMerging, Stem, Swin, WindowAttention, cut, positions
from cascadezoo.providers import SPECS
from cascadezoo.spec.swin import SwinSpec

from tiny import tiny

COUNTS = {  # parameters of the backbone and of the whole, and tensors but counters, of the publisher's own models
    "cascade_mask_swin_t_fpn": (27_520_698, 85_629_804, 313),
    "cascade_mask_swin_s_fpn": (48_838_602, 106_947_708, 469),
    "cascade_mask_swin_b_fpn": (86_745_016, 144_977_002, 469),
    "mask_swin_t_fpn": (27_520_698, 47_794_602, 219),
    "mask_swin_s_fpn": (48_838_602, 47_794_602 + 48_838_602 - 27_520_698, 375),
}
SMALL = SwinSpec(width=8, blocks=(1, 2, 3, 1), heads=(2, 2, 4, 4), drop_path=0.6)
MAPS = [(7, 7), (5, 6), (3, 20), (14, 21), (15, 9), (20, 23)]  # a window, less than one, one row of them, whole, padded


@pytest.mark.parametrize("architecture", COUNTS)
def test_parameters_are_as_many_as_the_publisher_counts(architecture: str) -> None:
    backbone, total, tensors = COUNTS[architecture]
    shapes = canonical_shapes(SPECS["swin"][architecture])
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items() if "running" not in name}
    assert sum(size for name, size in sizes.items() if name.startswith("backbone.")) == backbone
    assert sum(sizes.values()) == total
    assert len(shapes) == tensors


def test_every_size_is_there_and_keeps_proposals_without_area() -> None:
    assert SPECS["swin"].keys() == COUNTS.keys()
    assert {spec.conventions.proposals.min_size for spec in SPECS["swin"].values()} == {0}


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValidationError, match="3 heads do not divide 8 channels"):
        SwinSpec(width=8, blocks=(1, 1, 1, 1), heads=(3, 2, 4, 8))


# ------------------------------------------------------------------------------------------------- formulas


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Over the last axis, with the biased variance and an epsilon of 1e-5."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def by_erf(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def band(place: int, side: int, window: int) -> int:
    """Which of the three bands of a shifted map a row or column lies in: whole windows, what is left of the last one,
    and what came from the other end."""
    return 0 if place < side - window else 1 if place < side - window // 2 else 2


def attended(x: Tensor, attn: WindowAttention, window: int, shift: int) -> Tensor:
    """A map (H, W, C), query by query: padded with zeros first, then rolled; -100 between cells of other bands."""
    height, width, channels = x.shape
    h, w = (-(-side // window) * window for side in (height, width))
    padded = x.new_zeros(h, w, channels)
    padded[:height, :width] = x
    rolled = torch.stack([torch.stack([padded[(i + shift) % h, (j + shift) % w] for j in range(w)]) for i in range(h)])
    q, k, v = (rolled @ attn.qkv.weight.T + attn.qkv.bias).view(h, w, 3, attn.heads, -1).unbind(2)
    out = torch.zeros_like(rolled)
    for i in range(h):
        for j in range(w):
            top, left = i // window * window, j // window * window
            keys = [(a, b) for a in range(top, top + window) for b in range(left, left + window)]
            logits = torch.stack([(q[i, j] * q.shape[-1] ** -0.5 * k[a, b]).sum(-1) for a, b in keys])
            rows = [(i - a + window - 1) * (2 * window - 1) + j - b + window - 1 for a, b in keys]
            logits = logits + attn.relative_position_bias_table[rows]
            if shift:
                own = band(i, h, window), band(j, w, window)
                apart = [(band(a, h, window), band(b, w, window)) != own for a, b in keys]
                logits = logits - 100 * torch.tensor(apart)[:, None]
            mixed = (logits.softmax(0)[..., None] * torch.stack([v[a, b] for a, b in keys])).sum(0)
            out[(i + shift) % h, (j + shift) % w] = mixed.flatten()
    return (out @ attn.proj.weight.T + attn.proj.bias)[:height, :width]


def random(module: nn.Module) -> nn.Module:
    """The module in float64 with random numbers of every kind in its tensors."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return module.eval()


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * scale


def windows(x: Tensor, window: int, shift: int):
    return cut(x.shape[1], x.shape[2], window, shift, x.device), positions(window, x)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("shape", [(5, 5), (3, 4), (2, 11), (6, 9)], ids=str)
def test_attention_within_windows(shape: tuple[int, int], shift: int) -> None:
    """On maps of one window, of less, of a row of windows, and padded at both ends: all are shifted."""
    attn, x = random(WindowAttention(8, 2, 5)), drawn(2, *shape, 8)
    with torch.no_grad():
        found = attn(x, *windows(x, 5, shift))
        expected = torch.stack([attended(one, attn, 5, shift) for one in x])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_where_there_are_windows_in_both_directions_torchvision_computes_the_same(shape: tuple[int, int]) -> None:
    """There it is equal; a direction of a single window it does not shift, and so departs."""
    ours = random(Block(8, 2, 0.0, SMALL))
    theirs = SwinTransformerBlock(8, 2, [7, 7], [3, 3]).double().eval()
    names = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
    state = {key.replace(key[:7], names.get(key[:7], key[:7])): value for key, value in ours.state_dict().items()}
    index = {"attn.relative_position_index": theirs.attn.relative_position_index}
    theirs.load_state_dict({**state, **index})
    x = drawn(2, *shape, 8)
    with torch.no_grad():
        one, other = ours(x, *windows(x, 7, 3)), theirs(x)
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-9) == (min(shape) > 7)


def test_the_rows_of_the_table() -> None:
    """Of two rows of two cells: steps of a query from a key, down then right, each counted from -1 on."""
    index = positions(2, torch.ones(1)).relative
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    of_seven = positions(7, torch.ones(1)).relative
    for p, q in ((0, 0), (0, 48), (48, 0), (9, 30)):
        assert of_seven[p, q] == (p // 7 - q // 7 + 6) * 13 + p % 7 - q % 7 + 6


def test_padding_comes_before_the_shift() -> None:
    """A map of one row of 5 cells in windows of 3: a sixth cell is padded, then all move by one."""
    assert cut(1, 5, 3, 1, torch.device("cpu")).cells.view(2, 3, 3).tolist() == [
        [
            [0, 0, 0],
            [0, 0, 0],
            [2, 3, 4],
        ],  # the map's own row has moved to the end, behind those padded
        [[0, 0, 0], [0, 0, 0], [5, 0, 1]],  # the padded cell is between the last one and the first
    ]


@pytest.mark.parametrize("shift", [0, 3])
def test_a_single_window_has_another_beside_it_that_nobody_reads(shift: int) -> None:
    single = cut(5, 6, 7, shift, torch.device("cpu"))
    assert len(single.cells) == 2 * 49
    assert single.places.max() < 49
    assert single.cells[single.places].tolist() == list(range(1, 31))  # each cell is where it was copied to
    several = cut(8, 20, 7, shift, torch.device("cpu"))
    assert len(several.cells) == 2 * 3 * 49
    assert several.cells[several.places].tolist() == list(range(1, 161))


@pytest.mark.parametrize("scale", [1, 1e-3], ids=["", "little variance, where the epsilon decides"])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_block(scale: float, gradients: bool) -> None:
    """Both branches normed first, with an epsilon of 1e-5; GELU by the error function."""
    block, x = random(Block(8, 2, 0.5, SMALL)), drawn(1, 4, 9, 8, scale=scale)
    if scale < 1:
        nn.init.zeros_(block.attn.proj.weight)  # or its spread would be what is normed
        nn.init.zeros_(block.attn.proj.bias)
    with torch.no_grad():
        middle = x + attended(normed(x, block.norm1)[0], block.attn, 7, 3)
        hidden = by_erf(normed(middle, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        expected = middle + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x, *windows(x, 7, 3)).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1, 1e-3], ids=["", "little variance, where the epsilon decides"])
def test_merging(scale: float) -> None:
    """Cells in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column), normed together, then mixed."""
    merging, x = random(PatchMerging(3)), drawn(2, 6, 4, 3, scale=scale)
    parts = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    with torch.no_grad():
        expected = normed(torch.cat(parts, -1), merging.norm) @ merging.reduction.weight.T
        torch.testing.assert_close(merging(x), expected, rtol=1e-10, atol=1e-10)
        theirs = OfTorchvision(3).double()
        theirs.load_state_dict(merging.state_dict())
        torch.testing.assert_close(merging(x), theirs(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1, 1e-3], ids=["", "little variance, where the epsilon decides"])
def test_the_stem(scale: float) -> None:
    stem, x = random(Stem(8)), drawn(2, 3, 8, 12, scale=scale)
    with torch.no_grad():
        if scale < 1:
            stem.conv.bias.zero_()
        patches = torch.einsum("ncyixj,dcij->nyxd", x.view(2, 3, 2, 4, 3, 4), stem.conv.weight) + stem.conv.bias
        torch.testing.assert_close(stem(x), normed(patches, stem.norm), rtol=1e-10, atol=1e-10)


def test_the_neck_reads_a_normed_copy_and_the_next_stage_what_it_was_made_of() -> None:
    network, x = random(Swin(SMALL)), drawn(1, 3, 64, 96)
    with torch.no_grad():
        features = network(x)
        stream = network.stem(x)
        for feature, stage in zip(features, network.stages, strict=True):
            for i, block in enumerate(stage.blocks):
                stream = block(stream, *windows(stream, 7, 3 * (i % 2)))  # the first of a stage is not shifted
            torch.testing.assert_close(feature.permute(0, 2, 3, 1), normed(stream, stage.norm), rtol=1e-9, atol=1e-9)
            stream = stage.downsample(stream)
    assert [tuple(feature.shape) for feature in features] == [(1, 8 * 2**i, 16 // 2**i, 24 // 2**i) for i in range(4)]


def test_an_image_of_a_batch_is_as_alone() -> None:
    network, x = random(Swin(SMALL)), drawn(3, 3, 64, 96)
    with torch.no_grad():
        alone = [network(one[None]) for one in x]
        for level, feature in enumerate(network(x)):
            torch.testing.assert_close(feature, torch.cat([features[level] for features in alone]))


# ------------------------------------------------------------------------------------------------- training


def test_paths_are_dropped_in_proportion_and_for_whole_images() -> None:
    network = Swin(SMALL)
    rates = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.6 * i / 6 for i in range(7)])
    block, x = random(Block(8, 2, 0.5, SMALL)).train(), drawn(64, 2, 2, 8)
    whole = block.eval()(x, *windows(x, 7, 0)).detach() - x
    left = block.train()(x, *windows(x, 7, 0)).detach() - x
    still = (left == 0).flatten(1).all(1)
    assert 4 <= still.sum() <= 32  # a quarter of the images is expected to go through neither branch
    assert not (left == 0).flatten(1).any(1)[~still].any()
    assert (whole != 0).flatten(1).all()


def test_gradients_reach_every_tensor() -> None:
    network = random(Swin(SMALL)).train()
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    sum(feature.square().mean() for feature in network(drawn(1, 3, 96, 64))).backward()
    lost = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert lost == []


def test_random_weights_are_those_of_the_publisher() -> None:
    torch.manual_seed(0)
    model = build(tiny("mask_swin_t_fpn", "swin"))
    block = model.backbone.stages[3].blocks[0]
    for weight in (block.attn.qkv.weight, block.attn.relative_position_bias_table, block.mlp.fc1.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not block.attn.qkv.bias.any()
    assert (block.norm1.weight == 1).all()
    assert model.backbone.stages[0].downsample.reduction.weight.std().item() == pytest.approx(0.02, rel=0.15)
