"""The plain ViT's parts against written formulas; the recorded cases in tests/parity prove the whole."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cascadezoo.modeling import vit
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.vit import Attention, Block, ViT, joined, partitioned, relative_positions, resized_positions
from cascadezoo.providers import SPECS
from cascadezoo.spec.vit import ViTSpec

SMALL = ViTSpec(width=8, blocks=(2,), heads=2, global_blocks=(1,), window=3, image_size=96, pretrained_size=48)


@pytest.mark.parametrize(("size", "tensors", "millions"), [("b", 281, 141.16), ("l", 449, 360.95), ("h", 561, 691.47)])
def test_tensors_and_parameters_are_as_many_as_the_publisher_counts(size: str, tensors: int, millions: float) -> None:
    shapes = canonical_shapes(SPECS["detectron2"][f"cascade_mask_vitdet_{size}"])
    assert len(shapes) == tensors
    assert round(sum(torch.Size(shape).numel() for shape in shapes.values()) / 1e6, 2) == millions


@torch.no_grad()
def attention(heads: int = 2, width: int = 8, length: int = 4) -> Attention:
    """One whose every number says something."""
    torch.manual_seed(0)
    made = Attention(width, heads, length)
    for parameter in made.parameters():
        parameter.normal_(std=0.7)
    return made


def by_hand(attn: Attention, x: Tensor) -> Tensor:
    """(h, w, C): each query's softmax over all keys, of its scaled product with a key, and of its own unscaled products
    with the rows of the two tables."""
    height, width, channels = x.shape
    q, k, v = attn.qkv(x).unflatten(-1, (3, attn.heads, channels // attn.heads)).unbind(2)
    places = [(i, j) for i in range(height) for j in range(width)]
    out = torch.zeros_like(q)
    for head in range(attn.heads):
        for i, j in places:
            query = q[i, j, head]
            logits = [
                query @ k[a, b, head] / math.sqrt(len(query))
                + query @ attn.rel_pos_h[i - a + (len(attn.rel_pos_h) - 1) // 2]
                + query @ attn.rel_pos_w[j - b + (len(attn.rel_pos_w) - 1) // 2]
                for a, b in places
            ]
            weights = torch.stack(logits).softmax(0)
            out[i, j, head] = sum(weight * v[a, b, head] for weight, (a, b) in zip(weights, places, strict=True))
    return attn.proj(out.flatten(2))


@torch.no_grad()
@pytest.mark.parametrize("width", [4, 6])
def test_relative_positions_are_added_with_the_unscaled_query(width: int) -> None:
    attn, x = attention(), torch.randn(2, 4, width, 8)
    attn.rel_pos_w = torch.nn.Parameter(torch.randn(2 * width - 1, 4))
    expected = torch.stack([by_hand(attn, image) for image in x])
    torch.testing.assert_close(attn(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_some_queries_at_a_time_see_what_all_at_once_do(monkeypatch) -> None:
    attn, x = attention(), torch.randn(2, 4, 4, 8)
    with torch.enable_grad():
        whole = attn(x)
    calls = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        vit.F, "scaled_dot_product_attention", lambda q, *rest: (calls.append(q.shape[2]), real(q, *rest))[1]
    )
    monkeypatch.setattr(vit, "_BIASES", 5 * 2 * 16 + 1)  # of 2 heads and 16 keys: 5 queries
    torch.testing.assert_close(attn(x), whole, rtol=1e-5, atol=1e-6)
    assert calls == [5, 5, 5, 1]


def test_a_table_of_relative_positions_holds_query_minus_key() -> None:
    table = torch.arange(5.0)[:, None]  # -2, -1, 0, 1, 2
    assert (relative_positions(table, 3)[..., 0] - 2).tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]


@pytest.mark.parametrize(("rows", "length"), [(127, 32), (27, 9), (7, 6)])
def test_a_table_for_another_length_is_resized_linearly(rows: int, length: int) -> None:
    """Row i of n lies at (i + 1/2) rows / n - 1/2 of the old rows, and no further out than these."""
    table, n = torch.randn(rows, 4), 2 * length - 1
    expected = []
    for i in range(n):
        place = max(0.0, (i + 0.5) * rows / n - 0.5)
        first = math.floor(place)
        after, rest = min(first + 1, rows - 1), place - first
        expected.append((1 - rest) * table[first] + rest * table[after])
    found = relative_positions(table, length)
    for i in range(length):
        for j in range(length):
            torch.testing.assert_close(found[i, j], expected[i - j + length - 1], rtol=1e-4, atol=1e-4)


def cubic(distance: float) -> float:
    """Keys' kernel, a = -3/4."""
    a, t = -0.75, abs(distance)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def cubically(row: list[float], n: int) -> list[float]:
    """The row at n places: four neighbours each, the edge's in place of those outside, however few places there are."""
    out = []
    for i in range(n):
        place = (i + 0.5) * len(row) / n - 0.5
        first = math.floor(place)
        taps = range(first - 1, first + 3)
        out.append(sum(cubic(place - tap) * row[min(max(tap, 0), len(row) - 1)] for tap in taps))
    return out


@pytest.mark.parametrize(("height", "width"), [(20, 9), (4, 64)])  # wider and narrower: antialiasing would tell
def test_absolute_positions_are_resized_cubically_without_antialiasing(height: int, width: int) -> None:
    table = torch.randn(1, 197, 2)
    found = resized_positions(table, height, width)
    assert found.shape == (1, height, width, 2)
    for channel in range(2):
        rows = [cubically(row, width) for row in table[0, 1:, channel].view(14, 14).tolist()]
        columns = [cubically(list(column), height) for column in zip(*rows, strict=True)]
        torch.testing.assert_close(found[0, ..., channel], torch.tensor(columns).t(), rtol=1e-4, atol=1e-4)


def test_absolute_positions_of_their_own_size_are_themselves_but_for_the_class_tokens() -> None:
    table = torch.randn(1, 10, 4)
    assert torch.equal(resized_positions(table, 3, 3).flatten(1, 2), table[:, 1:])


def test_windows_are_cut_row_by_row_filled_with_zeros_and_put_together_again() -> None:
    x = torch.arange(1.0, 21).view(1, 4, 5, 1)
    windows = partitioned(x, 3)
    assert windows[..., 0].tolist() == [
        [[1, 2, 3], [6, 7, 8], [11, 12, 13]],
        [[4, 5, 0], [9, 10, 0], [14, 15, 0]],
        [[16, 17, 18], [0, 0, 0], [0, 0, 0]],
        [[19, 20, 0], [0, 0, 0], [0, 0, 0]],
    ]
    assert torch.equal(joined(windows, 4, 5), x)
    several = torch.randn(3, 7, 4, 2)
    assert torch.equal(joined(partitioned(several, 3), 7, 4), several)


@torch.no_grad()
def test_what_fills_a_window_takes_part_in_its_attention() -> None:
    """A map of 4 x 4 in windows of 3: the last holds one cell, and eight whose key and value are qkv's bias."""
    block, x = Block(0, SMALL), torch.randn(1, 4, 4, 8)
    block.attn.load_state_dict(attention(length=3).state_dict())
    block.mlp.fc2.weight.zero_()
    block.mlp.fc2.bias.zero_()
    filled = torch.zeros(3, 3, 8)
    filled[0, 0] = block.norm1(x)[0, 3, 3]
    attended = by_hand(block.attn, filled)[0, 0]
    torch.testing.assert_close(block(x)[0, 3, 3], x[0, 3, 3] + attended, rtol=1e-5, atol=1e-5)
    alone = by_hand(block.attn, filled[:1, :1])[0, 0]
    assert (attended - alone).abs().max() > 0.1


@torch.no_grad()
def test_norms_add_a_millionth_to_the_variance() -> None:
    block, x = Block(0, SMALL), 1e-3 * torch.randn(8)
    expected = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-6)
    for norm in (block.norm1, block.norm2):
        torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-4)


def test_blocks_are_global_where_the_record_says_and_drop_paths_more_and_more() -> None:
    spec = SMALL.model_copy(update={"blocks": (5,), "drop_path": 0.4})
    blocks = ViT(spec).blocks
    assert [block.window for block in blocks] == [3, 0, 3, 3, 3]
    assert [len(block.attn.rel_pos_h) for block in blocks] == [5, 11, 5, 5, 5]  # 96 / 16 = 6 patches
    assert [block.drop_path.p for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("sides", [(96, 96), (64, 128)])
def test_one_map_and_gradients_for_every_tensor_but_the_class_tokens_position(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = ViT(SMALL)
    for module in network.modules():
        if hasattr(module, "init_weights"):
            module.init_weights()
    (found,) = network(torch.randn(2, 3, *sides))
    assert found.shape == (2, 8, sides[0] // 16, sides[1] // 16)
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
    assert not network.pos_embed.grad[:, 0].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "3 heads do not divide 8 channels"),
        ({"global_blocks": (2,)}, r"global_blocks \(2,\) of 2 blocks: 0 is the first"),
        ({"image_size": 100}, "sides of 100 and 48 pixels: give whole patches"),
    ],
)
def test_numbers_that_do_not_agree_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ViTSpec.model_validate({**SMALL.model_dump(), **changes})
