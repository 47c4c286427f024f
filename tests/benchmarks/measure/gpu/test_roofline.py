"""Products against a card's rates, and the sums of a real network are the design's."""

import pytest
import torch

from cascadezoo.benchmarks.measure.gpu import roofline
from cascadezoo.benchmarks.measure.gpu.roofline import Peaks, bound
from cascadezoo.benchmarks.measure.products import Work, count
from cascadezoo.providers import SPECS

PEAKS = Peaks({"fp32": 100.0, "tf32": 200.0, "fp16": 400.0, "bf16": 400.0}, 80.0, "a test")


def test_an_operator_takes_the_longer_of_computing_and_moving() -> None:
    works = [Work(flops=400, numbers=20), Work(flops=1, numbers=200)]
    # float32: 400 / 100 = 4 s beside 80 / 80 = 1 s, and 800 / 80 = 10 s; halves move half the bytes
    assert bound(works, "fp32", PEAKS) == 14_000
    assert bound(works, "tf32", PEAKS) == 12_000
    assert bound(works, "fp16", PEAKS) == pytest.approx(1000 * (1 + 5))
    assert bound([], "bf16", PEAKS) == 0


def test_cascade_mask_r50_has_the_sums_of_the_audit() -> None:
    """Counted by another program, in GFLOP at 800 x 1344; and its bounds on an H100, in milliseconds."""
    stages = count(SPECS["mmdet"]["cascade_mask_r50_fpn"], (800, 1344))
    gflop = {stage: sum(work.flops for work in works) / 1e9 for stage, works in stages.items()}
    expected = {"backbone": 175, "neck": 122, "rpn": 106, "box stages": 84, "masks": 318}
    assert gflop == pytest.approx(expected, rel=0.01)
    card = roofline.CARDS["NVIDIA H100 80GB HBM3"]
    for precision, least in {"fp16": 1.06, "tf32": 2.12, "fp32": 12.1}.items():
        assert sum(bound(works, precision, card) for works in stages.values()) == pytest.approx(least, rel=0.02)


def test_what_a_device_does_is_measured() -> None:
    peaks = roofline.measured(torch.device("cpu"), side=64, megabytes=1, runs=2)
    assert peaks.flops.keys() == roofline.BYTES.keys()
    assert all(flops > 1e6 for flops in peaks.flops.values())
    assert peaks.bytes > 1e6


def test_a_known_card_comes_first(monkeypatch) -> None:
    monkeypatch.setattr(roofline, "measured", lambda _: PEAKS)
    assert roofline.peaks_of(torch.device("cpu")) == {"measured": PEAKS}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert roofline.peaks_of(torch.device("cuda")) == {"card": roofline.CARDS["NVIDIA H200"], "measured": PEAKS}
