"""The bounds of what an image shows of an object's mask.  (height, width) is the image's size, in pixels."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from cascadezoo.losses.polygons import Points

Box = npt.NDArray[np.float32]  # (4,) x1 y1 x2 y2, edges


def bounds(shape: torch.Tensor | Sequence[Points], height: int, width: int) -> Box:
    """Of a bitmap (height, width), or of polygons as far as they lie inside the image; zeros where nothing does."""
    found = _of_bitmap(shape) if isinstance(shape, torch.Tensor) else _of_polygons(shape, height, width)
    parts = np.asarray(list(found))
    if not len(parts):
        return np.zeros(4, dtype=np.float32)
    return np.concatenate([parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)]).astype(np.float32)


def _of_bitmap(mask: torch.Tensor) -> Iterator[tuple[int, int, int, int]]:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    if len(rows):
        yield int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _of_polygons(polygons: Sequence[Points], height: int, width: int) -> Iterator[npt.NDArray[np.float64]]:
    """A polygon's part in the image reaches farthest at an end of what its edges have inside, or at a corner of the
    image that lies in it."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    for polygon in polygons:
        points = np.concatenate([_clipped_edges(polygon, height, width), corners[_inside(corners, polygon)]])
        if len(points) and (points.max(axis=0) > points.min(axis=0)).all():  # else it only touches the image
            yield np.concatenate([points.min(axis=0), points.max(axis=0)])


def _clipped_edges(polygon: Points, height: int, width: int) -> Points:
    """The ends of the edges' parts inside the image.  Source: Liang and Barsky, ACM TOG 1984."""
    step = np.roll(polygon, -1, axis=0) - polygon
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.stack([(0 - polygon) / step, ((width, height) - polygon) / step])  # (2, K, 2): where it meets the sides
    parallel = step == 0
    beside = (parallel & ((polygon < 0) | (polygon > (width, height)))).any(axis=1)
    first = np.where(parallel, -np.inf, at.min(axis=0)).max(axis=1).clip(min=0)
    last = np.where(parallel, np.inf, at.max(axis=0)).min(axis=1).clip(max=1)
    seen = (first <= last) & ~beside
    ends = [polygon[seen] + part[seen, None] * step[seen] for part in (first, last)]
    return np.concatenate(ends).clip(0, (width, height))


def _inside(points: Points, polygon: Points) -> npt.NDArray[np.bool_]:
    """Which of (N, 2) points lie in the polygon: a ray to the right crosses its edges an odd number of times."""
    x, y = points[:, :1], points[:, 1:]
    (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, -1, axis=0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    inside: npt.NDArray[np.bool_] = (((y1 > y) != (y2 > y)) & (x < crossing)).sum(axis=1) % 2 == 1
    return inside
