"""One small valid file for every reader, made by our own writers: property tests bend them, the fuzzer starts there."""

import base64
import io
import json
import pickle
import tempfile
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import torch
from attack_pickles import saved
from pycocotools import mask as coco_mask
from sample_report import sample

from cascadezoo.benchmarks.reports.schema import text_of
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.converters.pickle_writer import PYTHON_2, PYTHON_3, write_pickle
from cascadezoo.repo_config import CategoryNames, RepoConfig
from cascadezoo.training.config import TrainingConfig

from tiny import tiny

TENSORS = {"a.bias": torch.tensor([0.5, -2.0]), "a.weight": torch.arange(6.0).reshape(2, 3)}


def torch_zip() -> bytes:
    return saved({"state_dict": OrderedDict(TENSORS), "meta": {"epoch": 12, "CLASSES": ("cat", "dog")}}, "zip")


def torch_legacy() -> bytes:
    return saved({"state_dict": OrderedDict(TENSORS), "meta": {"epoch": 12}}, "legacy")


def pdparams() -> bytes:
    file = io.BytesIO()
    write_pickle(file, {**TENSORS, "StructuredToParameterName@@": {"a.bias": "a_0.b_0"}}, PYTHON_3)
    return file.getvalue()


def detectron_pickle() -> bytes:
    file = io.BytesIO()
    write_pickle(file, {"blobs": dict(TENSORS), "cfg": "MODEL: {}\n"}, PYTHON_2)
    return file.getvalue()


def numpy_pickle() -> bytes:
    """As numpy itself pickles, in each of the ways that differ: protocol 2 writes bytes as text."""
    return pickle.dumps({name: tensor.numpy() for name, tensor in TENSORS.items()}, protocol=2)


def safetensors() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        write_canonical(path, TENSORS, {"content_digest": content_digest(TENSORS), "publisher": "mmdet"})
        return path.read_bytes()


def manifest() -> bytes:
    return b"""[defaults]
publisher = "mmdet"
code_license = "Apache-2.0"
weights_license = "Apache-2.0"
attribution = "somebody"
citation = ["arXiv:1712.00726"]
evidence = "the table"
availability = "published"

[[entry]]
name = "cascade_r50_fpn_1x.mmdet"
architecture = "cascade_r50_fpn"
family = "cascade"
backbone = "R-50-FPN"
style = "pytorch"
schedule = "1x"
box_ap = 40.3
aliases = ["other"]
source = { table = "Cascade R-CNN", checkpoint_url = "https://host/a-0123abcd.pth", sha256_prefix = "0123abcd" }
"""


def repo_config() -> bytes:
    spec = tiny()
    names = tuple(f"class {label}" for label in range(spec.num_classes))
    config = RepoConfig(
        entry="cascade_mask_r50_fpn_1x.mmdet",
        publisher="mmdet",
        architecture="cascade_mask_r50_fpn",
        content_digest="0" * 64,
        categories=CategoryNames(names=names, ids=tuple(range(1, spec.num_classes + 1))),
        spec=spec,
    )
    return config.to_json().encode()


def training_config() -> bytes:
    config = TrainingConfig(
        entry="cascade_mask_r50_fpn_1x.mmdet",
        train_json=Path("a.json"),
        train_images=Path("images"),
        run_dir=Path("run"),
    )
    return config.model_dump_json(indent=2).encode()


def report() -> bytes:
    return text_of(sample()).encode()


def categories() -> bytes:
    return Categories(["cat", "dog"], [3, 1]).to_json().encode()


def annotations() -> bytes:
    mask = np.zeros((4, 6), np.uint8, order="F")
    mask[1:3, 1:3] = 1
    counts = coco_mask.encode(mask)["counts"].decode()
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 3, 2.5], "area": 7.5, "iscrowd": 0,
             "segmentation": [[0, 0, 3, 0, 3, 2.5]]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 1,
             "segmentation": {"size": [4, 6], "counts": [5, 2, 17]}},
            {"id": 3, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4,
             "segmentation": {"size": [4, 6], "counts": counts}},
        ],
    }  # fmt: skip
    return json.dumps(document).encode()


YOLO_YAML = "names:\n  0: cat\n  1: dog\ntrain: images\n"
YOLO_LABEL = "1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.9 0.1 0.9 0.9\n"
VOC = (
    "<annotation><size><width>6</width><height>4</height></size><object><name>cat</name><difficult>0</difficult>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


def labelme() -> bytes:
    mask = base64.b64encode(image(size=(2, 3))).decode()
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[0, 0], [3, 0], [3, 2.5]], "group_id": 1, "flags": {}},
        {"label": "dog", "shape_type": "circle", "points": [[2, 2], [3, 2]], "group_id": None, "flags": {}},
        {"label": "dog", "shape_type": "mask", "points": [[1, 1], [3, 2]], "mask": mask},
    ]
    size = {"imageHeight": 4, "imageWidth": 6, "imageData": None}
    return json.dumps({"shapes": shapes, "imagePath": "a.png", **size}).encode()


def image(suffix: str = ".png", size: tuple[int, int] = (2, 3)) -> bytes:
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    return bytes(cv2.imencode(suffix, pixels)[1])
