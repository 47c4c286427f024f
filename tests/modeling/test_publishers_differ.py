"""Every kind of network of the zoo, small: it detects within the image, in fixed shapes, with gradients."""

import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo.loading import build
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.providers import SPECS

from tiny import lively, tiny

KINDS = [
    ("mmdet", "cascade_mask_r50_fpn"),
    ("mmdet", "cascade_r50_caffe_fpn"),
    ("internimage", "cascade_mask_internimage_l_fpn"),
    ("convnext", "cascade_mask_convnext_t_fpn"),
    ("convnext", "mask_convnext_t_fpn"),
    ("paddle", "cascade_mask_r50_vd_fpn"),
    ("paddle", "mask_r50_fpn"),
    ("paddle", "mask_r50_c4"),
    ("detectron", "cascade_mask_r50_fpn"),
    ("detectron", "faster_x101_64x4d_fpn"),
    ("detectron2", "cascade_mask_r50_fpn"),
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
    assert spec.num_classes == (8 if publisher == "cascadezoo" else 10 if architecture.endswith("_nuim") else 80)
    assert len(heads) == len(spec.stages) == (3 if architecture.startswith("cascade") else 1)
    rows = 4 * spec.num_classes if spec.box_head.class_specific else 4
    assert shapes["box_heads.0.bbox_pred.bias"] == (rows,)
    assert shapes["box_heads.0.cls_score.bias"] == (spec.num_classes + 1,)
    assert any(name.startswith("mask_heads.") for name in shapes) == ("mask" in architecture)
    assert not any("num_batches" in name for name in shapes)
