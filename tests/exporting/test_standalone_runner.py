"""``examples/onnx_runtime.py`` in an environment that has neither torch nor this package, beside ``Detector.predict``.

One model for each rule of resizing and of pasting; a JPEG that its EXIF orientation turns, and a PNG.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.exporting.dispatch import export
from cascadezoo.shapes.dataset import scene

from tiny import lively, tiny

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.export

ROOT = Path(__file__).parents[2]
PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless")
MODELS = {
    "shapes": lambda: cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True),
    "detectron": lambda: lively(tiny("mask_r50_fpn", "detectron")),
    "paddle": lambda: lively(tiny("cascade_mask_r50_fpn", "paddle")),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with these packages alone."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints-dev.txt", *PACKAGES]
    subprocess.run(install, check=True, env={"PATH": "/usr/bin:/bin"})
    for module in ("torch", "cascadezoo", "PIL", "pycocotools"):
        assert (
            subprocess.run([python, "-c", f"import {module}"], capture_output=True, cwd=folder, env={}).returncode == 1
        )
    return python


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    turned, plain = tmp_path / "turned.jpg", tmp_path / "plain.png"
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(scene("val", 0).image).save(turned, exif=orientation, quality=95)
    Image.fromarray(scene("val", 2).image[:150]).save(plain)
    return [turned, plain]


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [("shapes", False), ("shapes", True), ("detectron", False), ("detectron", True), ("paddle", False)],
)
def test_it_finds_what_the_package_finds(
    name: str, preprocess: bool, python: Path, images: list[Path], tmp_path: Path
) -> None:
    model: Detector = MODELS[name]().eval()
    file = tmp_path / "model.onnx"
    export(model, "onnx", output=file, preprocess=preprocess)
    command = [python, ROOT / "examples" / "onnx_runtime.py", file, *images]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={})
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for number, path in enumerate(images, 1):
        ours = model.predict(path).to_coco(number)
        theirs = [one for one in found if one["image_id"] == number]
        assert len(ours) == len(theirs) > 3
        for one in ours:  # the order of equal scores may differ
            same = [other for other in theirs if other["category_id"] == one["category_id"]]
            apart = [np.abs(np.array(one["bbox"]) - other["bbox"]).max() for other in same]
            other = same[int(np.argmin(apart))]
            assert min(apart) < 0.1
            assert abs(one["score"] - other["score"]) < 1e-3
            runs = coco_mask.frPyObjects(other["segmentation"], *other["segmentation"]["size"])
            areas = coco_mask.area([one["segmentation"], runs])
            assert not areas.any() or coco_mask.iou([one["segmentation"]], [runs], [0])[0, 0] >= 0.99
