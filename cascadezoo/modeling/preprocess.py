"""From decoded images to the network's pixels: the publishers' exact resize, normalisation, padding.

OpenCV or Pillow resizes on the host.  A GPU with the compiled ``ops.preprocess`` does all three at once where it gives
the same levels (``on_device``); then images are planned rather than resized, and uploaded as given.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/image/geometric.py`` (``imrescale``,
  ``imresize``)
- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/data_preprocessors/data_preprocessor.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/data/transform/operators.py`` (``Resize``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/utils/blob.py``
- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/data/transforms/augmentation_impl.py`` (``ResizeShortestEdge``), ``transform.py`` (``ResizeTransform``)
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.modeling.transfer import to_device
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.preprocess import preprocess, resized
from cascadezoo.spec.conventions import Bounds, Interpolation, Resize, ResizeStep
from cascadezoo.spec.model import PreprocessSpec

_OPENCV = {Interpolation.LINEAR: cv2.INTER_LINEAR, Interpolation.CUBIC: cv2.INTER_CUBIC}
_MOST_UPLOADED = 2**24  # pixels of an image that is resized on the device: 48 MB there, whatever the network's scale


class ResizedImage(NamedTuple):
    """One image at network scale, or planned for it: as given, with the size that it will have."""

    pixels: NDArray[Any]  # (h, w, 3) RGB, grey levels, uint8 or float32
    original_size: tuple[int, int]  # height, width as given
    scale: float  # network pixels per original pixel, before any rounding
    source: Tensor | None = None  # the image (3, H, W) of 0..1 as given, where gradients are to reach it
    planned: tuple[int, int] | None = None  # the size that ``pixels``, as given, are to be resized to

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at network scale, before padding."""
        return self.planned or (self.pixels.shape[0], self.pixels.shape[1])


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
    """Resize an (H, W, 3) uint8 image as its publisher does; no side falls below one pixel."""
    return _resized(plan(image, spec, rule), rule)


def resize_by(image: NDArray[np.uint8], scale: float, rule: Resize) -> ResizedImage:
    """Resize an (H, W, 3) uint8 image by ``scale``; half pixels of a side are rounded to even, none falls below one."""
    height, width = image.shape[:2]
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return _resized(ResizedImage(image, (height, width), scale, planned=size), rule)


def plan(image: NDArray[np.uint8], spec: PreprocessSpec, rule: Resize) -> ResizedImage:
    """What ``resize`` would give, its pixels still to be resized."""
    height, width = image.shape[:2]
    scale = image_scale(height, width, spec, rule)
    if rule.scaled_twice:
        size = _scaled_twice(height, width, spec)
    elif _by_sides(rule, scale, (height, width)):
        size = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    else:
        size = round(height * scale), round(width * scale)  # half to even, as OpenCV rounds
    return ResizedImage(image, (height, width), scale, planned=size)


def _scaled_twice(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int]:
    """The sides of an image in whole pixels, limited after they were scaled; at the limit half pixels fall otherwise
    than by ``image_scale``: 124 x 6 at 800, at most 1333, becomes 1333 x 64, not 65."""
    scale = spec.min_size / min(height, width)
    shorter = spec.min_size * 1.0  # as told, while height * scale may miss it by a last bit
    h, w = (shorter, width * scale) if height < width else (height * scale, shorter)
    if (longer := max(h, w)) > spec.max_size:
        limit = spec.max_size / longer
        h, w = h * limit, w * limit
    return max(1, int(h + 0.5)), max(1, int(w + 0.5))


def _by_sides(rule: Resize, scale: float, size: tuple[int, int]) -> bool:
    """Whether OpenCV is told the new sides rather than the scale, which it refuses where a side becomes no pixel."""
    return rule.step is ResizeStep.ACHIEVED or round(scale * min(size)) < 1


def _resized(image: ResizedImage, rule: Resize) -> ResizedImage:
    if image.planned is None:
        return image
    if rule.interpolation is Interpolation.PILLOW:
        return image._replace(pixels=_by_pillow(image.pixels, image.planned), planned=None)
    source = image.pixels.astype(np.float32) if rule.float32 else image.pixels
    method = _OPENCV[rule.interpolation]
    if _by_sides(rule, image.scale, image.original_size):
        pixels = cv2.resize(source, image.planned[::-1], interpolation=method)
    else:
        pixels = cv2.resize(source, None, fx=image.scale, fy=image.scale, interpolation=method)
    return image._replace(pixels=np.asarray(pixels), planned=None)


def _by_pillow(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Columns first, then rows, rounded to whole levels in between.

    Until 13.0 Pillow did so by itself; since, it begins with the rows of tall images that shrink, and a quarter of
    their levels differ by one (python-pillow/Pillow#9549).  In two calls the levels are those of any version.
    """
    levels = Image.fromarray(pixels)
    for sides in ((size[1], levels.height), (size[1], size[0])):
        levels = levels.resize(sides, Image.Resampling.BILINEAR)
    return np.array(levels)


def _steps(image: ResizedImage, rule: Resize) -> tuple[float, float]:
    """Original pixels between two of the resized image, in y and x: 1 where OpenCV only copies."""
    if image.size == image.original_size or _by_sides(rule, image.scale, image.original_size):
        (height, width), (original_height, original_width) = image.size, image.original_size
        return 1 / (height / original_height), 1 / (width / original_width)
    return 1 / image.scale, 1 / image.scale


def on_device(image: NDArray[np.uint8], rule: Resize, device: torch.device) -> bool:
    """Whether to plan an image, for ``device`` to resize it, rather than to resize it here."""
    size = image.shape[0] * image.shape[1]
    return device.type == "cuda" and "cuda" in COMPILED and size <= _MOST_UPLOADED and as_opencv(rule)


@functools.cache
def as_opencv(rule: Resize) -> bool:
    """Whether ``ops.preprocess`` gives the levels that this OpenCV gives: equal, or those of float32 within 2^-15.

    Cubic is left to OpenCV, whose builds differ.  So are levels in integers with the nominal step: at half the scale
    OpenCV takes means of an odd side's last pixels, by a rule of their own.  Pillow's resize is left to Pillow.
    """
    fixed = rule.step is ResizeStep.ACHIEVED
    if rule.interpolation is not Interpolation.LINEAR or not (rule.float32 or fixed):
        return False
    image = np.random.default_rng(0).integers(0, 256, (96, 131, 3), dtype=np.uint8)
    for scale in (0.3, 0.5, 1.7, 2, 4):
        size = round(96 * scale), round(131 * scale)
        planned = ResizedImage(image, (96, 131), scale, planned=size)
        ours = resized(torch.from_numpy(image), size, _steps(planned, rule), rule.float32)
        if np.abs(_resized(planned, rule).pixels - ours.numpy()).max() > 2**-15 * rule.float32:
            return False
    return True


def padded_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``spec.size_divisor``, or the square that every image is padded to.

    Raises UsageError for an image that the square does not hold.
    """
    if spec.square:
        if max(size) > spec.square_side:
            raise UsageError(
                f"an image of {size[0]} x {size[1]} pixels at network scale does not fit into the square of "
                f"{spec.square_side} that this network pads to: take smaller scales, or load it with a larger max_size"
            )
        return spec.square_side, spec.square_side
    divisor = spec.size_divisor
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def collate(
    images: Sequence[ResizedImage], spec: PreprocessSpec, rule: Resize, device: torch.device, dtype: torch.dtype
) -> Batch:
    """Normalise in float32 and pad with zeros to ``padded_size`` of the largest image.

    An image that has a ``source`` passes gradients on to it, as if its pixels were interpolated from the source's;
    their values are the publisher's all the same.
    """
    if not all(image.planned and on_device(image.pixels, rule, device) for image in images):
        images = [_resized(image, rule) for image in images]
    padded = padded_size((max(i.size[0] for i in images), max(i.size[1] for i in images)), spec)
    rows = [(*_bounds(image, padded, rule), *scales_of(image, rule), *image.original_size) for image in images]
    numbers = (torch.tensor((spec.mean, spec.std)), torch.tensor(rows, dtype=torch.float32).view(-1, 3, 2))
    levels = [torch.from_numpy(np.require(image.pixels, requirements="W")) for image in images]
    colours, places, *sources = to_device([*numbers, *levels], device)
    if images[0].planned:
        sizes, steps = [image.size for image in images], [_steps(image, rule) for image in images]
        pixels = preprocess(sources, sizes, steps, padded, spec.mean, spec.std, rule.float32, dtype)
    else:
        pixels = _normalised(images, sources, padded, colours, rule, dtype)
    # in memory of their own: a compiled graph would depend on where in a larger one they lie
    return Batch(pixels, *(place.clone() for place in places.unbind(1)))


def _normalised(
    images: Sequence[ResizedImage],
    sources: Sequence[Tensor],
    padded: tuple[int, int],
    colours: Tensor,
    rule: Resize,
    dtype: torch.dtype,
) -> Tensor:
    height, width = padded
    # channels last: every convolution after keeps this layout, which suits CPUs and tensor cores better
    pixels = torch.zeros(len(images), height, width, 3, device=colours.device)
    for i, (image, source) in enumerate(zip(images, sources, strict=True)):
        h, w = image.size
        levels = source.float()
        if image.source is not None:
            levels = levels + _slope(image.source.to(colours.device), image.size, rule).permute(1, 2, 0)
        mean, std = colours.repeat(1, w)  # for whole rows, since steps of three numbers take longer
        pixels[i, :h, :w].view(h, 3 * w).copy_(levels.flatten(1)).sub_(mean).div_(std)
    return pixels.permute(0, 3, 1, 2).to(dtype)


def _slope(source: Tensor, size: tuple[int, int], rule: Resize) -> Tensor:
    """Zeros (3, h, w) with the gradient of ``source`` (3, H, W) of 0..1, as grey levels resized to ``size``."""
    mode = "bicubic" if rule.interpolation is Interpolation.CUBIC else "bilinear"
    antialias = rule.interpolation is Interpolation.PILLOW
    levels = F.interpolate(source.float()[None] * 255, size, mode=mode, align_corners=False, antialias=antialias)[0]
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
