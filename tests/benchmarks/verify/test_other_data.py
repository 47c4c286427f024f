"""An entry on nuImages is measured on nuImages, whose categories count from 0, and never beside one on COCO."""

import json
from pathlib import Path

import pytest
import torch
from small_coco import write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.coco.categories import OF_DATA
from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError

from tiny import lively, tiny

NAME, COCO_NAME = "cascade_mask_r50_fpn_nuim_1x.mmdet", "cascade_mask_r50_fpn_1x.mmdet"


def load(name: str, **_: object) -> Detector:
    model = lively(tiny("cascade_mask_r50_fpn_nuim", num_classes=10))
    for head in model.box_heads:
        torch.nn.init.constant_(head.cls_score.bias[:1], 0.3)  # so that some are cars, whose id is 0
    model.categories = OF_DATA["nuimages"]
    return model


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nuImages' layout, annotated with what the small model finds."""
    monkeypatch.setattr(cascadezoo, "load", load)
    folder = write_coco(tmp_path, 3)
    path = folder / "annotations" / "instances_val2017.json"
    document, model = json.loads(path.read_text()), load(NAME)
    (folder / "val2017").rename(folder / "samples")
    document["categories"] = OF_DATA["nuimages"].to_coco()
    document["annotations"] = []
    for image in document["images"]:
        image["file_name"] = f"samples/{image['file_name']}"
        for found in model.predict(folder / image["file_name"]).to_coco(image["id"])[:6]:
            area = found["bbox"][2] * found["bbox"][3]
            del found["score"]
            document["annotations"].append({**found, "id": len(document["annotations"]), "area": area, "iscrowd": 0})
    path.unlink()
    (folder / "annotations" / "nuimages_v1.0-val.json").write_text(json.dumps(document))
    return folder


def test_measured_on_its_own_data(root: Path) -> None:
    truth = json.loads((root / "annotations/nuimages_v1.0-val.json").read_text())["annotations"]
    assert {0} < {annotation["category_id"] for annotation in truth}
    report = cascadezoo.verify(NAME, data_root=root, speed=False, tolerance=100, workers=0, device="cpu")
    (accuracy,) = report.entries[0].accuracy
    assert (accuracy.verdict, accuracy.dataset, accuracy.images) == (Verdict.PASS, "nuImages val", 3)
    assert {check.metric: str(check.published) for check in accuracy.checks} == {"box_ap": "50.8", "mask_ap": "40.4"}
    # what it finds is what is annotated, so far as the best six of an image go
    assert accuracy.figures["bbox"]["AP"] > 50


def test_without_data_it_is_skipped() -> None:
    report = cascadezoo.verify(NAME, speed=False, device="cpu")
    (accuracy,) = report.entries[0].accuracy
    assert accuracy.verdict is Verdict.SKIPPED
    assert "nuimages_v1.0-val.json" in accuracy.reason


def test_two_data_sets_are_verified_apart(root: Path) -> None:
    with pytest.raises(UsageError, match="judged on nuImages val and COCO val2017, and --data-root is of one data set"):
        cascadezoo.verify([NAME, COCO_NAME], data_root=root, speed=False, device="cpu")
