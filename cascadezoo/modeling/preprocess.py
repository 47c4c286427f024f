"""From decoded pictures to the network's pixels, on the host: the exact uint8 resize, normalisation, padding.

Source: mmcv ``imrescale`` and ``imresize`` (cv2 backend); mmdet ``DetDataPreprocessor``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascadezoo.spec import PreprocessSpec


class ResizedImage(NamedTuple):
    """One picture at network scale."""

    pixels: NDArray[np.uint8]  # (h, w, 3) RGB
    original_size: tuple[int, int]  # height, width as given

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at network scale, before padding."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Batch(NamedTuple):
    """N pictures as the network takes them; all tensors on one device."""

    pixels: Tensor  # (N, 3, H, W) RGB, normalised, zero-padded at right and bottom
    sizes: Tensor  # (N, 2) float32 height and width at network scale, without the padding
    scales: Tensor  # (N, 2) float32 network pixels per original pixel, in x and in y


def target_size(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int]:
    """Network (height, width) of a picture; never below one pixel."""
    scale = min(spec.max_size / max(height, width), spec.min_size / min(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(image: NDArray[np.uint8], spec: PreprocessSpec) -> ResizedImage:
    """Resize an (H, W, 3) uint8 picture bilinearly with OpenCV's fixed-point arithmetic, as the publishers do."""
    height, width = target_size(image.shape[0], image.shape[1], spec)
    pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return ResizedImage(np.asarray(pixels, np.uint8), (image.shape[0], image.shape[1]))


def padded_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``spec.size_divisor``."""
    divisor = spec.size_divisor
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def collate(images: Sequence[ResizedImage], spec: PreprocessSpec, device: torch.device, dtype: torch.dtype) -> Batch:
    """Normalise in float32 and pad with zeros to the largest picture."""
    mean = torch.tensor(spec.mean, device=device)[:, None, None]
    std = torch.tensor(spec.std, device=device)[:, None, None]
    height, width = padded_size((max(i.size[0] for i in images), max(i.size[1] for i in images)), spec)
    pixels = torch.zeros(len(images), 3, height, width, device=device, dtype=dtype)
    # every convolution after keeps this layout, which suits CPUs and tensor cores better
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    for row, image in zip(pixels, images, strict=True):
        h, w = image.size
        row[:, :h, :w] = (torch.from_numpy(image.pixels).to(device).permute(2, 0, 1).float() - mean) / std
    scales = [(i.size[1] / i.original_size[1], i.size[0] / i.original_size[0]) for i in images]
    return Batch(
        pixels,
        torch.tensor([i.size for i in images], dtype=torch.float32, device=device),
        torch.tensor(scales, dtype=torch.float32, device=device),
    )
