"""The graph that is exported: a network with the names of its inputs and outputs, and which of its axes are dynamic.

Shapes: N images, H x W pixels of the padded input, h x w of an image at network scale, D detections per image, M side
of a mask.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cascadezoo.modeling.network import Network
from cascadezoo.modeling.preprocess import Batch, ResizedImage, padded_size

PLACES = Batch._fields[1:]  # sizes, scales, original_sizes: (N, 2) each
LEAST = 96  # pixels of a side: the coarsest level has two cells, and torch makes a special case of one
_MOST = 16_384
_BATCH = 1024
_SAMPLE = (160, 224)  # of a dynamic side: the coarsest level has several cells, of which torch makes no special case


class Graph(nn.Module):
    """``Network.infer`` with one tensor for each input and output.

    Inputs are named as the fields of ``Batch``: ``pixels`` (N, 3, H, W), ``sizes``, ``scales``, ``original_sizes``.
    With ``preprocess`` the first is ``images`` instead, (N, h, w, 3) RGB grey levels at network scale: uint8, or
    float32 where the entry resizes in floating point.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Network, preprocess: bool = False) -> None:
        super().__init__()
        self.model, self.preprocess = model, preprocess
        spec = model.spec.preprocess
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std, dtype=torch.float32), persistent=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return ("images" if self.preprocess else "pixels", *PLACES)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        names = ("boxes", "scores", "labels", "counts")
        return names if self.model.spec.mask is None else (*names, "masks")

    def forward(self, pixels: Tensor, sizes: Tensor, scales: Tensor, original_sizes: Tensor) -> tuple[Tensor, ...]:
        """``boxes`` (N, D, 4) in original pixels, ``scores`` (N, D), ``labels`` (N, D), ``counts`` (N,) and, from a
        model with masks, ``masks`` (N, D, M, M)."""
        pixels = self._prepared(pixels) if self.preprocess else pixels
        found = self.model.infer(Batch(pixels, sizes, scales, original_sizes))
        rows = (found.boxes, found.scores, found.labels, found.counts)
        return rows if found.masks is None else (*rows, found.masks)

    def _prepared(self, images: Tensor) -> Tensor:
        """(N, h, w, 3) grey levels to (N, 3, H, W), normalised and padded with zeros at right and bottom."""
        levels = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        spec = self.model.spec.preprocess
        if spec.square:  # more, then cut: torch.export would take it that there is always something to be padded
            side = spec.square_side
            return F.pad(levels, (0, side, 0, side))[..., :side, :side]
        height, width = images.shape[1:3]
        return F.pad(levels, (0, -width % spec.size_divisor, 0, -height % spec.size_divisor))

    def arguments(self, images: Sequence[ResizedImage]) -> dict[str, Tensor]:
        """The inputs by name, of images of equal size at network scale."""
        batch = self.model.prepare(images)
        values = dict(zip(self.inputs, batch, strict=True))
        if self.preprocess:
            values["images"] = torch.stack([torch.as_tensor(image.pixels) for image in images])
        return values


def fixed_size(graph: Graph) -> tuple[int, int]:
    """Height and width of the first input where neither is dynamic: an image of the entry's shorter and longer side,
    lying; padded, unless the graph does that."""
    spec = graph.model.spec.preprocess
    size = spec.min_size, spec.max_size
    return size if graph.preprocess else padded_size(size, spec)


def program(graph: Graph, axes: Sequence[str]) -> ExportedProgram:
    """The graph by ``torch.export``, on the model's device; ``axes`` of ``formats.AXES`` may differ from call to call.

    The others are those of one image of ``fixed_size``.
    """
    spec = graph.model.spec.preprocess
    step = 1 if graph.preprocess else spec.size_divisor
    most, least = (spec.square_side, 2) if spec.square else (_MOST, LEAST)
    sizes = zip(("height", "width"), _SAMPLE, fixed_size(graph), strict=True)
    height, width = (min(size, most) - graph.preprocess if name in axes else fixed for name, size, fixed in sizes)
    n = 2 if "batch" in axes else 1
    weight = next(graph.model.parameters())
    places = weight.new_tensor([[height, width]]).repeat(n, 1)
    sample = (_pixels(graph, n, height, width), places, weight.new_full((n, 2), 1.25), places / 1.25)
    batch: Any = Dim("batch", min=1, max=_BATCH) if "batch" in axes else None
    sides = [_axis(name, step, least, most) if name in axes else None for name in ("height", "width")]
    first = 1 if graph.preprocess else 2
    dynamic = {axis: d for axis, d in ((0, batch), (first, sides[0]), (first + 1, sides[1])) if d is not None}
    rows = {} if batch is None else {0: batch}
    with torch.no_grad():
        return torch.export.export(graph.eval(), sample, dynamic_shapes=(dynamic, rows, rows, rows))


def _axis(name: str, step: int, least: int, most: int) -> Any:
    """A side of ``least`` to ``most`` pixels that is any multiple of ``step``."""
    if step == 1:
        return Dim.AUTO(min=least, max=most)  # with a name torch would solve for it, which fails where it is padded
    return step * Dim(f"{name}_{step}", min=-(-least // step), max=most // step)


def _pixels(graph: Graph, n: int, height: int, width: int) -> Tensor:
    weight = next(graph.model.parameters())
    if not graph.preprocess:
        return torch.zeros(n, 3, height, width, device=weight.device, dtype=weight.dtype)
    kind = torch.float32 if graph.model.spec.conventions.resize.float32 else torch.uint8
    return torch.zeros(n, height, width, 3, device=weight.device, dtype=kind)
