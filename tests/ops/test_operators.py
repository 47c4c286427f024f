"""Every operator on every device, in every type and memory layout, against torchvision's operators in float64, and as
torch demands of an operator (``opcheck``).  What one operator means is in the file of its name."""

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from ops.swept_layers import LAYERS, Operator, noise
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad
from torchvision.ops import batched_nms, clip_boxes_to_image, deform_conv2d, roi_align

import cascadezoo.ops.dcnv3_fused
import cascadezoo.ops.deform_conv2d
import cascadezoo.ops.nms
import cascadezoo.ops.paste_rle
import cascadezoo.ops.preprocess
import cascadezoo.ops.roi_align
import cascadezoo.ops.rpn_select  # noqa: F401  (they register the operators)
from cascadezoo.ops.library import COMPILED, KERNELS

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FLOAT, HALF = (torch.float32, torch.float64), (torch.float16, torch.bfloat16)
BOUND = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of the largest value


def nms_arguments(dtype: torch.dtype) -> list[Any]:
    low = noise(2, 40, 2).abs() * 20
    boxes = torch.cat((low, low + 4 + noise(2, 40, 2, seed=1).abs() * 20), -1)
    scores = torch.stack([torch.randperm(40, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]) / 40
    groups = torch.arange(80).view(2, 40) % 3
    return [boxes.to(dtype), scores.to(dtype), groups, noise(2, 40) > -1, 0.5, 0, False, 3, 40, 25]


def nms_expected(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou: float, *_: Any) -> list[Tensor]:
    keep, count = torch.zeros(2, 25, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    for i in range(2):
        rows = valid[i].nonzero()[:, 0]
        kept = rows[batched_nms(boxes[i, rows], scores[i, rows], groups[i, rows], iou)][:25]
        keep[i, : len(kept)], count[i] = kept, len(kept)
    return [keep, count]


def class_nms_arguments(dtype: torch.dtype) -> list[Any]:
    low = noise(2, 15, 1, 2).abs() * 20
    boxes = torch.cat((low, low + 4 + noise(2, 15, 1, 2, seed=1).abs() * 20), -1)
    scores = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]) / 60
    return [boxes.to(dtype), scores.view(2, 15, 4).to(dtype), noise(2, 15) > -1, 0.2, 0.5, 0, False, 25]


def class_nms_expected(boxes: Tensor, scores: Tensor, valid: Tensor, least: float, iou: float, *_: Any) -> list[Tensor]:
    boxes, groups = boxes.expand(2, 15, 4, 4).flatten(1, 2), torch.arange(4).expand(2, 15, 4).flatten(1)
    candidates = ((scores > least) & valid[..., None]).flatten(1)
    return nms_expected(boxes, scores.flatten(1), groups, candidates, iou)


def rpn_arguments(dtype: torch.dtype) -> list[Any]:
    """Two levels of 4 x 6 and 2 x 3 cells with two anchors each; a level has 20 rows."""
    logits = [torch.randperm(2 * k, generator=torch.Generator().manual_seed(k)).view(2, k) / k for k in (48, 12)]
    deltas = [noise(2, k, 4, seed=k) for k in (48, 12)]
    sizes = torch.tensor([[30.0, 46.0], [32.0, 40.0]], dtype=torch.float64)
    return [
        [x.to(dtype) for x in logits],
        [x.to(dtype) for x in deltas],
        sizes.to(dtype),
        [6, 3],
        [8, 16],
        [0.0, 0.5],
        [4.0, 8.0, 8.0, 4.0, 8.0, 16.0, 16.0, 8.0],
        True,
        [0.5, 0.5, 1.0, 1.0],
        [-1.0, 1.0],
        0,
        3.0,
        20,
    ]


def rpn_expected(
    logits: list[Tensor], deltas: list[Tensor], sizes: Tensor, widths: list[int], strides: list[int], *rest: Any
) -> list[Tensor]:
    firsts, halves, _, stds, _, _, least, top = rest
    rows: list[list[Tensor]] = [[], [], [], []]
    for i in range(2):
        for level, (width, stride, first) in enumerate(zip(widths, strides, firsts, strict=True)):
            scores, order = logits[level][i].sigmoid().topk(min(top, logits[level].shape[1]))
            order = torch.cat((order, order[-1:].expand(top - len(order))))
            cell = order // 2
            centre = torch.stack((cell % width, cell // width), 1) * stride + first
            half = torch.tensor(halves, dtype=torch.float64).view(2, 2, 2)[level, order % 2]
            move = deltas[level][i, order] * torch.tensor(stds)
            centre = centre + 2 * half * move[:, :2]
            half = half * move[:, 2:].clamp(-1, 1).exp()
            boxes = clip_boxes_to_image(torch.cat((centre - half, centre + half), 1), tuple(sizes[i].tolist()))
            large = (boxes[:, 2:] - boxes[:, :2] >= least).all(1) & (torch.arange(top) < len(scores))
            scores = torch.cat((scores, scores[-1:].expand(top - len(scores))))
            for part, row in zip(rows, (boxes, scores, torch.full((top,), level), large), strict=True):
                part.append(row)
    return [torch.cat(part).unflatten(0, (2, -1)) for part in rows]


BOXES = torch.tensor([[3, 7, 40, 30], [-9, -9, 20, 90], [0, 0, 64, 64], [50, 20, 80, 21]], dtype=torch.float64)


def pyramid_arguments(dtype: torch.dtype) -> list[Any]:
    features = [noise(2, 3, 16, 18, seed=1).to(dtype), noise(2, 3, 8, 9, seed=2).to(dtype)]
    boxes = BOXES.view(2, 2, 4).to(torch.promote_types(dtype, torch.float32))
    return [features, boxes, torch.tensor([[1, 0], [1, 1]]), [0.25, 0.125], 5, 0, True]


def pyramid_expected(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    resolution: int,
    ratio: int,
    aligned: bool,
) -> list[Tensor]:
    rows = []
    for image in range(2):
        for box, level in zip(boxes[image], levels[image].tolist(), strict=True):
            feature = features[level][image : image + 1]
            rows.append(roi_align(feature, [box[None]], resolution, scales[level], ratio, aligned))
    return [torch.cat(rows)]


def pyramid_backward_arguments(dtype: torch.dtype) -> list[Any]:
    _, boxes, levels, scales, *_ = pyramid_arguments(dtype)
    return [noise(4, 3, 5, 5, seed=3).to(dtype), boxes, levels, scales, 0, True, [16, 8], [18, 9]]


def pyramid_backward_expected(
    grad: Tensor,
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    ratio: int,
    aligned: bool,
    heights: list[int],
    widths: list[int],
) -> list[Tensor]:
    sizes = zip(heights, widths, strict=True)
    leaves = [torch.zeros(2, 3, *size, dtype=torch.float64, requires_grad=True) for size in sizes]
    (pooled,) = pyramid_expected(leaves, boxes, levels, scales, 5, ratio, aligned)
    return list(torch.autograd.grad(pooled, leaves, grad))


WINDOW = [3, 2], [1, 2], [1, 0], [1, 2], 2, 1.5  # kernel, stride, pad, dilation as height, width; groups; offset_scale


def dcn_arguments(dtype: torch.dtype) -> list[Any]:
    input, offset, mask = noise(2, 7, 8, 6), noise(2, 7, 3, 2 * 6 * 2, seed=1), noise(2, 7, 3, 2 * 6, seed=2)
    return [*(x.to(dtype) for x in (input, offset, mask)), *WINDOW]


def dcn_expected(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    scale: float,
) -> list[Tensor]:
    """A deformable convolution of each channel alone whose weights are 1.

    torchvision's points run along x first and are given as y, x; DCNv3's run along y first and are x, y, and its
    offsets and grid are widened about the grid's centre.
    """
    n, ho, wo, _ = mask.shape
    own = offset.view(n, ho, wo, groups, kernel[1], kernel[0], 2)  # group, ix, iy
    moved = []
    for axis in (0, 1):  # y, x
        steps = (torch.arange(kernel[axis]) * dilation[axis]).view((1, -1) if axis == 0 else (-1, 1))
        half = dilation[axis] * (kernel[axis] - 1) // 2
        moved.append(half + (steps - half + own[..., 1 - axis]) * scale - steps)
    offsets = torch.stack(moved, -1).transpose(4, 5).flatten(3).permute(0, 3, 1, 2)
    weights = mask.view(n, ho, wo, groups, kernel[1], kernel[0]).transpose(4, 5).flatten(3).permute(0, 3, 1, 2)
    ones = torch.ones(input.shape[3], 1, *kernel, dtype=input.dtype)
    by_channel = input.permute(0, 3, 1, 2)
    return [deform_conv2d(by_channel, offsets, ones, None, stride, pad, dilation, weights).permute(0, 2, 3, 1)]


def dcn_backward_arguments(dtype: torch.dtype) -> list[Any]:
    return [noise(2, 7, 3, 6, seed=3).to(dtype), *dcn_arguments(dtype)]


def dcn_backward_expected(grad: Tensor, *arguments: Any) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in arguments[:3]]
    return list(torch.autograd.grad(dcn_expected(*leaves, *arguments[3:])[0], leaves, grad))


def fused_arguments(dtype: torch.dtype) -> list[Any]:
    points = noise(2, 7, 3, 56, seed=4)  # of 9 points and 2 groups: 18 pairs, 18 logits, 2 numbers unused
    return [noise(2, 7, 8, 6).to(dtype), points.to(dtype), [1, 2], [1, 1], [1, 2], 2, 1.5]


def fused_expected(
    input: Tensor, points: Tensor, stride: list[int], pad: list[int], dilation: list[int], groups: int, scale: float
) -> list[Tensor]:
    offset = points[..., :36].unflatten(-1, (9, 2, 2)).movedim(3, 4).flatten(3)
    mask = points[..., 36:54].unflatten(-1, (9, 2)).softmax(3).movedim(3, 4).flatten(3)
    return dcn_expected(input, offset, mask, [3, 3], stride, pad, dilation, groups, scale)


def paste_arguments(dtype: torch.dtype) -> list[Any]:
    boxes = torch.tensor([[3.0, 7.0, 14.5, 30.0], [-9.0, -9.0, 50.0, 60.0], [40.0, 2.0, 50.0, 9.0]])
    return [(noise(3, 6, 6) / 4 + 0.5).to(dtype), boxes.to(dtype), 20, 17, False, 90]


def paste_expected(masks: Tensor, boxes: Tensor, height: int, width: int, _: bool, cap: int) -> list[Tensor]:
    ends, counts = torch.zeros(3, cap, dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    for i in range(3):
        (x1, y1, x2, y2), y, x = boxes[i], torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5
        v, u = torch.meshgrid((y - y1) / (y2 - y1) * 2 - 1, (x - x1) / (x2 - x1) * 2 - 1, indexing="ij")
        pixels = grid_sample(masks[None, i : i + 1], torch.stack((u, v), -1)[None], align_corners=False)[0, 0] >= 0.5
        lengths = [(pixel, len(list(run))) for pixel, run in groupby(pixels.T.flatten().tolist())]
        runs = torch.tensor([0] * lengths[0][0] + [length for _, length in lengths]).cumsum(0)
        ends[i, : len(runs)], counts[i] = runs, len(runs)
    return [ends, counts]


def preprocess_arguments(dtype: torch.dtype) -> list[Any]:
    image, colours = noise(9, 14, 3).abs().mul(60).clamp(max=250).byte(), ([120.5, 110.0, 100.0], [58.0, 57.0, 1.0])
    return [[image], [16, 21], [9 / 16, 14 / 21], *colours, 16, 24, True, dtype]


def preprocess_expected(images: list[Tensor], sizes: list[int], _: list[float], *rest: Any) -> list[Tensor]:
    levels = interpolate(images[0].permute(2, 0, 1).double()[None], sizes, mode="bilinear")
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in rest[:2])
    return [pad((levels - mean) / std, (0, 3))]


OPERATORS = {
    "grouped_nms": Operator(nms_arguments, nms_expected, FLOAT),
    "class_nms": Operator(class_nms_arguments, class_nms_expected, FLOAT),
    "rpn_select": Operator(rpn_arguments, rpn_expected, FLOAT),
    "pyramid_roi_align": Operator(pyramid_arguments, pyramid_expected, FLOAT + HALF, differentiable=True),
    "pyramid_roi_align_backward": Operator(pyramid_backward_arguments, pyramid_backward_expected, FLOAT + HALF),
    "dcnv3": Operator(dcn_arguments, dcn_expected, FLOAT + HALF, differentiable=True),
    "dcnv3_fused": Operator(fused_arguments, fused_expected, FLOAT + HALF),
    "dcnv3_backward": Operator(dcn_backward_arguments, dcn_backward_expected, FLOAT + HALF),
    "paste_rle": Operator(paste_arguments, paste_expected, FLOAT + HALF),
    "preprocess": Operator(preprocess_arguments, preprocess_expected, FLOAT[:1] + HALF),
    **LAYERS,
}
SWEEP = [(name, dtype) for name, operator in OPERATORS.items() for dtype in operator.dtypes]


def on_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``value`` with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    return [on_tensors(change, item) for item in value] if isinstance(value, list) else value


def strided(x: Tensor) -> Tensor:
    """The same numbers, each with a stranger behind it."""
    return torch.stack((x, ~x if x.dtype == torch.bool else x + 1), -1)[..., 0]


def exact(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def as_list(result: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def documented() -> dict[str, dict[str, set[torch.dtype]]]:
    """The table of docs/ops.md: for each operator and kind of device the types that its compiled version takes."""
    page = (Path(__file__).parents[2] / "docs/ops.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\w, -]+) \| ([\w, -]+) \|", page, re.MULTILINE)
    types = {"all": {*FLOAT, *HALF}, "-": set(), "float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
    return {name: {"cpu": types[cpu], "cuda": types[cuda]} for name, cpu, cuda in rows}


def skip_what_is_refused(name: str, dtype: torch.dtype, device: str) -> None:
    if device in COMPILED and device in KERNELS[name] and dtype not in documented()[forward(name)][device]:
        pytest.skip("docs/ops.md does not promise this type")


def forward(name: str) -> str:
    """The operator, or whose gradient it is."""
    return name.removesuffix("_backward")


def test_the_documented_kernels_are_those_that_are_defined() -> None:
    table = documented()
    assert table.keys() == {forward(name) for name in KERNELS}
    for name, kinds in KERNELS.items():
        assert {kind for kind, types in table[forward(name)].items() if types} == {*kinds}


@pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
@pytest.mark.parametrize("name", [name for name, kinds in KERNELS.items() if "cpu" in kinds])
def test_a_cpus_kernel_takes_the_documented_types_alone(name: str) -> None:
    operator = getattr(torch.ops.cascadezoo, name)
    for dtype in (*FLOAT, *HALF, torch.int64):
        arguments = OPERATORS[name].arguments(dtype)
        if dtype in documented()[forward(name)]["cpu"]:
            operator(*arguments)
        else:
            with pytest.raises(RuntimeError, match=r"floating point|float32|bfloat16"):
                operator(*arguments)


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "dtype"), SWEEP, ids=lambda value: str(value).removeprefix("torch."))
def test_equals_torchvision(name: str, dtype: torch.dtype, device: str, layout: str) -> None:
    skip_what_is_refused(name, dtype, device)
    operator = OPERATORS[name]
    arguments = operator.arguments(dtype)
    expected = operator.expected(*on_tensors(exact, arguments))
    arguments = on_tensors(lambda x: (strided(x) if layout == "strided" else x).to(device), arguments)
    results = as_list(getattr(torch.ops.cascadezoo, name)(*arguments))
    assert len(results) == len(expected)
    for result, right in zip(results, expected, strict=True):
        assert result.shape == right.shape
        assert result.device.type == device
        if right.is_floating_point():
            assert result.dtype == dtype
            assert (result.cpu().double() - right).abs().max() <= BOUND[dtype] * right.abs().max()
        else:
            assert torch.equal(result.cpu(), right)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "dtype"), SWEEP, ids=lambda value: str(value).removeprefix("torch."))
def test_is_registered_as_torch_demands(name: str, dtype: torch.dtype, device: str) -> None:
    skip_what_is_refused(name, dtype, device)
    operator = OPERATORS[name]
    arguments = on_tensors(lambda x: x.to(device), operator.arguments(dtype))
    torch.library.opcheck(getattr(torch.ops.cascadezoo, name), tuple(arguments))
    if operator.differentiable and dtype == torch.float64:
        leaves = on_tensors(lambda x: x.requires_grad_() if x.is_floating_point() else x, arguments)
        torch.library.opcheck(getattr(torch.ops.cascadezoo, name), tuple(leaves))


def test_every_operator_is_swept() -> None:
    registered = {
        name.split("::")[1].split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("cascadezoo::")
    }
    assert registered == OPERATORS.keys()


@pytest.mark.parametrize("name", OPERATORS)
def test_only_a_loaded_cuda_kernel_may_be_part_of_a_graph(name: str) -> None:
    operator = getattr(torch.ops.cascadezoo, name).default
    kernel = torch._C._dispatch_has_kernel_for_dispatch_key(f"cascadezoo::{name}", "CUDA")
    assert (torch.Tag.cudagraph_unsafe in operator.tags) is not kernel
