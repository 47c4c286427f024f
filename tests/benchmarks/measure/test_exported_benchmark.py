"""The precisions of an exported file are measured as the command that writes it does."""

from pathlib import Path

import pytest
from measured import ENVIRONMENT

import cascadezoo
from cascadezoo.exporting import accuracy, to_onnx
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph
from cascadezoo.exporting.metadata import KEY
from cascadezoo.shapes.dataset import generate

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.export


def test_what_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cascadezoo.benchmarks.measure import exported
    from cascadezoo.benchmarks.measure.exported_section import exported as section
    from cascadezoo.exporting.onnx_narrow import with_metadata

    model = cascadezoo.load(exported.ENTRY, pretrained=True)
    content = to_onnx.translated(Graph(model).eval(), Options(), "")
    monkeypatch.setattr(to_onnx, "translated", lambda _, __, about: with_metadata(content, KEY, about))
    monkeypatch.setattr(accuracy, "IMAGES", 4)
    generate("train", tmp_path, 6)
    folder = tmp_path / "onnx"
    folder.mkdir()
    rows = list(exported.measure(model, "onnx", tmp_path / "train", folder))
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert [row["accuracy"]["images"] for row in rows] == [4, 4, 4]
    assert min(row["accuracy"]["box_ap"] for row in rows) > 60
    sizes = [row["bytes"] for row in rows]
    assert sizes == [(folder / f"{row['precision']}.onnx").stat().st_size for row in rows] == sorted(sizes)[::-1]
    report = {"entry": exported.ENTRY, "calibration_images": 6, "rows": rows, "environment": ENVIRONMENT}
    page = "\n".join(section(report))
    assert "on 4 drawn images" in page
    assert f"| fp16 | {rows[1]['accuracy']['box_ap']:.2f} | {rows[1]['accuracy']['mask_ap']:.2f} |" in page
