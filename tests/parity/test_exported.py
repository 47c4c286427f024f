"""A detector exported by ``torch.export``, compiled or not, finds what its publisher's own code found, for a network of
each kind.

Recorded in the folders beside this file.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.exporting.graph import Graph
from cascadezoo.modeling.postprocess import DetectionBatch

from cases import SIX, Case

FORMATS: dict[str, Callable[[Path], Callable[..., tuple[Tensor, ...]]]] = {
    "pt2": lambda file: torch.export.load(file).module(),
    "aoti": lambda file: torch._inductor.aoti_load_package(str(file)),
}


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("folder", SIX)
def test_a_program_finds_what_the_publisher_found(folder: str, format: str, tmp_path: Path) -> None:
    case = Case(Case.root() / folder)
    model, _ = case.convert(tmp_path)
    cascadezoo.export(model, format, output=tmp_path / "a.pt2")
    module = FORMATS[format](tmp_path / "a.pt2")
    report = case.compare(detecting_by(module, model).predict(case.image))
    for file in tmp_path.iterdir():  # a few hundred megabytes a case
        file.unlink()
    assert report["ok"], report


def detecting_by(module: Callable[..., tuple[Tensor, ...]], model: Detector) -> Detector:
    """The model with what lies between preparation and results done by an exported file."""
    names, found = Graph(model).outputs, {}

    def find(features: list[Tensor], batch: tuple[Tensor, ...]) -> DetectionBatch:
        given = [values.contiguous() for values in batch]  # as compiled packages take them, who do not look
        found.update(zip(names, module(*given), strict=True))
        rows = [found[name] for name in ("boxes", "scores", "labels", "counts")]
        return DetectionBatch(*rows, rois=rows[0], masks=None)

    model.extract, model.find = lambda pixels: [pixels], find
    model.segment = lambda _, rows: (
        rows._replace(masks=found["masks"][:, : rows.boxes.shape[1]]) if "masks" in found else rows
    )
    return model
