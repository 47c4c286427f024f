"""LabelMe's own loader and Label Studio's own converter read what they are given (`make test-extras`)."""

import json

import numpy as np
import pytest
from PIL import Image

from cascadezoo.outputs.outputs import Outputs

from painted import CATEGORIES, HEIGHT, WIDTH, masks_of, overlap, painted, pixels_of, shown

pytestmark = pytest.mark.labelling
pytest.importorskip("labelme")
pytest.importorskip("label_studio_sdk")

from label_studio_sdk.converter import Converter  # noqa: E402
from labelme import LabelFile  # noqa: E402
from labelme.utils import img_data_to_arr, shapes_to_label  # noqa: E402


def save(folder, kind, with_masks=True):
    photo = folder / "photos" / "a.png"
    photo.parent.mkdir()
    Image.fromarray(pixels_of(1)).save(photo)
    with Outputs((kind,), folder, CATEGORIES, has_masks=with_masks) as outputs:
        outputs.add(shown(path=photo), painted(with_masks))
        outputs.finish()
    return folder / kind


def test_labelme_opens_the_file(tmp_path):
    opened = LabelFile(str(save(tmp_path, "labelme") / "a.json"))
    assert (img_data_to_arr(opened.imageData)[..., :3] == pixels_of(1)).all()
    names = {name: number for number, name in enumerate(CATEGORIES, start=1)}
    ring, two, disc, _ = masks_of()
    for number, mask in ((0, ring), (1, two), (2, disc)):
        own = [shape for shape in opened.shapes if shape["label"] == CATEGORIES[number]]
        classes, instances = shapes_to_label((HEIGHT, WIDTH, 3), own, names)
        assert set(np.unique(instances)) == {0, 1}  # the two parts are one
        # it paints a polygon's own outline too, which is up to half a pixel more all round
        assert overlap(classes == number + 1, mask) >= (1 if number == 0 else 0.95)


def as_annotated(folder):
    """The tasks as an export of a project has them whose predictions were accepted; the converter reads no others."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        (prediction,) = task["predictions"]
        task |= {"id": number, "annotations": [{"id": 1, "completed_by": 1, "result": prediction["result"]}]}
    path = folder / "exported.json"
    path.write_text(json.dumps(tasks))
    return path


def converter(folder):
    return Converter(str(folder / "config.xml"), str(folder), download_resources=False)


def test_label_studios_converter_reads_the_masks_to_the_pixel(tmp_path):
    folder = save(tmp_path, "labelstudio")
    converter(folder).convert(str(as_annotated(folder)), str(folder), "BRUSH_TO_PNG", is_dir=False)
    found = {path.name.rpartition("-label-")[2]: path for path in folder.glob("task-1-*.png")}
    assert set(found) == {"cat-0.png", "traffic light-0.png", "été <&>-0.png"}
    for name, mask in zip(("cat", "traffic light", "été <&>"), masks_of()[:3], strict=True):
        with Image.open(found[f"{name}-0.png"]) as picture:
            assert (np.array(picture) == mask * np.uint8(255)).all()


def test_label_studios_converter_reads_the_boxes(tmp_path):
    folder = save(tmp_path, "labelstudio", with_masks=False)
    converter(folder).convert(str(as_annotated(folder)), str(folder / "coco"), "COCO", is_dir=False)
    document = json.loads((folder / "coco" / "result.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    found = [(names[each["category_id"]], each["bbox"]) for each in document["annotations"]]
    expected = [
        (CATEGORIES[label], pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-6))
        for (x1, y1, x2, y2), label in zip(painted().boxes.tolist(), painted().labels.tolist(), strict=True)
    ]
    assert found == expected
