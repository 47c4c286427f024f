"""Whole networks and their features in turn; which of them are the same network."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cascadezoo.benchmarks.measure.peers import features, latency
from cascadezoo.benchmarks.measure.peers.contender import Contender, Setting
from cascadezoo.benchmarks.measure.peers.features import Extract
from cascadezoo.benchmarks.measure.peers.ours import OURS
from cascadezoo.optimizing.difference import Difference

SAME = Difference(1, 100, 100, 97, 1e-3, 1.0, 0.1, 9.0, 0.995)


def test_a_program_with_the_same_weights_agrees_and_one_with_others_does_not(
    given: Setting, faithful: Contender, wrong: Contender, absent: Contender
) -> None:
    contenders = {
        "plain": OURS["plain"],
        "optimized": OURS["optimized"],
        "torchvision": latency.CONTENDERS["torchvision"],
        "faithful": faithful,
        "wrong": wrong,
        "absent": absent,
    }
    report = latency.measure(contenders, given, runs=2)
    rows = {row["way"]: row for row in report["rows"]}
    assert {name: row["agrees"] for name, row in rows.items()} == {
        "plain": True, "optimized": True, "torchvision": None, "faithful": True, "wrong": False,
    }  # fmt: skip
    assert list(report["missing"]) == ["absent"]
    assert all(row["runs"] == 2 and row["network_ms"]["min"] > 0 for row in rows.values())
    assert rows["faithful"]["detections"] == rows["plain"]["detections"] > 0
    assert "detections" not in rows["torchvision"]
    assert list(report["times_faster"]["optimized"]) == ["plain", "torchvision", "faithful", "wrong"]


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({}, True),
        ({"mask_iou": None}, True),
        ({"paired": 96}, False),
        ({"after": 101}, False),
        ({"before": 0, "after": 0, "paired": 0}, False),
        ({"score_p95": 1.1e-3}, False),
        ({"box_p95": 0.11}, False),
        ({"mask_iou": 0.994}, False),
    ],
)
def test_what_is_still_the_same_network(change: dict, agrees: bool) -> None:
    assert latency.agrees(replace(SAME, **change)) is agrees


def test_ratios_are_taken_turn_by_turn() -> None:
    """6 / 2 and 10 / 5 for the whole, 1 / 1 and 8 / 2 for the network."""
    times = {
        "plain": {"network": [3.0, 2.0], "whole": [4.0, 5.0]},
        "optimized": {"network": [1.0, 2.0], "whole": [2.0, 5.0]},
        "theirs": {"network": [1.0, 8.0], "whole": [6.0, 10.0]},
    }
    found = latency.times_faster(times, ["plain", "optimized", "not measured"])
    assert list(found) == ["plain", "optimized"]
    assert list(found["plain"]) == ["theirs"]
    assert found["optimized"]["theirs"] == {
        "network": {"min": 1.0, "median": 2.5, "max": 4.0},
        "whole": {"min": 2.0, "median": 2.5, "max": 3.0},
    }
    assert found["optimized"]["plain"]["network"] == {"min": 1.0, "median": 2.0, "max": 3.0}


def _moved(by: float, given: Setting) -> Extract:
    """A program whose finest level is off by so many standard deviations at one place."""
    extract = features.plain(given)

    def run() -> list[np.ndarray]:
        levels = [np.asarray(level).copy() for level in extract()]
        levels[0][0, 0, 0, 0] += by * levels[0].std()
        return levels

    return run


def test_features_are_compared_in_standard_deviations_of_a_level(given: Setting, absent: Contender) -> None:
    contenders = {
        "plain": features.CONTENDERS["plain"],
        "optimized": features.CONTENDERS["optimized"],
        "near": Contender(partial(_moved, 5e-4)),
        "far": Contender(partial(_moved, 2e-2)),
        "absent": absent,
    }
    report = features.measure(contenders, given, runs=3)
    rows = {row["way"]: row for row in report["rows"]}
    assert {name: row["agrees"] for name, row in rows.items()} == {
        "plain": True, "optimized": True, "near": True, "far": False,
    }  # fmt: skip
    assert rows["plain"]["largest_difference"] == 0
    assert rows["near"]["largest_difference"] == pytest.approx(5e-4, rel=0.1)
    assert rows["plain"]["times_faster_than_plain"] == {"min": 1.0, "median": 1.0, "max": 1.0}
    assert rows["far"]["milliseconds"]["min"] > 0
    assert list(report["missing"]) == ["absent"]


def test_runtimes_are_given_the_same_pixels_in_the_order_of_onnx(given: Setting, monkeypatch) -> None:
    written = []
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **_: written.append(arguments))
    path, pixels = features.exported(given)
    (module, (example,), _), *_ = written
    assert path.endswith(".onnx")
    assert pixels.is_contiguous()
    assert example is pixels
    own = features.plain(given)()
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(module(pixels), own, strict=True))
