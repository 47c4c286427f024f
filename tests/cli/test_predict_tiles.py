"""``cascadezoo predict --tiles``."""

import json

import numpy as np
import pytest
from PIL import Image

from cascadezoo.tiling import Tiles

from fake_predict import NAME, run
from tiny import lively, tiny


@pytest.fixture
def model(monkeypatch):
    model = lively(tiny())
    monkeypatch.setattr("cascadezoo.loading.load", lambda name, **_: model)
    return model


@pytest.fixture
def pixels(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return pixels


@pytest.mark.parametrize(("given", "tiles"), [("64", Tiles(64)), ("64,20", Tiles(64, 20)), ("64,0", Tiles(64, 0))])
def test_what_is_written_was_found_in_tiles(folder, model, pixels, given, tiles) -> None:
    options = ("--threshold", "0.06", "--device", "cpu", "--no-optimize")
    assert run(NAME, "a.png", "--tiles", given, *options) == 0
    written = json.loads((folder / "predictions" / "detections.json").read_text())["annotations"]
    found = model.predict(pixels, tiles=tiles, threshold=0.06)
    assert [each["score"] for each in written] == pytest.approx(found.scores.tolist())
    assert [each["segmentation"] for each in written] == found.rles()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("big", "'big' is no size in pixels, with an overlap or without: give 1024, or 1024,256"),
        ("64,", "'64,' is no size"),
        ("-64", "'-64' is no size"),
        ("64,64", "tiles of 64 x 64 pixels with an overlap of 64: give one of 0 to 63"),
        ("0", "tiles of 0 x 0 pixels: give a size of 1 or more"),
    ],
)
def test_other_tiles_are_refused_before_anything_is_loaded(folder, pixels, capsys, given, says) -> None:
    assert run(NAME, "a.png", f"--tiles={given}") == 2
    assert says in " ".join(capsys.readouterr().err.split())
