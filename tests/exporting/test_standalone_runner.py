"""``examples/onnx_runtime.py`` in an environment that has neither torch nor this package, beside ``Detector.predict``.

One model for each rule of resizing, of padding and of pasting; a JPEG that its EXIF orientation turns, and a PNG.
"""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.exporting import metadata
from cascadezoo.exporting.dispatch import export
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph
from cascadezoo.shapes.dataset import scene
from cascadezoo.spec.conventions import Interpolation

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
    "vitdet": lambda: lively(tiny("cascade_mask_vitdet_b", "detectron2")),
    "vitdet-90": lambda: with_square("cascade_mask_vitdet_b", 90),
    "swin-90": lambda: with_square("cascade_mask_swin_b", 90),  # its square is of 96
}


def with_square(architecture: str, side: int) -> Detector:
    spec = tiny(architecture, "detectron2")
    return lively(spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"max_size": side})}))


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


@pytest.fixture(scope="module")
def pillow(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Pillow, for models that resize by it."""
    folder = tmp_path_factory.mktemp("pillow")
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints-dev.txt", "--target", folder]
    subprocess.run([*install, "Pillow"], check=True, env={"PATH": "/usr/bin:/bin"})
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    turned, plain = tmp_path / "turned.jpg", tmp_path / "plain.png"
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(scene("val", 0).image).save(turned, exif=orientation, quality=95)
    Image.fromarray(scene("val", 2).image[:150]).save(plain)
    return [turned, plain]


@pytest.mark.parametrize("name", MODELS)
def test_it_prepares_what_the_package_prepares(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    runner = import_module("onnx_runtime")
    model: Detector = MODELS[name]().eval()
    rule = metadata.document(model, Graph(model), Options())["preprocess"]
    random = np.random.default_rng(0)
    for height, width in random.integers(3, 160, (100, 2)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        resized = model.resize(image)
        found = runner.prepare(image, rule)
        np.testing.assert_array_equal(found["images"][0], resized.pixels)
        for field, value in model.prepare([resized])._asdict().items():
            np.testing.assert_allclose(found[field], value, rtol=1e-6, atol=1e-5)


def test_pixels_are_padded_to_fixed_sides_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    runner = import_module("onnx_runtime")
    values = np.ones((1, 3, 4, 6), np.float32)
    for shape, expected in (
        (["batch", 3, "height", "width"], (1, 3, 4, 6)),
        ([1, 3, 4, 6], (1, 3, 4, 6)),
        (["batch", 3, 8, "width"], (1, 3, 8, 6)),
        ([1, 3, 5, 9], (1, 3, 5, 9)),
    ):
        found = runner.fitted(values, SimpleNamespace(name="pixels", shape=shape), "a.jpg")
        assert (found.shape, found.dtype, found.sum()) == (expected, np.float32, values.sum())
        assert found[..., :4, :6].all()
    for name, shape in (("pixels", [1, 3, 8, 5]), ("images", [1, 3, 8, 6])):  # images are normalised before padding
        with pytest.raises(SystemExit, match=r"a\.jpg: its .* are \[1, 3, 4, 6\], and the file takes only .*"):
            runner.fitted(values, SimpleNamespace(name=name, shape=shape), "a.jpg")
    with pytest.raises(SystemExit, match=r"none\.jpg: no image that OpenCV can read"):
        next(runner.detect(None, None, str(tmp_path / "none.jpg"), 1))


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("shapes", False),
        ("shapes", True),
        ("detectron", False),
        ("detectron", True),
        ("paddle", False),
        ("vitdet", False),
        pytest.param("vitdet", True, marks=pytest.mark.slow),
    ],
)
def test_it_finds_what_the_package_finds(
    name: str, preprocess: bool, python: Path, images: list[Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Detector = MODELS[name]().eval()
    file = tmp_path / "model.onnx"
    export(model, "onnx", output=file, preprocess=preprocess)
    command = [python, ROOT / "examples" / "onnx_runtime.py", file, *images]
    by_pillow = model.spec.conventions.resize.interpolation is Interpolation.PILLOW
    environment = {"PYTHONPATH": str(request.getfixturevalue("pillow"))} if by_pillow else {}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
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
