"""SAHI, the real package, with the embedded entry on drawn shapes; ``make test-extras``."""

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo import shapes
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.images import read_image

pytestmark = pytest.mark.integrations
pytest.importorskip("sahi")

from sahi.predict import get_prediction, get_sliced_prediction  # noqa: E402
from sahi.prediction import ObjectPrediction  # noqa: E402

from cascadezoo.integrations.sahi import ZooDetectionModel  # noqa: E402

ENTRY = "cascade_mask_r18_fpn_shapes"


@pytest.fixture(scope="module")
def model() -> Detector:
    return cascadezoo.load(ENTRY, pretrained=True)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Four drawn images of one size."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes.generate("val", folder, 40)
    images = [read_image(path) for path in sorted((folder / "val").glob("*.png"))]
    return [image for image in images if image.shape == images[0].shape][:4]


@pytest.fixture(scope="module")
def mosaic(tiles: list[np.ndarray]) -> np.ndarray:
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def sliced(image: np.ndarray, adapter: ZooDetectionModel, size: tuple[int, int], **options) -> list[ObjectPrediction]:
    height, width = size
    done = get_sliced_prediction(
        image, adapter, slice_height=height, slice_width=width, verbose=0, perform_standard_pred=False, **options
    )
    return done.object_prediction_list


def of_tiles(mosaic: np.ndarray, adapter: ZooDetectionModel, tile: np.ndarray, **options) -> list[ObjectPrediction]:
    """Sliced into its tiles."""
    return sliced(mosaic, adapter, tile.shape[:2], overlap_height_ratio=0, overlap_width_ratio=0, **options)


def confident(model: Detector, image: np.ndarray) -> Detections:
    found = model.predict(image)
    return found[found.scores >= 0.5]


def in_order(objects: list[ObjectPrediction]) -> list[ObjectPrediction]:
    return sorted(objects, key=lambda each: each.score.value, reverse=True)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_one_image_is_what_predict_finds(model: Detector, tiles: list[np.ndarray]) -> None:
    adapter = ZooDetectionModel(model=model, confidence_threshold=0.5)
    for tile in tiles:
        found = confident(model, tile)
        objects = get_prediction(tile, adapter).object_prediction_list
        assert len(objects) == len(found) > 0
        for one, each in zip(found, objects, strict=True):
            assert (each.category.name, each.score.value) == (one.name, one.score)
            assert each.category.id == model.categories.ids[one.label]
            assert np.array_equal(each.mask.bool_mask, one.mask.numpy())  # shapes have no holes
            rows, columns = np.nonzero(one.mask.numpy())
            assert each.bbox.to_xyxy() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_slices_that_are_the_tiles_find_what_each_tile_alone_gives(model, tiles, mosaic) -> None:
    adapter = ZooDetectionModel(model=model, confidence_threshold=0.5)
    objects = of_tiles(mosaic, adapter, tiles[0])
    height, width = tiles[0].shape[:2]
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    expected = []
    for tile, (top, left) in zip(tiles, corners, strict=True):
        for one in confident(model, tile):
            mask = np.zeros(mosaic.shape[:2], bool)
            mask[top : top + height, left : left + width] = one.mask.numpy()
            expected.append((one.score, one.name, mask))
    assert len(objects) == len(expected)
    for each, (score, name, mask) in zip(in_order(objects), sorted(expected, key=lambda e: -e[0]), strict=True):
        assert (each.score.value, each.category.name) == (score, name)
        assert iou(each.mask.bool_mask, mask) > 0.95  # SAHI's shift keeps an object off the last row and column


def test_overlapping_slices_find_what_the_whole_image_gives(model: Detector, tiles: list[np.ndarray]) -> None:
    adapter = ZooDetectionModel(model=model, confidence_threshold=0.5)
    for tile in tiles:
        objects = sliced(tile, adapter, (144, 192), overlap_height_ratio=0.6, overlap_width_ratio=0.6)
        for one in confident(model, tile):
            masks = [each.mask.bool_mask for each in objects if each.category.name == one.name]
            assert max(iou(mask, one.mask.numpy()) for mask in masks) > 0.5


def test_slices_of_one_batch_are_found_as_one_by_one(model, tiles, mosaic) -> None:
    adapter = ZooDetectionModel(model=model)
    alone, together = (of_tiles(mosaic, adapter, tiles[0], batch_size=size) for size in (1, 4))
    assert [each.category for each in in_order(alone)] == [each.category for each in in_order(together)]
    for a, b in zip(in_order(alone), in_order(together), strict=True):
        assert a.score.value == pytest.approx(b.score.value, abs=1e-4)
        assert iou(a.mask.bool_mask, b.mask.bool_mask) > 0.98


def test_an_entrys_name_a_threshold_and_other_ids(model: Detector, tiles: list[np.ndarray]) -> None:
    remapping = {str(number): 100 + number for number in model.categories.ids}
    adapter = ZooDetectionModel(ENTRY, device="cpu", confidence_threshold=0.0, category_remapping=remapping)
    numbered = zip(model.categories.ids, model.categories, strict=True)
    assert adapter.category_mapping == {str(number): name for number, name in numbered}
    assert adapter.device == torch.device("cpu")
    objects = get_prediction(tiles[0], adapter).object_prediction_list
    assert {each.category.id for each in objects} == {
        100 + model.categories.ids[label] for label in model.predict(tiles[0]).labels.tolist()
    }


def test_loading_can_wait() -> None:
    adapter = ZooDetectionModel(ENTRY, load_at_init=False)
    assert adapter.model is None
    adapter.load_model()
    assert adapter.model.origin.entry.startswith(ENTRY)


def test_a_model_given_can_wait_too(model: Detector, tiles: list[np.ndarray]) -> None:
    adapter = ZooDetectionModel(model=model, load_at_init=False)
    with pytest.raises(UsageError, match=r"^the model is not loaded yet: call load_model\(\) first$"):
        get_prediction(tiles[0], adapter)
    with pytest.raises(UsageError, match=r"^nothing was detected yet"):
        adapter.convert_original_predictions()
    adapter.load_model()
    assert adapter.model is model


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("name", [None, ENTRY])
def test_a_model_or_a_name(model: Detector, name: str | None, waits: bool) -> None:
    with pytest.raises(UsageError, match=r"^give either model=, a loaded model, or model_path=, the name of an entry$"):
        ZooDetectionModel(name, None if name is None else model, load_at_init=not waits)


def test_a_batch_with_the_default_shift(model: Detector, tiles: list[np.ndarray]) -> None:
    adapter = ZooDetectionModel(model=model, confidence_threshold=0.5)
    adapter.perform_batch_inference(tiles)
    adapter.convert_original_predictions()
    found = [len(objects) for objects in adapter.object_prediction_list_per_image]
    assert found == [len(confident(model, tile)) for tile in tiles]
    for options in ({"shift_amount": [[5, 5]]}, {"full_shape": [[600, 600]]}):
        with pytest.raises(UsageError, match=r"^4 images, .*: give one for each image$"):
            adapter.convert_original_predictions(**options)


def test_a_batch_of_no_images(model: Detector) -> None:
    adapter = ZooDetectionModel(model=model)
    adapter.perform_batch_inference([])
    adapter.convert_original_predictions()
    assert adapter.object_prediction_list_per_image == []


def test_a_device_that_is_not_there(model: Detector) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(MissingResource, match="cuda"):
            ZooDetectionModel(model=model, device="cuda")


class Fixed(torch.nn.Linear):
    """A model that finds the same everywhere."""

    def __init__(self, found: Detections) -> None:
        super().__init__(1, 1)
        self.found, self.categories = found, found.categories

    def predict(self, images: list[np.ndarray], batch_size: int) -> list[Detections]:
        return [self.found] * len(images)


def test_boxes_alone_are_given_by_their_edges() -> None:
    """x2 = 19 as the last pixel inside ends at the edge 20."""
    found = Detections(torch.tensor([[10.0, 5, 19, 14]]), torch.tensor([0.9]), torch.tensor([2]), (40, 50), extent=1)
    adapter = ZooDetectionModel(model=Fixed(found))
    (each,) = get_prediction(np.zeros((40, 50, 3), np.uint8), adapter).object_prediction_list
    assert each.bbox.to_xyxy() == [10, 5, 20, 15]
    assert each.mask is None
    assert (each.category.id, each.category.name) == (3, "car")


def test_a_mask_without_an_outline_is_left_out_and_a_hole_has_one_of_its_own() -> None:
    ring = torch.ones(3, 3)
    ring[1, 1] = 0
    found = Detections(
        torch.tensor([[0.0, 0, 30, 30], [5, 5, 35, 35]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), (40, 50),
        mask_probs=torch.stack((ring, torch.zeros(3, 3))),
    )  # fmt: skip
    adapter = ZooDetectionModel(model=Fixed(found))
    (each,) = get_prediction(np.zeros((40, 50, 3), np.uint8), adapter).object_prediction_list
    assert each.category.name == "person"
    assert len(each.mask.segmentation) == 2
    assert not each.mask.bool_mask[15, 15]
    assert (
        iou(each.mask.bool_mask, found.masks[0].numpy()) > 0.8
    )  # SAHI's outline of a hole is drawn as part of the mask
