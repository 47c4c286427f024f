"""The worst images of an analysis inside the page of a report."""

import base64
import io
import json
from pathlib import Path

import pytest
from html_page import Page
from PIL import Image
from sample_report import sample

from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.pictures import MOST, worst_pictures
from cascadezoo.cli import main
from cascadezoo.errors import FileError

NAME = "cascade_mask_r50_fpn_1x.mmdet"


def analysis(folder: Path, entry: str, kind: str, count: int) -> Path:
    """As much of an analysis as a page shows."""
    worst = folder / entry / "plain" / kind / "worst"
    worst.mkdir(parents=True)
    told = []
    for number in range(1, count + 1):
        Image.new("RGB", (1600, 400), (200, 10 * number, 0)).save(worst / f"{number}.png")
        told.append({"image_id": 100 + number, "mistakes": 9, "mistaken": 2, "spurious": 4, "missed": 3})
    (worst.parent / "worst.json").write_text(json.dumps(told))
    return folder


def test_the_first_images_are_shown_small_with_their_mistakes(tmp_path: Path) -> None:
    found = list(worst_pictures(analysis(tmp_path, NAME, "segm", 5), sample()))
    assert len(found) == MOST == 3
    assert found[0].title == f"{NAME}, plain, image 101"
    assert found[0].words == "9 mistakes: 3 missed, 4 of nothing, 2 mistaken"
    head, data = found[0].source.split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1000, 250)


def test_masks_come_before_boxes(tmp_path: Path) -> None:
    analysis(tmp_path, NAME, "bbox", 2)
    assert len(list(worst_pictures(tmp_path, sample()))) == 2
    analysis(tmp_path, NAME, "segm", 1)
    assert len(list(worst_pictures(tmp_path, sample()))) == 1


def test_a_report_leads_to_no_other_folder(tmp_path: Path) -> None:
    analysis(tmp_path, "elsewhere", "bbox", 1)
    (tmp_path / "analysis").mkdir()
    entry = sample().entries[0].model_copy(update={"name": "../elsewhere"})
    report = sample().model_copy(update={"entries": (entry,)})
    assert list(worst_pictures(tmp_path / "analysis", report)) == []


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    analysis(tmp_path, NAME, "bbox", 1)
    (tmp_path / NAME / "plain" / "bbox" / "worst" / "1.png").write_bytes(b"nothing")
    with pytest.raises(FileError, match="is no picture of an analysis"):
        html(sample(), tmp_path)


def test_the_command_shows_them(tmp_path: Path) -> None:
    from cascadezoo.benchmarks.reports.schema import text_of

    (tmp_path / "report.json").write_text(text_of(sample()))
    folder = analysis(tmp_path / "analysis", NAME, "bbox", 1)
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as stopped:
        main(["report", "show", str(tmp_path / "report.json"), "--html", str(page), "--analysis", str(folder)])
    assert stopped.value.code == 0
    seen = Page(page.read_text())
    assert seen.tags.count("img") == 1
    assert (
        "img",
        "alt",
        f"{NAME}, plain, image 101: 9 mistakes: 3 missed, 4 of nothing, 2 mistaken",
    ) in seen.attributes
