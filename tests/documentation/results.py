"""What some pages' blocks must have left in their folder, once all of them have run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from cascadezoo.converters.canonical import read_canonical


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def quickstart(folder: Path, said: str) -> None:
    shown = cv2.imread(str(folder / "annotated.jpg"))
    assert shown.shape == cv2.imread(str(folder / "shapes/val/000001.png")).shape
    found, sure = (_json(folder / name)["annotations"] for name in ("out/detections.json", "annotated.json"))
    assert len(sure) > 0
    assert {each["category_id"] for each in sure} <= {each["category_id"] for each in found}
    assert f"{sure[0]['score']:.2f} (" in said  # the loop's line of the best one


def own_checkpoint(folder: Path, said: str) -> None:
    assert "eel" in said  # a class of the file, told by `inspect`
    digests = {read_canonical(folder / name)[1]["content_digest"] for name in ("mine.safetensors", "again.safetensors")}
    digests.add(read_canonical(folder / "saved.safetensors")[1]["content_digest"])
    assert len(digests) == 1
    assert (folder / "for_mmdet.pth").stat().st_size > 100_000


def training(folder: Path, said: str) -> None:
    for run in ("mine", "small", "own", "a", "b"):
        assert (folder / "runs" / run / "final.safetensors").is_file()
    assert (folder / "runs/mine/best.safetensors").is_file()


def verify(folder: Path, said: str) -> None:
    verdicts = {name: _json(folder / name)["entries"] for name in ("report.json", "baseline.json")}
    assert all(len(entries) == 3 for entries in verdicts.values())
    assert (folder / "out/bbox/confusion.png").is_file()


def export(folder: Path, said: str) -> None:
    assert (folder / "detector.onnx").is_file()
    assert len({found["image_id"] for found in _json(folder / "found.json")}) == 2
    assert (folder / "small.bin").stat().st_size < (folder / "detector.bin").stat().st_size / 2
    assert "'ellipse', 'rectangle'" in said  # the categories, from the file's metadata


def serving(folder: Path, said: str) -> None:
    found, sure = (_json(folder / name)["annotations"] for name in ("found.json", "outlines.json"))
    assert {type(one["segmentation"]) for one in found} == {dict}
    assert {type(one["segmentation"]) for one in sure} == {list}
    assert [one["score"] for one in sure] == [one["score"] for one in found if one["score"] >= 0.8]
    assert 0 < len(sure) < len(found)
    height, width = cv2.imread(str(folder / "photo.jpg")).shape[:2]
    assert cv2.imread(str(folder / "annotated.png")).shape == (height, width, 3)
    assert said.count(f"{found[0]['score']} [") == 1  # each is told by its category, score and box
    assert _json(folder / "openapi.json")["openapi"]


CHECKS: dict[str, Callable[[Path, str], None]] = {
    "docs/quickstart.md": quickstart,
    "docs/own_checkpoint.md": own_checkpoint,
    "docs/training.md": training,
    "docs/verify.md": verify,
    "docs/export.md": export,
    "docs/serving.md": serving,
}
