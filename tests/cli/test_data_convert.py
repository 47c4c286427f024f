"""``cascadezoo data convert``, as the shell sees it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cascadezoo.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """In a folder with a YOLO data set of one image, one of whose two boxes is flat."""
    monkeypatch.chdir(tmp_path)
    for folder in ("yolo/images", "yolo/labels"):
        Path(folder).mkdir(parents=True)
    Image.new("RGB", (40, 20)).save("yolo/images/a.png")
    Path("yolo/data.yaml").write_text("names: [cat, dog]\ntrain: images\n")
    Path("yolo/labels/a.txt").write_text("1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.01\n")

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["data", "convert", *args])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


def test_to_COCO_and_back(run: Any) -> None:
    code, out, err = run("yolo", "-o", "train.json")
    assert code == 0
    assert out == "train.json: 1 images, 1 annotations\n        0  cat (category 1)\n        1  dog (category 2)\n"
    assert err.splitlines() == [
        "yolo/labels/a.txt:2: an object of which less than a pixel is in its image was left out",
        "train.json: its images lie in yolo/images",
    ]
    assert json.loads(Path("train.json").read_text())["annotations"][0]["bbox"] == [10, 5, 20, 10]
    code, out, err = run("train.json", "--images", "yolo/images", "--to", "yolo", "-o", "again")
    assert (code, out, err) == (0, "", "again: put or link there, as the folder images, yolo/images\n")
    assert Path("again/labels/a.txt").read_text() == "1 0.5 0.5 0.5 0.5\n"


def test_what_is_there_is_kept(run: Any) -> None:
    Path("train.json").write_text("mine")
    code, _, err = run("yolo", "-o", "train.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "train.json is already there" in err
    assert Path("train.json").read_text() == "mine"
    assert run("yolo", "-o", "train.json", "--force")[0] == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("gone", "-o", "a.json"), 3, "gone does not exist: give a file or a folder"),
        (("yolo", "-o", "gone/a.json"), 4, "gone/a.json cannot be written"),
        (("yolo", "-o", "-"), 2, "name a file or a folder"),
        (("yolo", "-o", "a.json", "--from", "voc"), 3, "there are no XML files in yolo"),
        (("yolo", "-o", "a.json", "--split", "val"), 2, "no split 'val': it has train"),
        (("yolo", "-o", "a", "--to", "voc"), 2, "--to takes a COCO file"),
        (("yolo/data.yaml", "-o", "a", "--to", "voc"), 2, "--to takes a COCO file"),
        (("yolo/data.yaml", "--images", "yolo", "-o", "a", "--to", "voc"), 4, "is no JSON"),
    ],
)
def test_what_is_wrong(run: Any, args: tuple[str, ...], code: int, words: str) -> None:
    got, out, err = run(*args)
    assert (got, out) == (code, "")
    assert words in " ".join(err.split())
    assert not Path("a.json").exists()
    assert not Path("a").exists()
