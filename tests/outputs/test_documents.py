"""What is one file of all images: the same bytes in whatever order they come, each whole or not at all."""

import csv
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cascadezoo.coco.annotations import annotation_file
from cascadezoo.errors import MissingResource, UnwritableOutput, UsageError
from cascadezoo.files import write_json
from cascadezoo.outputs.kinds import KINDS, kinds_of
from cascadezoo.outputs.outputs import Outputs
from cascadezoo.outputs.spool import Spool

from painted import CATEGORIES, HEIGHT, WIDTH, masks_of, painted, shown

DOCUMENTS = ("coco", "json", "csv", "labelstudio", "labelme", "yolo")


def save(folder, kinds, numbers, **options):
    with Outputs(kinds, folder, CATEGORIES, **options) as outputs:
        for number in numbers:
            outputs.add(shown(number, f"i{number}"), painted())
        return outputs.finish()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_kind_has_a_name_and_a_wrong_one_is_told_the_nearest():
    assert kinds_of("masks, CSV,masks") == ("masks", "csv")
    with pytest.raises(UsageError, match=r"'mask' is no kind of results: did you mean masks\?"):
        kinds_of("picture,mask")
    with pytest.raises(UsageError, match="'xyz' is no kind of results: give picture, coco, "):
        kinds_of("xyz")
    with pytest.raises(UsageError, match="no kind of results to save: give picture"):
        kinds_of(" , ")


def test_the_order_in_which_images_come_changes_nothing(tmp_path):
    save(tmp_path / "one", DOCUMENTS, (1, 2, 4))
    save(tmp_path / "other", DOCUMENTS, (4, 1, 2))
    one = {path: text.replace(b"/one/", b"/other/") for path, text in contents(tmp_path / "one").items()}
    assert one == contents(tmp_path / "other")


def test_images_may_come_from_several_threads(tmp_path):
    with Outputs(DOCUMENTS, tmp_path / "many", CATEGORIES) as outputs:
        images = [shown(number, f"i{number}") for number in range(1, 9)]
        threads = [threading.Thread(target=outputs.add, args=(image, painted())) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outputs.finish()
    save(tmp_path / "some", DOCUMENTS, range(1, 9))
    some = {path: text.replace(b"/some/", b"/many/") for path, text in contents(tmp_path / "some").items()}
    assert some == contents(tmp_path / "many")


def test_the_annotation_file_is_what_is_written_at_once(tmp_path):
    more = {"left_out": [], "failed": [{"file_name": "bad\udcff.jpg", "error": "no image"}]}
    with Outputs(("coco",), tmp_path, CATEGORIES, description="by hand") as outputs:
        for number in (1, 2):
            outputs.add(shown(number, f"i{number}"), painted())
        (path,) = outputs.finish(more)
    images = [
        {"id": number, "file_name": f"photos/i{number}.jpg", "height": HEIGHT, "width": WIDTH} for number in (1, 2)
    ]
    results = [result for number in (1, 2) for result in painted().to_coco(number)]
    whole = write_json(tmp_path / "whole.json", annotation_file(CATEGORIES, images, results, "by hand") | more)
    assert path == tmp_path / "detections.json"
    assert path.read_bytes() == whole.read_bytes()


def test_results_are_COCOs_and_their_masks_exact(tmp_path):
    (path,) = save(tmp_path, ("json",), (1, 2))
    results = json.loads(path.read_text())
    assert path == tmp_path / "results.json"
    ids = [(each["image_id"], each["category_id"]) for each in results[:5]]
    assert ids == [(1, 3), (1, 7), (1, 40), (1, 3), (2, 3)]
    found = [coco_mask.decode(each["segmentation"]) > 0 for each in results[:4]]
    assert np.array_equal(found, masks_of())


def test_no_image_makes_empty_files(tmp_path):
    save(tmp_path, DOCUMENTS, ())
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert json.loads((tmp_path / "labelstudio" / "tasks.json").read_text()) == []
    assert json.loads((tmp_path / "detections.json").read_text())["images"] == []
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 1


def test_a_row_of_the_table_for_each_detection(tmp_path):
    (path,) = save(tmp_path, ("csv",), (2, 1))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image_id"], row["file_name"], row["name"]) for row in rows[2:5]] == [
        ("1", "photos/i1.jpg", "été <&>"), ("1", "photos/i1.jpg", "cat"), ("2", "photos/i2.jpg", "cat")
    ]  # fmt: skip
    first, (box, *_) = rows[0], painted().boxes.tolist()
    assert [float(first[name]) for name in ("x1", "y1", "x2", "y2")] == box
    assert (first["category_id"], first["label"], first["height"], first["width"]) == ("3", "0", "120", "160")
    assert float(first["area"]) == masks_of()[0].sum()
    rle = {"size": [HEIGHT, WIDTH], "counts": first["rle"]}
    assert (coco_mask.decode(rle) == masks_of()[0]).all()


def test_without_masks_there_is_no_rle(tmp_path):
    with Outputs(("csv",), tmp_path, CATEGORIES, has_masks=False) as outputs:
        outputs.add(shown(), painted(with_masks=False))
        (path,) = outputs.finish()
    assert path.read_text(encoding="utf-8").splitlines()[4].endswith(",9.0,")  # the area of its box


def test_parquet_without_arrow_is_one_sentence(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingResource, match=r"pip install pyarrow$"):
        Outputs(("parquet",), tmp_path, CATEGORIES)


def test_kinds_that_are_nothing_without_masks_are_refused_first(tmp_path):
    with pytest.raises(UsageError, match="masks and cutouts cannot be saved of a model without masks"):
        Outputs(("masks", "crops", "cutouts"), tmp_path / "out", CATEGORIES, has_masks=False)
    assert not (tmp_path / "out").exists()


def test_given_images_are_never_among_the_files_to_write(tmp_path):
    own = tmp_path / "out" / "crops" / "a" / "0001-cat.png"
    Outputs(("picture", "masks"), tmp_path / "out", CATEGORIES, given=[own]).close()
    with pytest.raises(UsageError, match=r"0001-cat\.png lies where crops are written: choose another folder"):
        Outputs(("crops",), tmp_path / "out", CATEGORIES, given=[own])


class Full:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room):
        self.room, self.written = room, 0

    def write(self, data):
        if self.written + len(data) > self.room:
            raise OSError(28, "No space left on device")
        self.written += len(data)
        return len(data)

    def seek(self, place):
        pass


def test_a_full_disk_is_one_sentence_and_costs_the_image_that_met_it(tmp_path):
    spool = Spool(tmp_path)
    spool.add(2, {"kept": 2})
    file, spool._file = spool._file, Full(10)
    with pytest.raises(UnwritableOutput, match=r"cannot hold the results: No space left on device; nothing was left$"):
        spool.add(1, {"lost": "x" * 20})
    spool._file = file
    spool.add(3, {"kept": 3})
    assert list(spool) == [{"kept": 2}, {"kept": 3}]
    spool.close()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UnwritableOutput, match="out cannot be made: File exists"):
        Outputs(("csv",), tmp_path / "out", CATEGORIES)


def test_an_image_whose_files_cannot_be_written_is_in_no_file_of_all(tmp_path):
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "i2").write_text("in the way")
    with Outputs(("json", "crops", "csv"), tmp_path, CATEGORIES) as outputs:
        outputs.add(shown(1, "i1"), painted())
        with pytest.raises(UnwritableOutput, match=r"crops/i2 cannot be made: File exists"):
            outputs.add(shown(2, "i2"), painted())
        outputs.add(shown(3, "i3"), painted())
        path, _ = outputs.finish()
    assert {each["image_id"] for each in json.loads(path.read_text())} == {1, 3}


def test_one_file_that_cannot_be_written_leaves_the_others_whole(tmp_path):
    (tmp_path / "results.json").mkdir()
    with Outputs(("coco", "json", "csv"), tmp_path, CATEGORIES) as outputs:
        outputs.add(shown(), painted())
        with pytest.raises(UnwritableOutput, match=r"results\.json cannot be written"):
            outputs.finish()
    assert len(json.loads((tmp_path / "detections.json").read_text())["annotations"]) == 4
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 5


def test_nothing_is_left_of_a_run_that_does_not_finish(tmp_path):
    with Outputs(tuple(set(DOCUMENTS) - {"labelme", "yolo"}), tmp_path, CATEGORIES) as outputs:
        outputs.add(shown(path=tmp_path), painted())
    assert list(tmp_path.iterdir()) == []


GROWTH = """
import resource, sys
from pathlib import Path
from cascadezoo.coco.categories import COCO
from cascadezoo.outputs.documents import write_annotations, write_csv, write_results
from cascadezoo.outputs.spool import Spool
folder = Path(sys.argv[1])
result = {"category_id": 1, "bbox": [1.5, 2.5, 3.5, 4.5], "score": 0.123456789, "image_id": 1}
def save(images):
    spool = Spool(folder)
    for number in range(images):
        image = {"id": number, "file_name": f"{number}.jpg", "height": 9, "width": 9}
        spool.add(number, {"image": image, "results": [result] * 100})
    write_annotations(folder / "a.json", spool, COCO, "", {})
    write_results(folder / "r.json", spool)
    write_csv(folder / "d.csv", spool, COCO)
    spool.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(save(30), save(800))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in KiB on Linux alone")
def test_memory_does_not_grow_with_the_images(tmp_path):
    """800 images are 8 MB of records; what is kept of an image in memory is where its record lies."""
    done = subprocess.run([sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert (tmp_path / "r.json").stat().st_size > 6.5e6
    assert after - before < 2000


def test_the_names_of_the_kinds_are_those_of_the_command():
    assert list(KINDS) == [
        "picture", "coco", "json", "csv", "parquet", "masks", "cutouts", "crops", "yolo", "labelme", "labelstudio"
    ]  # fmt: skip
