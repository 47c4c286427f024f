"""Every precision that the device has is measured beside the plain model, on the same images."""

import torch

from cascadezoo.benchmarks.measure import precision
from cascadezoo.optimizing.precision import has_bfloat16


def test_what_is_measured(capsys) -> None:
    report = precision.measure(torch.device("cpu"), images=3)
    rows = report["precisions"]
    assert list(rows) == ["plain", "fp32", *["bf16"] * has_bfloat16()]
    assert "precision tf32 on cpu" in capsys.readouterr().out
    for row in rows.values():
        assert row["difference"]["images"] == 3
        assert row["difference"]["before"] == rows["plain"]["difference"]["after"] > 5
        assert row["image_ms"]["min"] > 0
        assert 50 < row["box_ap"] <= 100
    assert rows["plain"]["difference"]["score_max"] == 0
    assert rows["fp32"]["difference"]["score_max"] < 1e-3
