"""From decoded images to the network's pixels, on the host: the publishers' exact resize, normalisation, padding.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/image/geometric.py`` (``imrescale``,
  ``imresize``)
- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/data_preprocessors/data_preprocessor.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/data/transform/operators.py`` (``Resize``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/utils/blob.py``
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cascadezoo.modeling.transfer import to_device
from cascadezoo.spec.conventions import Bounds, Interpolation, Resize, ResizeStep
from cascadezoo.spec.model import PreprocessSpec

_OPENCV = {Interpolation.LINEAR: cv2.INTER_LINEAR, Interpolation.CUBIC: cv2.INTER_CUBIC}


class ResizedImage(NamedTuple):
    """One image at network scale."""

    pixels: NDArray[Any]  # (h, w, 3) RGB, grey levels, uint8 or float32
    original_size: tuple[int, int]  # height, width as given
    scale: float  # network pixels per original pixel, before any rounding
    source: Tensor | None = None  # the image (3, H, W) of 0..1 as given, where gradients are to reach it

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at network scale, before padding."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Batch(NamedTuple):
    """N images as the network takes them; all tensors on one device."""

    pixels: Tensor  # (N, 3, H, W) RGB, normalised, zero-padded at right and bottom
    sizes: Tensor  # (N, 2) float32 height and width that bound boxes at network scale
    scales: Tensor  # (N, 2) float32 network pixels per original pixel, in x and y
    original_sizes: Tensor  # (N, 2) float32 height and width as given

    @property
    def resized_sizes(self) -> Tensor:
        """(N, 2) height and width of the resized images, in whole pixels."""
        return (self.original_sizes * self.scales.flip(1)).round()


def image_scale(height: int, width: int, spec: PreprocessSpec, rule: Resize) -> float:
    """Network pixels per original: ``min_size`` for the shorter side, unless the longer would pass ``max_size``."""
    short, long = min(height, width), max(height, width)
    scale = spec.min_size / short
    length = round(scale * long) if rule.rounded_limit else scale * long
    return spec.max_size / long if length > spec.max_size else scale


def resize(image: NDArray[np.uint8], spec: PreprocessSpec, rule: Resize) -> ResizedImage:
    """Resize an (H, W, 3) uint8 image with OpenCV, as the publishers do; no side falls below one pixel."""
    height, width = image.shape[:2]
    scale = image_scale(height, width, spec, rule)
    source = image.astype(np.float32) if rule.float32 else image
    method = _OPENCV[rule.interpolation]
    if rule.step is ResizeStep.ACHIEVED or round(scale * min(height, width)) < 1:
        size = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
        pixels = cv2.resize(source, size, interpolation=method)
    else:
        pixels = cv2.resize(source, None, fx=scale, fy=scale, interpolation=method)
    return ResizedImage(np.asarray(pixels), (height, width), scale)


def padded_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``spec.size_divisor``."""
    divisor = spec.size_divisor
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def collate(
    images: Sequence[ResizedImage], spec: PreprocessSpec, rule: Resize, device: torch.device, dtype: torch.dtype
) -> Batch:
    """Normalise in float32 and pad with zeros to the largest image.

    An image that has a ``source`` passes gradients on to it, as if its pixels were interpolated from the source's;
    their values are the publisher's all the same.
    """
    padded = padded_size((max(i.size[0] for i in images), max(i.size[1] for i in images)), spec)
    rows = [(*_bounds(image, padded, rule), *scales_of(image, rule), *image.original_size) for image in images]
    numbers = (torch.tensor((spec.mean, spec.std)), torch.tensor(rows, dtype=torch.float32).view(-1, 3, 2))
    colours, places, *sources = to_device([*numbers, *(torch.from_numpy(i.pixels) for i in images)], device)
    mean, std = colours[..., None, None]
    pixels = torch.zeros(len(images), 3, *padded, device=device, dtype=dtype)
    # every convolution after keeps this layout, which suits CPUs and tensor cores better
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    for i, (image, source) in enumerate(zip(images, sources, strict=True)):
        h, w = image.size
        levels = source.permute(2, 0, 1).float()
        if image.source is not None:
            levels = levels + _slope(image.source.to(device), image.size, rule)
        pixels[i, :, :h, :w] = (levels - mean) / std
    # in memory of their own: a compiled graph would depend on where in a larger one they lie
    return Batch(pixels, *(place.clone() for place in places.unbind(1)))


def _slope(source: Tensor, size: tuple[int, int], rule: Resize) -> Tensor:
    """Zeros (3, h, w) with the gradient of ``source`` (3, H, W) of 0..1, as grey levels resized to ``size``."""
    mode = "bicubic" if rule.interpolation is Interpolation.CUBIC else "bilinear"
    levels = F.interpolate(source.float()[None] * 255, size=size, mode=mode, align_corners=False)[0]
    return levels - levels.detach()


def _bounds(image: ResizedImage, padded: tuple[int, int], rule: Resize) -> tuple[float, float]:
    height, width = image.original_size
    return {
        Bounds.RESIZED: image.size,
        Bounds.UNROUNDED: (image.scale * height, image.scale * width),
        Bounds.PADDED: padded,
    }[rule.bounds]


def scales_of(image: ResizedImage, rule: Resize) -> tuple[float, float]:
    """Network pixels per original pixel, in x and y."""
    if rule.step is ResizeStep.NOMINAL:
        return image.scale, image.scale
    (height, width), (original_height, original_width) = image.size, image.original_size
    return width / original_width, height / original_height
