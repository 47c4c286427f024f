"""A model of the zoo as a ``DetectionModel`` of SAHI (0.12), which detects small objects slice by slice.

Importing this module without SAHI raises MissingResource.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cascadezoo import loading
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.devices import usable
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.ops.mask_paste import Crop

try:
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction
    from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask
except ImportError as error:
    raise MissingResource(f"SAHI cannot be imported ({error}): pip install sahi") from error


class ZooDetectionModel(DetectionModel):
    """SAHI's view of a ``Detector``: RGB arrays in, its ``ObjectPrediction`` out, categories by the data set's ids.

    A mask becomes what SAHI makes of one: polygons through the centres of its outermost pixels, those round its holes
    among them.  SAHI takes their extent for the box, and knows no mask without a polygon: such a detection is left out.
    """

    def __init__(
        self,
        model_path: str | None = None,
        model: Detector | None = None,
        *,
        device: str | None = None,
        confidence_threshold: float = 0.3,
        category_remapping: dict[str, int] | None = None,
        load_at_init: bool = True,
    ) -> None:
        """Either ``model``, or the name of an entry as ``model_path``, whose published weights are loaded.

        Args:
            device: where it computes; by default a given model stays where it is, and a name goes to the CPU.
            confidence_threshold: detections of a lower score are left out.  The model has left out those below its own
                threshold before (``box_score_thresh`` of ``cascadezoo.load``).
            category_remapping: another id for each category's id, written as a text.
            load_at_init: False waits for ``load_model()``.

        Raises UsageError for neither or both of ``model`` and ``model_path``.
        """
        if (model is None) == (model_path is None):
            raise UsageError("give either model=, a loaded model, or model_path=, the name of an entry")
        self._given = model
        super().__init__(
            model_path=model_path,
            model=model,
            device=device,
            confidence_threshold=confidence_threshold,
            category_remapping=category_remapping,
            load_at_init=load_at_init,
        )

    def set_device(self, device: str | None = None) -> None:
        """Where to compute; None: where the model is.  Raises MissingResource for a device that is not there."""
        self.device: torch.device | None = None if device is None else usable(device)

    def load_model(self) -> None:
        """Take the model given, or load the entry ``model_path`` with its published weights, as ``cascadezoo.load``."""
        self.set_model(loading.load(self.model_path, pretrained=True) if self._given is None else self._given)

    def set_model(self, model: Detector, **_: Any) -> None:
        """Take a model, with the categories that it knows."""
        self.model = model if self.device is None else model.to(self.device)
        self.device = next(self.model.parameters()).device
        categories = model.categories
        self.category_mapping = {str(number): name for number, name in zip(categories.ids, categories, strict=True)}

    def perform_inference(self, image: npt.NDArray[np.uint8]) -> None:
        """Detect on an (H, W, 3) RGB image."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Detect on (H, W, 3) RGB images; those of equal padded size go through the network together.

        Raises UsageError before ``load_model()``.
        """
        if self.model is None:
            raise UsageError("the model is not loaded yet: call load_model() first")
        self._original_predictions = self.model.predict(list(images), batch_size=len(images)) if len(images) else []

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: list[Any] | None = None, full_shape_list: list[Any] | None = None
    ) -> None:
        if self._original_predictions is None:
            raise UsageError("nothing was detected yet: call perform_inference(image) first")
        found: list[Detections] = self._original_predictions
        shifts = fix_shift_amount_list(shift_amount_list)
        if [list(shift) for shift in shifts] == [[0, 0]]:  # SAHI's default, of however many images
            shifts = [[0, 0]] * len(found)
        shapes = fix_full_shape_list(full_shape_list) or [list(each.image_size) for each in found]
        if not len(found) == len(shifts) == len(shapes):
            raise UsageError(
                f"{len(found)} images, {len(shifts)} shifts and {len(shapes)} full shapes: give one for each image"
            )
        self._object_prediction_list_per_image = [
            list(self._objects(*of_image)) for of_image in zip(found, shifts, shapes, strict=True)
        ]

    def _objects(self, found: Detections, shift: list[int], shape: list[int]) -> Iterator[ObjectPrediction]:
        kept = found[found.scores >= self.confidence_threshold]
        crops: Iterable[Crop | None] = [None] * len(kept) if kept.mask_probs is None else kept.crops()
        for one, crop in zip(kept, crops, strict=True):
            polygons = None if crop is None else _polygons(crop)
            if polygons == []:
                continue
            x1, y1, x2, y2 = one.box
            yield ObjectPrediction(
                bbox=[x1, y1, x2 + kept.extent, y2 + kept.extent],
                category_id=kept.categories.ids[one.label],
                category_name=one.name,
                segmentation=polygons,
                score=one.score,
                shift_amount=shift,
                full_shape=shape,
            )


def _polygons(crop: Crop) -> list[list[int]]:
    """COCO's polygons of a mask, as SAHI draws them, in pixels of its image; none where no outline has three points."""
    if not crop.mask.any():
        return []
    corner = np.array((crop.left, crop.top))
    outlines = get_coco_segmentation_from_bool_mask(crop.mask.cpu().numpy())
    return [(np.reshape(outline, (-1, 2)) + corner).ravel().tolist() for outline in outlines]
