"""The benchmark of many images, on the embedded network and two images, and its section of docs/speed.md."""

import pytest
from measured import ENVIRONMENT

from cascadezoo.benchmarks.measure import predicting
from cascadezoo.benchmarks.measure.predicting_section import predicting as section

CASE = predicting.Case("cascade_mask_r18_fpn_shapes.cascadezoo", (1, 2), is_random=False)


@pytest.fixture(scope="module")
def report():
    """Whole commands take a second for starting and, one image at a time, two for each image, else one."""
    calls = []

    def run(arguments):
        calls.append(arguments)
        each = 2 if "--no-optimize" in arguments else 1
        return 1.0 + each * int(arguments[1].rsplit("/", 1)[1]), 2**30

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicting, "_run", run)
        return {**predicting.measure([CASE], rounds=1), "environment": ENVIRONMENT}, calls


def test_ways_take_turns_and_are_compared_without_the_start(report):
    (row,) = report[0]["rows"]
    assert [tuple(each[6:]) for each in report[1]] == list(predicting.WAYS.values()) * 2
    assert {way: rate["median"] for way, rate in row["images_per_second"].items()} == {
        "one at a time": 0.5,
        "one at a time, optimised": 1.0,
        "predict": 1.0,
    }
    assert row["times_faster_than"]["one at a time"]["median"] == 2.0
    assert row["whole_folder_times_faster_than"]["one at a time"]["median"] == pytest.approx(5 / 3, abs=0.001)
    assert set(row["network"]["milliseconds"]) == set(predicting.ARRANGEMENTS)


def test_the_section_says_what_was_measured(report):
    text = "\n".join(section(report[0]))
    assert "| one at a time | 1: 3.0, 2: 5.0 | 0.50 | 1.00 |" in text
    assert "2.00 (2.00 to 2.00) times one at a time" in text


def test_the_commands_are_those_of_the_command_line(tmp_path):
    """A real run, with the options of one way: those of the others are some of them or none."""
    (tmp_path / "1").mkdir()
    predicting.Image.fromarray(CASE.images(1)[0]).save(tmp_path / "1" / "a.jpg")
    own = predicting.WAYS[predicting.ALONE]
    took, peak = predicting._run([CASE.entry, str(tmp_path / "1"), "--out", str(tmp_path / "out"), *own])
    assert took > 0
    assert peak > 100 * 2**20
    with pytest.raises(RuntimeError, match="ended with 3"):
        predicting._run([CASE.entry, str(tmp_path / "none.jpg"), "--out", str(tmp_path / "out")])
