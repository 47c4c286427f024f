"""The operators that no decomposition reaches, in standard ONNX by onnxscript.

Shapes: N images, G groups, K candidates, R boxes per image, C channels, P bins along a side.
"""

# mypy: disable-error-code="no-untyped-call"
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op

from cascadezoo.exporting.lowering import LOWEST


def kept(boxes: Any, scores: Any, iou: float, most: int) -> Any:
    """``cascadezoo_export::kept``: NonMaxSuppression says (image, group, candidate) of each, which is where it is."""
    lowest = op.Constant(value_floats=[LOWEST])
    chosen = op.NonMaxSuppression(
        boxes, scores, op.Constant(value_ints=[most]), op.Constant(value_floats=[iou]), lowest
    )  # (number kept, 3)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(chosen, start=0, end=1))
    return op.Greater(op.ScatterND(nothing, chosen, ones), op.Constant(value_float=0.5))


def pyramid_roi_align(
    features: Sequence[Any],
    boxes: Any,
    levels: Any,
    scales: Sequence[float],
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """``cascadezoo::pyramid_roi_align``: each level's boxes are pooled from it and written into their rows.

    A level may have no boxes; a box of no level stays zero.  So does one without area, where the sampled points follow
    from its size: PyTorch samples none, and OpenVINO's mean of none is NaN.
    """
    rois = op.Reshape(boxes, op.Constant(value_ints=[-1, 4]))
    level = op.Reshape(levels, op.Constant(value_ints=[-1]))
    if aligned and sampling_ratio == 0:
        corner, opposite = op.Split(rois, num_outputs=2, axis=1)
        shorter = op.ReduceMin(op.Sub(opposite, corner), op.Constant(value_ints=[1]), keepdims=0)
        solid = op.Greater(shorter, op.Constant(value_float=0.0))
        level = op.Where(solid, level, op.Constant(value_int=-1))
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    images = op.Range(zero, op.Squeeze(op.Shape(boxes, start=0, end=1)), one)
    image = op.Reshape(
        op.Expand(op.Unsqueeze(images, op.Constant(value_ints=[1])), op.Shape(boxes, start=0, end=2)),
        op.Constant(value_ints=[-1]),
    )
    sides = op.Constant(value_ints=[resolution, resolution])
    shape = op.Concat(op.Shape(rois, start=0, end=1), op.Shape(features[0], start=1, end=2), sides, axis=0)
    pooled = op.Expand(op.Constant(value_float=0.0), shape)
    for number, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        own = op.Cast(op.Equal(level, op.Constant(value_int=number)), to=FLOAT.dtype)  # TensorRT's NonZero takes floats
        rows = op.Reshape(op.NonZero(own), op.Constant(value_ints=[-1]))  # (boxes of this level,)
        some = op.RoiAlign(
            feature,
            op.Gather(rois, rows, axis=0),
            op.Gather(image, rows, axis=0),
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
            output_height=resolution,
            output_width=resolution,
            sampling_ratio=sampling_ratio,
            spatial_scale=scale,
        )
        pooled = op.ScatterND(pooled, op.Unsqueeze(rows, op.Constant(value_ints=[1])), some)
    return pooled


def floordiv(size: Any, divisor: Any) -> Any:
    """``//`` of sizes, which rounds down below zero too, so that ``-(-size // divisor)`` rounds up; PyTorch's exporter
    writes a Div for it, which rounds towards zero."""
    return op.Div(op.Sub(size, op.Mod(size, divisor)), divisor)


TABLE: dict[Any, Callable[..., Any]] = {
    operator.floordiv: floordiv,
    torch.ops.cascadezoo_export.kept.default: kept,
    torch.ops.cascadezoo.pyramid_roi_align.default: pyramid_roi_align,
}
