"""Every precision that the device has is measured beside the plain model, on the same images."""

from pathlib import Path

import torch

from cascadezoo.benchmarks.measure import precision
from cascadezoo.benchmarks.measure.precision_section import precision_sections
from cascadezoo.optimizing.precision import has_bfloat16


def test_what_is_measured(capsys, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    report = precision.measure(cpu, images=3)
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
    report["large"] = precision.measure_large(precision.ENTRY, cpu, runs=1)
    large = report["large"]["precisions"]
    assert list(large) == list(rows)
    assert large["plain"]["difference"]["paired"] == large["plain"]["difference"]["before"] > 0
    assert large["fp32"]["difference"]["score_max"] < 1e-3
    assert precision_sections(tmp_path) == []
    precision.write_report(tmp_path / "precision.json", report)
    section = "\n".join(precision_sections(tmp_path))
    assert f"| plain | {rows['plain']['box_ap']:.2f} | {rows['plain']['mask_ap']:.2f} |" in section
    assert section.count("\n| fp32 | ") == 2
