"""What each precision of an exported file costs in accuracy and takes on disk, on the model inside the package.

    python -m cascadezoo.benchmarks.measure.exported [--calibration N] [--output FILE]

Each file is written as ``cascadezoo.export`` writes it, and its average precision is what that measured with the
runtime of its format, in float32 and narrower, on images that are drawn for it, and has put into the file.  int8 is
calibrated on other drawn images.  Needs onnx, onnxscript, onnxruntime, openvino and nncf.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cascadezoo
from cascadezoo import shapes
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.detector import Detector
from cascadezoo.exporting.formats import GRAPHS, Options
from cascadezoo.exporting.metadata import KEY

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def measure(model: Detector, format: str, images: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a format's precisions, of which the narrower ones say what float32 has as well."""
    found: dict[str, dict[str, Any]] = {}
    for precision in GRAPHS[format].precisions:
        path = folder / f"{precision}{GRAPHS[format].suffix}"
        calibration = images if precision == "int8" else None
        options = Options(precision=precision, calibration=calibration, force=True)
        written = GRAPHS[format].write()(model, options, path)
        found[precision] = {
            "format": format,
            "runtime": f"{RUNTIMES[format]} {version(RUNTIMES[format])}",
            "precision": precision,
            "bytes": sum(file.stat().st_size for file in folder.glob(f"{precision}.*")),
            "accuracy": _metadata(path).get("accuracy"),
            "detections": written.check.detections,
            "box_difference": written.check.box,
            "score_difference": written.check.score,
            "mask_iou": written.check.mask,
        }
        print(format, precision, *written.notes, flush=True)
    for precision, row in found.items():
        narrow = found["int8" if precision == "fp32" else precision]["accuracy"]
        yield {**row, "accuracy": {"data": narrow["data"], "images": narrow["images"], **narrow[precision]}}


def _metadata(path: Path) -> dict[str, Any]:
    """The document inside the file."""
    if path.suffix == ".onnx":
        import onnx

        text = next(each.value for each in onnx.load(path).metadata_props if each.key == KEY)
    else:
        import openvino

        text = openvino.Core().read_model(path).get_rt_info([KEY]).value
    found: dict[str, Any] = json.loads(text)
    return found


def main() -> None:
    """Measure all formats that have narrower precisions, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=int, default=100, help="images that int8 is calibrated on")
    parser.add_argument("--output", type=Path, default=RESULTS / "exported.json")
    given = parser.parse_args()
    model = cascadezoo.load(ENTRY, pretrained=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cascadezoo-") as name:
        shapes.generate("train", Path(name) / "shapes", given.calibration)
        for format in RUNTIMES:
            folder = Path(name) / format
            folder.mkdir()
            rows += measure(model, format, Path(name) / "shapes" / "train", folder)
    write_report(given.output, {"entry": ENTRY, "calibration_images": given.calibration, "rows": rows})


if __name__ == "__main__":
    main()
