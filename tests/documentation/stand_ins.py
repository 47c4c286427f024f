"""A zoo for the pages' blocks: every published network small, its weights without a server, data sets of few images.

The entry inside the package stays as it is, with its own weights.
"""

import json
import shutil
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image
from sample_report import sample

from cascadezoo import registry, shapes
from cascadezoo.benchmarks.reports import verdict
from cascadezoo.benchmarks.reports.schema import text_of
from cascadezoo.benchmarks.verify import request, runner, speed
from cascadezoo.checkpoints import weights
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.coco.categories import COCO
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Model
from cascadezoo.detector import Detector
from cascadezoo.formats.conversion import Format, from_coco
from cascadezoo.manifest import ZooEntry
from cascadezoo.providers import FORMATS, SPECS
from cascadezoo.shapes.dataset import scene
from cascadezoo.spec.model import ModelSpec

from documentation.blocks import ROOT
from tiny import lively, tiny

IMAGES = {"train": 4, "val": 3}
VERIFIED = ("cascade_mask_r18_fpn_shapes", "cascade_mask_r50_fpn_1x.mmdet", "faster_r50_fpn_1x.detectron")
OWN = ("cat", "dog", "eel")  # classes of the fine-tuned file


def shrink() -> None:
    """For the rest of this process."""
    for publisher in FORMATS:
        for architecture in SPECS[publisher]:
            SPECS[publisher][architecture] = _small(architecture, publisher)
    weights._make = _make
    shapes.SIZES.update(IMAGES)
    few = [registry.info(name) for name in VERIFIED]
    request.registry = SimpleNamespace(entries=lambda: few, info=registry.info)  # of `verify --all`
    runner._tolerance = lambda *_: Decimal(100)  # a few images, and weights that find nothing, are no failure here
    verdict.SLOWER = Decimal(1)  # nor is a speed that two calls in turn measure on a busy machine
    speed.Bounds = partial(speed.Bounds, warm_ups=0, rounds=1)


def _small(architecture: str, publisher: str) -> ModelSpec:
    """The network, narrow, which learns from few boxes of an image."""
    record = tiny(architecture, publisher, num_classes=len(COCO)).model_dump()
    for part in ("rpn", "box"):
        record["objective"][part]["sampling"]["size"] = 16
    return ModelSpec.model_validate(record)


def _make(entry: ZooEntry, target: Path, *_: object) -> None:
    """In place of fetching and converting what a publisher sends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    original = target.with_suffix(".original")
    _write(original, entry, lively(registry.spec_of(entry)), tuple(COCO))
    convert(original, entry.publisher, entry.name, target)
    original.unlink()


def _write(path: Path, entry: ZooEntry, model: Detector, classes: tuple[str, ...]) -> None:
    """The file that the publisher's own code would save."""
    state = to_publisher(model.state_dict(), entry.name)
    with path.open("wb") as file:
        CONVERTERS[entry.publisher].write(file, state, Model(entry=entry, spec=model.spec, classes=classes))


def furnish(folder: Path) -> None:
    """The files that pages name."""
    for index, name in enumerate(("photo.jpg", "photo.png", "image.jpg", "a.jpg", "b.jpg", "first.jpg", "second.png")):
        _picture(folder / name, index + 3)
    for index in range(3):
        _picture(folder / "photos" / f"{index}.jpg", index)
    for split, count in IMAGES.items():
        annotations = shapes.generate(split, folder / "data", count)
        shutil.copy(annotations, folder / f"{split}.json")
        shutil.copy(annotations, annotations.with_name(f"{split}.json"))
        shutil.copytree(annotations.parent, folder / "annotations", dirs_exist_ok=True)
        shutil.copytree(folder / "data" / split, folder / split)
    _coco(folder)
    _other_formats(folder)
    for publisher, name in (("mmdet", "fine_tuned.pth"), ("paddle", "model_final.pdparams")):
        entry = registry.info(f"cascade_mask_r50_fpn_1x.{publisher}")
        _write(folder / name, entry, lively(registry.spec_of(entry).with_classes(len(OWN))), OWN)
    entry = registry.info("cascade_mask_r50_fpn_1x.detectron2")
    state = to_publisher(lively(registry.spec_of(entry).with_classes(len(OWN))).state_dict(), entry.name)
    torch.save({"model": state, "iteration": 9, "optimizer": {}}, folder / "model_final.pth")  # as its trainer does
    (folder / "report.json").write_text(text_of(sample()))
    shutil.copytree(ROOT / "examples", folder / "examples")


def _picture(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene("val", index).image).save(path)


def _coco(folder: Path) -> None:
    """Drawn scenes where COCO val2017 would lie, whose shapes go by the first of COCO's categories; and results."""
    document = json.loads((folder / "val.json").read_text())
    for image in document["images"]:
        _picture(folder / "coco" / "val2017" / f"{image['id']:012}.jpg", image["id"] - 1)
        image["file_name"] = f"{image['id']:012}.jpg"
    for annotation in document["annotations"]:
        annotation["category_id"] = COCO.ids[annotation["category_id"] - 1]
    document["categories"] = [{"id": number, "name": name} for number, name in zip(COCO.ids, COCO, strict=True)]
    results = [{**each, "score": 0.9} for each in document["annotations"] if not each["iscrowd"]]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "coco" / "annotations").mkdir()
    for place in (folder, folder / "coco" / "annotations"):
        (place / "instances_val2017.json").write_text(json.dumps(document))
    shutil.copytree(folder / "coco" / "val2017", folder / "val2017")


def _other_formats(folder: Path) -> None:
    """The training images, annotated as YOLO, Pascal VOC and LabelMe have it."""
    train = folder / "train.json"
    boxes = json.loads(train.read_text())
    boxes["annotations"] = [{**each, "segmentation": []} for each in boxes["annotations"] if not each["iscrowd"]]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    from_coco(folder / "boxes.json", folder / "train", folder / "yolo", Format.YOLO)
    shutil.copytree(folder / "train", folder / "yolo" / "images")
    from_coco(train, folder / "train", folder / "VOC2012", Format.VOC)
    shutil.copytree(folder / "train", folder / "VOC2012" / "JPEGImages")
    (folder / "VOC2012" / "ImageSets" / "Segmentation").mkdir()
    shutil.copy(
        folder / "VOC2012" / "ImageSets" / "Main" / "all.txt", folder / "VOC2012/ImageSets/Segmentation/train.txt"
    )
    from_coco(train, folder / "train", folder / "labelme_folder", Format.LABELME)
    shutil.copytree(folder / "train", folder / "labelme_folder", dirs_exist_ok=True)
