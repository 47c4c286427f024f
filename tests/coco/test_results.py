"""COCO results files from anyone."""

import json
from pathlib import Path

import pytest

from cascadezoo.coco.results import checked, kinds_of, read_results
from cascadezoo.errors import FileError, MissingResource

from scored import SIDE, hit, outline, rle, thing, truth_of

BOX = (10, 10, 40, 40)
TRUTH = truth_of([thing(1, 1, BOX)], 2)


def file_of(folder: Path, results: object) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return path


def read(folder: Path, results: object, kinds=("bbox",)) -> list[dict]:
    path = file_of(folder, results)
    return checked(path, read_results(path), TRUTH, kinds, "truth.json")


def test_masks_of_every_kind_become_compressed_rle(tmp_path: Path) -> None:
    """A box of 40 x 40 at 10, 10 in columns of 200 pixels."""
    runs = [10 * SIDE + 10, *[40, SIDE - 40] * 39, 40, SIDE * SIDE - 49 * SIDE - 50]
    whole = hit(1, 1, BOX, 0.5)
    masks = [rle(outline(*BOX)), outline(*BOX), {"size": [SIDE, SIDE], "counts": runs}]
    found = read(tmp_path, [whole | {"segmentation": mask} for mask in masks], ("bbox", "segm"))
    assert found == [whole, whole, whole]
    assert kinds_of(found) == ("bbox", "segm")


def test_what_all_results_have_can_be_evaluated(tmp_path: Path) -> None:
    boxes, masks = [{key: value for key, value in hit(1, 1, BOX, 0.5).items() if key != left_out}
                    for left_out in ("segmentation", "bbox")]  # fmt: skip
    for results, kinds in (([boxes], ("bbox",)), ([masks], ("segm",)), ([], ("bbox", "segm")), ([boxes, masks], ())):
        assert kinds_of(read_results(file_of(tmp_path, results))) == kinds


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"images": []}, 'a list is wanted, not {"images"'),
        ([[1, 1]], "result 0: a record is wanted"),
        ([hit(1, 1, BOX, 0.5) | {"score": "high"}], "result 0: score: a finite number"),
        ([hit(9, 1, BOX, 0.5)], "the results have image_id 9, which truth.json lacks"),
        ([hit(1, 1, BOX, 0.5) | {"image_id": [1]}], "result 0: image_id: "),
        ([hit(1, 1, BOX, 0.5) | {"segmentation": [[1, 1, 9e8, 1, 5, 5]]}], "result 0: segmentation: a polygon's point"),
        ([hit(1, 1, BOX, 0.5) | {"segmentation": {"size": [SIDE, SIDE], "counts": "11"}}], "result 0: segmentation: "),
        ([hit(1, 1, BOX, 0.5) | {"segmentation": {"size": [9, 9], "counts": "11"}}], "result 0: segmentation: "),
        ([hit(1, 1, BOX, 0.5) | {"segmentation": [[1, 1]]}], "result 0: segmentation: a polygon of three points"),
        ([hit(1, 1, BOX, 0.5) | {"segmentation": None}], "result 0: segmentation: a polygon of three points"),
    ],
)
def test_what_is_no_sound_result_is_named(tmp_path: Path, results: object, message: str) -> None:
    with pytest.raises(FileError) as error:
        read(tmp_path, results)
    assert str(error.value).startswith(f"{tmp_path / 'results.json'}")
    assert message in str(error.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match=r"none\.json"):
        read_results(tmp_path / "none.json")
    with pytest.raises(FileError, match="cannot be read"):
        read_results(tmp_path)
    (tmp_path / "torn.json").write_text("[{")
    with pytest.raises(FileError, match=r"torn\.json is no JSON"):
        read_results(tmp_path / "torn.json")
