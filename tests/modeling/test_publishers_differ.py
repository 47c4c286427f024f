"""Every kind of network of the zoo, small: it detects within the image, in fixed shapes, with gradients."""

import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo.loading import build
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.network import _of_best_class
from cascadezoo.modeling.postprocess import Scored, select
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.providers import SPECS

from tiny import lively, tiny

KINDS = [
    ("mmdet", "cascade_mask_r50_fpn"),
    ("mmdet", "cascade_r50_caffe_fpn"),
    ("internimage", "cascade_mask_internimage_l_fpn"),
    ("paddle", "cascade_mask_r50_vd_fpn"),
    ("paddle", "mask_r50_fpn"),
    ("paddle", "mask_r50_c4"),
    ("detectron", "cascade_mask_r50_fpn"),
    ("detectron", "faster_x101_64x4d_fpn"),
]
ALL = [(publisher, name) for publisher, specs in SPECS.items() for name in specs]


@pytest.fixture(scope="module", params=KINDS, ids="/".join)
def model(request):
    publisher, architecture = request.param
    return lively(tiny(architecture, publisher))


def random_image(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_detections_lie_in_the_image_best_first(model) -> None:
    found = model.predict(random_image())
    extent = model.spec.stages[-1].extent
    assert len(found) > 3
    assert found.boxes.min() >= 0
    assert found.boxes[:, 0::2].max() <= 90 - extent + 1e-3
    assert found.boxes[:, 1::2].max() <= 60 - extent + 1e-3
    assert (found.scores.diff() <= 0).all()
    if model.spec.mask:
        assert found.masks.shape == (len(found), 60, 90)
        assert [rle["size"] for rle in found.rles()] == [[60, 90]] * len(found)
    x, y, w, h = found.to_coco(1)[0]["bbox"]
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert (x, y, w, h) == pytest.approx((x1, y1, x2 - x1 + extent, y2 - y1 + extent))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (37, 53)])
def test_odd_sizes(model, size: tuple[int, int]) -> None:
    found = model.predict(random_image(*size))
    assert found.image_size == size
    assert torch.isfinite(found.boxes).all()


def test_one_graph_of_fixed_shapes(model) -> None:
    batch = model.prepare([model.resize(random_image()), model.resize(random_image(60, 90))])
    with torch.inference_mode():
        eager = model.infer(batch)
    assert eager.boxes.shape == (2, 100, 4)
    for i, n in enumerate(eager.counts.tolist()):
        assert (eager.scores[i, n:] == 0).all()
        assert (eager.scores[i, :n] > 0).all()
    torch.compiler.reset()
    with torch.inference_mode():
        compiled = torch.compile(model.infer, fullgraph=True, backend="aot_eager")(batch)
    for ours, theirs in zip(compiled, eager, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-4)


def test_gradients_reach_the_backbone(model) -> None:
    model.zero_grad()
    features = model.extract(torch.randn(1, 3, 64, 96))
    sum(f.sum() for f in features).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.backbone.parameters())


def test_initialisation_fills_everything(model, monkeypatch) -> None:
    """Nothing of the uninitialised memory that a network is built in is left."""
    built = torch.nn.Module.to_empty

    def full_of_nan(self, **options):
        built(self, **options)
        for tensor in self.state_dict().values():
            tensor.fill_(torch.nan)
        return self

    monkeypatch.setattr(torch.nn.Module, "to_empty", full_of_nan)
    fresh = build(model.spec)
    assert [name for name, tensor in fresh.state_dict().items() if not tensor.isfinite().all()] == []
    assert fresh.predict(random_image()).image_size == (60, 90)


def test_test_time_augmentation_is_for_every_network(model) -> None:
    found = model.predict(random_image(), tta=TTASettings(scales=(0.5, 1.25)))
    assert len(found) > 3
    assert (found.scores.diff() <= 0).all()
    assert (found.mask_probs is None) == (model.spec.mask is None)
    assert found.boxes[:, 2].max() <= 90 + 1e-3


def test_grey_and_colour_are_the_same_image(model, tmp_path) -> None:
    grey = random_image()[..., :1].repeat(3, -1)
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    assert model.predict(tmp_path / "grey.png").boxes.tolist() == model.predict(grey).boxes.tolist()


@pytest.mark.parametrize(("publisher", "architecture"), ALL, ids="/".join)
def test_every_architecture_builds_on_meta(publisher: str, architecture: str) -> None:
    spec, shapes = SPECS[publisher][architecture], canonical_shapes(SPECS[publisher][architecture])
    heads = {name.split(".")[1] for name in shapes if name.startswith("box_heads.")}
    assert spec.num_classes == (8 if publisher == "cascadezoo" else 80)
    assert len(heads) == len(spec.stages) == (3 if architecture.startswith("cascade") else 1)
    rows = 4 * spec.num_classes if spec.box_head.class_specific else 4
    assert shapes["box_heads.0.bbox_pred.bias"] == (rows,)
    assert shapes["box_heads.0.cls_score.bias"] == (spec.num_classes + 1,)
    assert any(name.startswith("mask_heads.") for name in shapes) == ("mask" in architecture)
    assert not any("num_batches" in name for name in shapes)


def scored(boxes, scores, classes: int = 2) -> tuple[Scored, Batch]:
    """Agnostic boxes with no deltas left, all of class 0, on an image of 100 x 100 at twice its scale."""
    n = len(boxes)
    probabilities = torch.zeros(1, n, classes + 1)
    probabilities[0, :, 0] = torch.tensor(scores)
    size, scale = torch.tensor([[200.0, 200.0]]), torch.tensor([[2.0, 2.0]])
    batch = Batch(torch.empty(0), size, scale, size / 2)
    return Scored(torch.tensor([boxes]), torch.zeros(1, n, 1, 4), probabilities, torch.ones(1, n) > 0), batch


def test_the_best_foreground_class_moves_a_box_on() -> None:
    """Background wins both rows; class 1 is the better of the others in the first, class 0 in the second."""
    logits = torch.tensor([[0.1, 0.2, 9.0], [0.4, 0.3, 9.0]])
    deltas = torch.arange(16.0).view(2, 2, 4)
    assert _of_best_class(logits, deltas).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert _of_best_class(logits, deltas[:, :1]).tolist() == deltas[:, 0].tolist()


def test_boxes_without_area_take_a_place_and_are_dropped() -> None:
    """Three candidates for two places: the best has no area, so one detection is left where both places were taken."""
    spec = tiny("mask_r50_fpn", "paddle")
    rule = spec.conventions.selection.model_copy(update={"detections_per_img": 2})
    boxes = [[50.0, 50.0, 50.0, 90.0], [10.0, 10.0, 60.0, 60.0], [100.0, 100.0, 160.0, 160.0]]
    found = select(*scored(boxes, [0.9, 0.8, 0.7]), spec.stages[-1], rule)
    assert found.counts.tolist() == [1]
    assert found.boxes[0, 0].tolist() == [5.0, 5.0, 30.0, 30.0]
    assert found.scores[0].tolist() == [pytest.approx(0.8), 0]


def test_the_threshold_is_strict_and_background_never_wins() -> None:
    spec = tiny("mask_r50_fpn", "paddle")
    rule = spec.conventions.selection.model_copy(update={"score_thresh": 0.5})
    found = select(*scored([[0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 90.0, 90.0]], [0.5, 0.75]), spec.stages[-1], rule)
    assert found.counts.tolist() == [1]
    assert found.labels[0, 0] == 0


def test_decoding_in_original_pixels_uses_the_extent_there() -> None:
    """At twice the scale, 20..59 divided first is 10..29.5, 20.5 pixels wide where x2 is the last pixel."""
    spec = tiny("faster_r50_fpn", "detectron")
    given, batch = scored([[20.0, 20.0, 59.0, 59.0]], [0.9])
    deltas = given.deltas.clone()
    deltas[..., 0] = 10.0  # dx = 10 / 10 = one width
    found = select(given._replace(deltas=deltas), batch, spec.stages[-1], spec.conventions.selection)
    assert found.boxes[0, 0].tolist() == pytest.approx([30.5, 10.0, 50.0, 29.5])
    assert found.rois[0, 0].tolist() == pytest.approx([61.0, 20.0, 100.0, 59.0])
