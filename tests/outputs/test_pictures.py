"""Masks, cutouts and crops are exactly the pixels that they stand for."""

import numpy as np
import pytest
from PIL import Image

from cascadezoo.errors import UnwritableOutput
from cascadezoo.outputs.outputs import Outputs
from cascadezoo.outputs.pictures import write_picture

from painted import CATEGORIES, masks_of, painted, shown


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def written(tmp_path):
    with Outputs(("masks", "cutouts", "crops", "picture"), tmp_path, CATEGORIES) as outputs:
        paths = outputs.add(shown(), painted())
        assert outputs.finish() == []
    assert set(paths) == {path for path in tmp_path.rglob("*") if path.is_file()}
    return tmp_path


def test_the_picture_is_the_first(tmp_path):
    with Outputs(("crops", "picture"), tmp_path, CATEGORIES) as outputs:
        assert outputs.add(shown(), painted())[0] == tmp_path / "a.jpg"
    assert read(tmp_path / "a.jpg").shape == (120, 160, 3)


def test_a_picture_larger_than_a_jpeg_is_one_sentence(tmp_path):
    words = r"a\.jpg cannot be written: the picture has 65501 x 2 pixels, and no side of a JPEG more than 65,500; leave"
    with pytest.raises(UnwritableOutput, match=words):
        write_picture(tmp_path / "a.jpg", Image.new("RGB", (65_501, 2)))
    assert list(tmp_path.iterdir()) == []
    assert read(write_picture(tmp_path / "a.jpg", Image.new("RGB", (65_500, 2)))).shape == (2, 65_500, 3)


def test_each_mask_to_the_pixel(written):
    names = ["0001-cat", "0002-traffic-light", "0003-été", "0004-cat"]
    found = [read(written / "masks" / "a" / f"{name}.png") for name in names]
    assert all(pixels.dtype == np.uint8 and set(np.unique(pixels)) <= {0, 255} for pixels in found)
    assert (np.array(found) > 0).tolist() == masks_of().tolist()


def test_the_instance_map_has_the_best_on_top(written):
    numbers = read(written / "masks" / "a" / "instances.png")
    assert numbers.dtype.itemsize == 2
    ring, two, disc, _ = masks_of()
    expected = np.where(ring, 1, np.where(two, 2, np.where(disc, 3, 0)))
    assert (ring & disc).any()
    assert (numbers == expected).all()


def test_a_cutout_is_the_masks_pixels_and_nothing_else(written):
    pixels, ring = shown().pixels, masks_of()[0]
    cutout = read(written / "cutouts" / "a" / "0001-cat.png")
    rows, columns = np.flatnonzero(ring.any(1)), np.flatnonzero(ring.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (cutout[..., 3] == ring[window] * 255).all()
    assert (cutout[..., :3] == pixels[window] * ring[window][..., None]).all()
    assert not (written / "cutouts" / "a" / "0004-cat.png").exists()  # an empty mask


def test_a_crop_is_what_its_box_touches(written):
    left, top, right, bottom = 10, 10, 13, 13
    assert (read(written / "crops" / "a" / "0004-cat.png") == shown().pixels[top:bottom, left:right]).all()
    x1, y1, x2, y2 = painted().boxes[0].tolist()
    expected = shown().pixels[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    assert (read(written / "crops" / "a" / "0001-cat.png") == expected).all()


def test_crops_need_no_masks(tmp_path):
    with Outputs(("crops",), tmp_path, CATEGORIES, has_masks=False) as outputs:
        assert len(outputs.add(shown(), painted(with_masks=False))) == 4


def test_an_older_result_that_cannot_be_removed_is_one_sentence(written):
    (written / "crops" / "a" / "0009-cat.png").mkdir()
    said = pytest.raises(UnwritableOutput, match="crops/a cannot be cleared of older results: Is a directory")
    with Outputs(("crops",), written, CATEGORIES) as outputs, said:
        outputs.add(shown(), painted())


def test_what_an_earlier_run_left_of_an_image_is_replaced_or_removed(written):
    kept = written / "masks" / "a" / "notes.txt"
    kept.write_text("mine")
    with Outputs(("masks",), written, CATEGORIES) as outputs:
        outputs.add(shown(), painted()[1:2])
    assert {path.name for path in (written / "masks" / "a").iterdir()} == {
        "0001-traffic-light.png", "instances.png", "notes.txt"
    }  # fmt: skip
