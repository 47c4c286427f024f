"""FiftyOne's real ``Model`` and labels; ``make test-extras``.  Its data sets need MongoDB: not tried."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo import shapes
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.images import read_image

pytestmark = pytest.mark.integrations
labels = pytest.importorskip("fiftyone.core.labels")
models = pytest.importorskip("fiftyone.core.models")

from cascadezoo.integrations.fiftyone import ZooModel  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Detector:
    return cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("shapes")
    shapes.generate("val", folder, 2)
    return read_image(folder / "val/000002.png")


def test_it_is_a_model_for_images_of_any_sizes(model) -> None:
    adapter = ZooModel(model)
    assert isinstance(adapter, models.Model)
    assert adapter.media_type == "image"
    assert (adapter.ragged_batches, adapter.transforms, adapter.preprocess) == (False, None, False)
    with adapter as entered:
        assert entered is adapter
    assert adapter.predict_all([]) == []


def test_apply_model_filters_by_itself(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own function as far as the images of a data set, which need MongoDB."""
    monkeypatch.setattr(models.fov, "validate_image_collection", lambda _: None)
    monkeypatch.setattr(models, "_apply_image_model_batch", lambda *given: given[3:6])
    images = SimpleNamespace(media_type="image")
    given = {"confidence_thresh": 0.5, "classes": ["disc"], "batch_size": 8}
    assert models.apply_model(images, ZooModel(model), **given) == (0.5, {"disc"}, 8)


def test_labels_say_what_predict_finds(model, image: np.ndarray) -> None:
    found = model.predict(image)
    label = ZooModel(model).predict(image)
    assert isinstance(label, labels.Detections)
    assert len(label.detections) == len(found) > 0
    height, width = found.image_size
    for one, each in zip(found, label.detections, strict=True):
        assert (each.label, each.confidence) == (one.name, one.score)
        x, y, w, h = each.bounding_box
        assert np.allclose(np.multiply((x, y, x + w, y + h), (width, height, width, height)), one.box, atol=1e-3)
        rendered = each.to_segmentation(frame_size=(width, height)).mask > 0
        own = one.mask.numpy()
        assert (rendered & own).sum() >= 0.9 * (rendered | own).sum()  # the last row and column are cut off


def test_images_of_several_sizes_at_once(model, image: np.ndarray) -> None:
    smaller = np.ascontiguousarray(image[:120])
    both = ZooModel(model).predict_all(iter([image, smaller]))
    for given, label in zip((image, smaller), both, strict=True):
        alone = ZooModel(model).predict(given)
        assert [each.label for each in label.detections] == [each.label for each in alone.detections]


class Fixed:
    def __init__(self, found: Detections) -> None:
        self.found = found

    def predict(self, images: list[np.ndarray], batch_size: int) -> list[Detections]:
        return [self.found] * len(images)


def test_boxes_alone_are_given_by_their_edges() -> None:
    """x2 = 19 as the last pixel inside ends at the edge 20."""
    found = Detections(torch.tensor([[10.0, 5, 19, 14]]), torch.tensor([0.9]), torch.tensor([2]), (40, 50), extent=1)
    (each,) = ZooModel(Fixed(found)).predict(np.zeros((40, 50, 3), np.uint8)).detections
    assert each.bounding_box == pytest.approx([0.2, 0.125, 0.2, 0.25])
    assert each.mask is None
    assert each.label == "car"


def test_a_box_beyond_the_image_ends_at_its_edges() -> None:
    found = Detections(
        torch.tensor([[-5.0, -5, 60, 45], [50, 40, 50, 40]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), (40, 50),
        mask_probs=torch.ones(2, 3, 3),
    )  # fmt: skip
    first, second = ZooModel(Fixed(found)).predict(np.zeros((40, 50, 3), np.uint8)).detections
    assert first.bounding_box == [0, 0, 1, 1]
    assert np.array_equal(first.mask, found.masks[0].numpy())
    assert second.bounding_box == [1, 1, 0, 0]
    assert second.mask.shape == (1, 1)


def test_a_mask_covers_the_pixels_of_its_box_and_at_least_one() -> None:
    boxes = torch.tensor([[10.0, 5, 20, 15], [10.2, 5.2, 10.3, 5.3]])
    ones = torch.ones(2, 3, 3)
    found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), (40, 50), mask_probs=ones)
    first, second = ZooModel(Fixed(found)).predict(np.zeros((40, 50, 3), np.uint8)).detections
    assert first.mask.shape == (10, 10)
    assert first.mask[1:-1, 1:-1].all()
    assert second.mask.shape == (1, 1)
