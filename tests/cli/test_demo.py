"""`cascadezoo demo`: a table, a picture, and no network."""

import re
from pathlib import Path

import pytest
from PIL import Image

from cascadezoo.cli import main


def test_demo_measures_and_draws(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    with pytest.raises(SystemExit) as end:
        main(["demo", "--images", "3"])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    rows = {line[:9].strip(): line.split() for line in out.splitlines()}
    assert list(rows) == ["", "box AP", "box AP50", "mask AP", "speed"]
    assert rows["box AP"][3] == "85.1"
    assert 50 < float(rows["box AP"][2]) <= 100
    assert re.fullmatch(r"\d+\.\d", rows["speed"][1])
    assert max(map(len, out.splitlines())) <= 80
    assert err.splitlines()[-1].endswith("side by side: demo/detections.jpg")
    with Image.open("demo/detections.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.width > 2 * 192 * 3
    assert len(list(Path("demo/shapes/val").iterdir())) == 3


def test_demo_may_be_run_again(folder: Path, capsys) -> None:
    for images in ("2", "1"):
        with pytest.raises(SystemExit) as end:
            main(["demo", "--images", images, "--out", "again"])
        assert end.value.code == 0
    assert f"on {images} here" in capsys.readouterr().out
