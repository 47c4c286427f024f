"""The outlines of a mask as smooth curves, whatever the size of the picture.

A mask's edge runs in steps of whole pixels.  Here it is found as a chain of pixels, smoothed along its length by less
than two pixels, and moved out by the half pixel from the pixels' centres to their edge; then it can be drawn at any
scale.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.ops.mask_paste import Crop

Curve: TypeAlias = npt.NDArray[np.float64]
"""(K, 2) x and y in pixels of the image, closed; a pixel's centre is at (x + 0.5, y + 0.5)."""

_SIGMA, _REACH = 1.5, 4  # pixels of the chain: of the Gaussian that smooths it, and how far it reaches
_PADDED = _REACH + 1


def outlines_of(crop: Crop) -> list[Curve]:
    """The outer outlines of a mask's parts, and those of their holes."""
    mask = crop.mask.cpu().numpy().view(np.uint8)
    if not mask.size:
        return []
    left, top, width, height = cv2.boundingRect(mask)
    chains, _ = cv2.findContours(
        mask[top : top + height, left : left + width], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE,
        offset=(crop.left + left, crop.top + top),
    )  # fmt: skip
    return [_curve(chain[:, 0].astype(np.float64) + 0.5) for chain in chains]


def _curve(centres: Curve) -> Curve:
    """The outline of a chain, whose mask lies at the same side of every chain."""
    if len(centres) < 3:  # one pixel or two
        (x1, y1), (x2, y2) = centres.min(axis=0) - 0.5, centres.max(axis=0) + 0.5
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    if len(centres) > _PADDED:
        padded = np.concatenate((centres[-_PADDED:], centres, centres[:_PADDED]))
        smooth = cv2.GaussianBlur(padded[:, None], (1, 2 * _REACH + 1), sigmaX=_SIGMA)[_REACH:-_REACH, 0]
    else:
        smooth = np.concatenate((centres[-1:], centres, centres[:1]))
    along = smooth[2:] - smooth[:-2]
    length = np.hypot(along[:, 0], along[:, 1]).clip(1e-9)[:, None]  # 0 where a line of pixels turns back
    outward: Curve = np.stack((-along[:, 1], along[:, 0]), axis=1) / length
    return smooth[1:-1] + outward / 2
