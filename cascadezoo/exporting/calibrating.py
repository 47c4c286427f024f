"""Narrower precisions: the images that 8 bits are calibrated on, and what of a detector is left in float32.

The last layers of the heads give scores and box deltas: one step of 8 bits is more there than the differences that rank
detections.  What follows them, decoding, suppression and the choice of the best, compares numbers and is geometry.
Convolutions and the heads' matrix products alone are quantised; what lies between two of them is computed in float32.
What says where deformable convolutions sample stays in float32 too, and so do the linear layers of backbones, some of
which say it in InternImage: files do not keep their names.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascadezoo.detector import Detector
from cascadezoo.errors import MissingResource
from cascadezoo.exporting.accuracy import Cost
from cascadezoo.exporting.checking import Arrays
from cascadezoo.exporting.graph import Graph
from cascadezoo.images import Pixels, read_image

MOST = 300  # images that are looked at: the first by name
_EXACT = frozenset({"cls_score", "bbox_pred", "mask_logits", "objectness", "deltas", "offset"})


class Calibration:
    """The inputs of a graph for the images of a folder, one at a time; may be gone through again and again.

    Raises MissingResource where no file lies in it, and UnreadableImage, as it is gone through, for a file that is no
    image.
    """

    def __init__(self, model: Detector, graph: Graph, folder: Path) -> None:
        files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        self.paths = sorted(files)[:MOST]
        if not self.paths:
            raise MissingResource(f"no images in the folder {folder}: give some that the model is to see")
        self._model, self._graph = model, graph

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Arrays]:
        return (self.inputs(read_image(path)) for path in self.paths)

    def inputs(self, image: Pixels) -> Arrays:
        """Of one image."""
        arguments = self._graph.arguments([self._model.resize(image)])
        return {name: tensor.contiguous().cpu().numpy() for name, tensor in arguments.items()}


def in_float32(weight: str) -> bool:
    """Whether the layer of a weight, by its name as a parameter, is left in float32."""
    return not _EXACT.isdisjoint(weight.split("."))


def as_float16(weight: NDArray[Any]) -> NDArray[np.float16] | None:
    """A weight rounded to float16; None where that has no number so large, or it is no weight in float32."""
    if weight.dtype != np.float32 or np.abs(weight).max(initial=0) > np.finfo(np.float16).max:
        return None
    return weight.astype(np.float16)


def facts(calibration: Calibration | None, cost: Cost | None) -> dict[str, Any]:
    """For the metadata of a file in a narrower precision."""
    images = {} if calibration is None else {"calibration_images": len(calibration)}
    return {**images, "accuracy": None if cost is None else cost.document()}


def note(calibration: Calibration | None, cost: Cost | None) -> str:
    """The same for the caller."""
    made = "weights in float16" if calibration is None else f"calibrated on {len(calibration)} images"
    return f"{made}; {'what that costs was not measured' if cost is None else cost}"
