"""The check of a data set, on a few images."""

import json
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from cascadezoo.benchmarks.measure import data_check
from cascadezoo.benchmarks.measure.pages import _data_check


def test_the_report_and_its_page(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    arguments = ["--images", "6", "--annotations", "20", "--output", str(output)]
    assert CliRunner().invoke(data_check.main, arguments, catch_exceptions=False).exit_code == 0
    report = json.loads(output.read_text())
    assert list(report["rows"]) == ["file", "file and headers"]
    for row in report["rows"].values():
        assert (row["faults"], row["annotations"]) == (0, 20)
        assert row["peak_bytes"] > 2**20
        assert row["seconds"]["cpu"] >= 0
    assert "6 images and 20 polygons" in "\n".join(_data_check(report))


def test_what_is_generated_has_a_file_for_each_image(tmp_path: Path) -> None:
    data_check.generate(tmp_path, 6, 20)
    document = json.loads(data_check.annotations_file(tmp_path).read_text())
    assert (len(document["images"]), len(document["annotations"]), len(document["categories"])) == (6, 20, 80)
    for item in document["images"]:
        with Image.open(tmp_path / "images" / item["file_name"]) as image:
            assert image.size == (item["width"], item["height"])
