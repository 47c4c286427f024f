"""Validation data are held to the same rules as training data, before the first step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

import cascadezoo
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.distributed import join
from cascadezoo.errors import BadAnnotations, CascadezooError, FileError
from cascadezoo.loading import build
from cascadezoo.providers import SPECS
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.evaluation import evaluate

from drawn import CATEGORIES, Drawn, draw_set
from tiny_zoo import ENTRY, narrow


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Drawn, Drawn]:
    """Training and validation data, and an entry with masks of which the network is small."""
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow())
    return draw_set(tmp_path / "train", 2), draw_set(tmp_path / "val", 2, seed=1)


def change(drawn: Drawn, edit: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(drawn.annotations.read_text())
    edit(document)
    drawn.annotations.write_text(json.dumps(document))


def turn(drawn: Drawn) -> None:
    path = drawn.images / "011.png"
    cv2.imwrite(str(path), cv2.rotate(cv2.imread(str(path)), cv2.ROTATE_90_CLOCKWISE))


def first(**fields: Any) -> Callable[[Drawn], None]:
    return lambda drawn: change(drawn, lambda document: document["annotations"][0].update(fields))


WRONG: dict[str, tuple[Callable[[Drawn], None], type[CascadezooError], str]] = {
    "turned": (turn, BadAnnotations, r"val\.json: image 11: 96 x 64 is annotated, but .*011\.png is 64 x 96"),
    "crowd": (first(iscrowd="0"), BadAnnotations, r"val\.json: annotation 1: iscrowd"),
    "no mask": (first(segmentation=[]), BadAnnotations, r"val\.json: annotation 1 has no segmentation"),
    "no polygon": (first(segmentation=[[]]), BadAnnotations, r"val\.json: annotation 1 has no segmentation"),
    "two points": (first(segmentation=[[1, 1, 5, 5]]), BadAnnotations, r"val\.json: annotation 1 has no segmentation"),
    "far": (first(segmentation=[[1, 1, 9e8, 5, 5, 9]]), BadAnnotations, r"val\.json: annotation 1: segmentation"),
    "a stranger": (
        lambda drawn: change(drawn, lambda document: document["categories"].append({"id": 41, "name": "ring"})),
        FileError,
        r"val\.json has other categories than .*train\.json, such as 'ring'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_T2_T4_T5_wrong_validation_data_are_refused_before_anything_is_done(drawn, tmp_path: Path, what: str) -> None:
    spoil, error, message = WRONG[what]
    train, val = drawn
    spoil(val)
    config = TrainingConfig(
        entry=ENTRY, train_json=train.annotations, train_images=train.images, val_json=val.annotations,
        val_images=val.images, run_dir=tmp_path / "run", workers=0, device="cpu",
    )  # fmt: skip
    with pytest.raises(error, match=message):
        cascadezoo.train(config)
    assert not (tmp_path / "run").exists()


def test_T9_validation_data_with_a_part_of_the_categories_are_scored_on_these(drawn) -> None:
    """A model of three classes that finds all of them; what it finds of the two others counts for nothing."""
    _, val = drawn
    seen = CATEGORIES[1]["id"]

    def keep_one(document: dict[str, Any]) -> None:
        document["categories"] = [CATEGORIES[1]]
        document["annotations"] = [{**each, "category_id": seen} for each in document["annotations"]]

    whole = CocoDataset(*val).categories
    change(val, keep_one)
    torch.manual_seed(0)
    model = build(narrow(num_classes=3))
    model.categories = whole
    data = CocoDataset(*val)
    assert not data.categories.not_in(whole)
    with join("cpu") as world:
        figures = evaluate(model, data, world, lambda done: None).figures
    assert figures["bbox"]["AP"] is not None
