"""What each precision of an optimised model costs in accuracy and takes in time, on the model inside the package.

    python -m cascadezoo.benchmarks.measure.precision [--device cuda] [--images N] [--output FILE]

The images are drawn here.  Beside the plain model in float32: its average precision, how its detections differ, and
the time of an image, one at a time, decoding and resizing included; of all models in turn.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import cascadezoo
from cascadezoo import shapes
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.coco.evaluation import evaluate
from cascadezoo.coco.metrics import METRICS
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED
from cascadezoo.optimizing.difference import difference
from cascadezoo.optimizing.precision import DTYPES

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
PLAIN = "plain"


def models(device: torch.device) -> dict[str, Detector]:
    """The plain model, and what can be made of it on this device, by precision."""
    found: dict[str, Detector] = {PLAIN: cascadezoo.load(ENTRY, pretrained=True, device=device)}
    for precision in DTYPES:
        try:
            found[precision] = found[PLAIN].optimize(precision=precision)
        except UsageError as error:
            print(error)
    return found


def measure(device: torch.device, images: int) -> dict[str, Any]:
    """Accuracy, difference from the plain model's detections, and milliseconds an image, by precision."""
    contenders = models(device)
    detections: dict[str, list[Detections]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        annotations = shapes.generate("val", Path(folder), images)
        paths = sorted((Path(folder) / "val").glob("*.png"))
        for path in [paths[0], *paths]:  # the first one warms up
            for name, model in contenders.items():
                start = now(device)
                found = model.predict(path)
                seconds[name].append(now(device) - start)
                detections[name].append(found)
        rows = {name: _row(annotations, each[1:], detections[PLAIN][1:]) for name, each in detections.items()}
    return {
        "entry": ENTRY,
        "device": str(device),
        "images": images,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "precisions": {
            name: {**row, "image_ms": spread([1000 * each for each in seconds[name][1:]])} for name, row in rows.items()
        },
    }


def _row(annotations: Path, found: list[Detections], plain: list[Detections]) -> dict[str, Any]:
    results = [result for number, each in enumerate(found, 1) for result in each.to_coco(number)]
    figures = evaluate(annotations, results)
    ap = {name: METRICS[name].of(figures) for name in ("box_ap", "mask_ap")}
    return {**ap, "difference": asdict(difference(plain, found))}


def main() -> None:
    """Measure, print a line for each precision, write the report."""
    parser = argparse.ArgumentParser(description="Accuracy and time of an optimised model, by precision.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS / "precision.json")
    options = parser.parse_args()
    report = measure(torch.device(options.device), options.images)
    for name, row in report["precisions"].items():
        ms = row["image_ms"]["median"]
        print(f"{name:6} box AP {row['box_ap']:.3f}, mask AP {row['mask_ap']:.3f}, {ms:.1f} ms an image")
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
