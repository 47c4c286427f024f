"""What each precision of an optimised model costs in accuracy and takes in time, on the model inside the package and on
a large one.

    python -m cascadezoo.benchmarks.measure.precision [--device cuda] [--images N] [--large ENTRY] [--output FILE]

The images are drawn here.  Beside the plain model in float32: its average precision, how its detections differ, and
the time of an image, one at a time, decoding and resizing included; of all models in turn.  The large model has random
weights and so no average precision, and finds a hundred objects in one image at its published scale.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import cascadezoo
from cascadezoo import shapes
from cascadezoo.benchmarks.measure.latency import random_model, scene
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
LARGE = "cascade_mask_r50_fpn_1x.mmdet"
PLAIN = "plain"


def models(plain: Detector) -> dict[str, Detector]:
    """The plain model, and what can be made of it on its device, by precision."""
    found: dict[str, Detector] = {PLAIN: plain}
    for precision in DTYPES:
        try:
            found[precision] = plain.optimize(precision=precision)
        except UsageError as error:
            print(error)
    return found


def measure(device: torch.device, images: int) -> dict[str, Any]:
    """Accuracy, difference from the plain model's detections, and milliseconds an image, by precision."""
    contenders = models(cascadezoo.load(ENTRY, pretrained=True, device=device))
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


def measure_large(entry: str, device: torch.device, runs: int) -> dict[str, Any]:
    """Difference from the plain model's detections and milliseconds an image, by precision, with random weights."""
    image = scene()
    contenders = models(random_model(entry, image, device))
    detections: dict[str, Detections] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + runs):  # the first one warms up
        for name, model in contenders.items():
            start = now(device)
            detections[name] = model.predict(image)
            seconds[name].append(now(device) - start)
    return {
        "entry": entry,
        "image": image.shape[:2],
        "runs": runs,
        "precisions": {
            name: {
                "difference": asdict(difference([detections[PLAIN]], [found])),
                "image_ms": spread([1000 * each for each in seconds[name][1:]]),
            }
            for name, found in detections.items()
        },
    }


def _row(annotations: Path, found: list[Detections], plain: list[Detections]) -> dict[str, Any]:
    results = [result for number, each in enumerate(found, 1) for result in each.to_coco(number)]
    figures = evaluate(annotations, results)
    ap = {name: METRICS[name].of(figures) for name in ("box_ap", "mask_ap")}
    return {**ap, "difference": asdict(difference(plain, found))}


def main() -> None:
    """Measure, print two lines for each precision, write the report."""
    parser = argparse.ArgumentParser(description="Accuracy and time of an optimised model, by precision.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--large", default=LARGE, help=f"an entry (default: {LARGE})")
    parser.add_argument("--runs", type=int, default=10, help="of the large model (default: 10)")
    parser.add_argument("--output", type=Path, default=RESULTS / "precision.json")
    options = parser.parse_args()
    device = torch.device(options.device)
    report = measure(device, options.images)
    report["large"] = measure_large(options.large, device, options.runs)
    for name, row in report["precisions"].items():
        ms = row["image_ms"]["median"]
        print(f"{name:6} box AP {row['box_ap']:.3f}, mask AP {row['mask_ap']:.3f}, {ms:.1f} ms an image")
    for name, row in report["large"]["precisions"].items():
        ms, apart = row["image_ms"]["median"], row["difference"]
        print(f"{name:6} {options.large}: {apart['paired']} of {apart['before']} detections, {ms:.1f} ms an image")
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
