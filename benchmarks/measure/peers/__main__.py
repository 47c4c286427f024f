"""The same network in other programs: ``python -m cascadezoo.benchmarks.measure.peers [--threads N] [--runs N]``.

What can be imported is measured beside ours, in one run and in turn: images to detections, backbone and neck, the
memory of an image, a step of training.  Every program has the same random weights, image and threads.  The report says
what could not be imported, and why.  The exit code is 1 where a program did not find what ours finds.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import torch

from cascadezoo.benchmarks.measure.latency import random_model, scene
from cascadezoo.benchmarks.measure.peers import features, latency, memory, training
from cascadezoo.benchmarks.measure.peers.contender import CPU, disagreeing, setting
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.measure.training import OBJECTS, generate
from cascadezoo.images import read_image
from cascadezoo.ops.library import COMPILED


def measure(entry: str, image: Any, runs: int, steps: int, batch_size: int) -> dict[str, Any]:
    """All parts of the report."""
    with TemporaryDirectory(prefix="cascadezoo-") as name:
        folder = Path(name)
        model = random_model(entry, image, CPU)
        given = setting(model, entry, image, folder)
        whole = latency.measure(latency.CONTENDERS, given, runs)
        threads = torch.get_num_threads()
        peaks = {
            row["way"]: memory.apart(memory.peak, latency.CONTENDERS[row["way"]], given, threads)
            for row in whole["rows"]
        }
        annotations, images = generate(folder, batch_size)
        lesson = training.Lesson(annotations, images, batch_size)
        return {
            "benchmark": "peers",
            "entry": given.entry,
            "image": list(image.shape[:2]),
            "network_input": list(model.prepare([model.resize(image)]).pixels.shape[2:]),
            "threads": threads,
            "compiled_ops": list(COMPILED),
            "latency": whole,
            "features": features.measure(features.CONTENDERS, given, runs),
            "memory": peaks,
            "training": {
                "batch_size": batch_size,
                "objects": OBJECTS,
                **training.measure(training.contenders(lesson), given, steps),
            },
        }


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report as text."""
    yield f"{'way':18}{'network, s':>12}{'whole, s':>10}{'MiB':>11}  agrees"
    for row in report["latency"]["rows"]:
        network, whole = (row[f"{span}_ms"]["median"] / 1000 for span in ("network", "whole"))
        peak = report["memory"][row["way"]]["inference_bytes"] / 2**20
        yield f"{row['way']:18}{network:12.2f}{whole:10.2f}{peak:11.0f}  {row['agrees']}"
    yield f"{'backbone and neck':18}{'median, s':>12}"
    for row in report["features"]["rows"]:
        yield f"{row['way']:18}{row['milliseconds']['median'] / 1000:12.2f}{'':21}  {row['agrees']}"
    yield f"{'step of training':18}{'median, s':>12}"
    for row in report["training"]["rows"]:
        yield f"{row['way']:18}{row['step_seconds']['median']:12.2f}{'':21}  {row['agrees']}"
    for part in ("latency", "features", "training"):
        for way, why in report[part]["missing"].items():
            yield f"{part}: without {way}: {why}"


def main() -> int:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="The same network in other programs, beside ours.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--image", help="an image; default: a generated one of 480x640")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=10, help="counted runs of each way")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of training")
    parser.add_argument("--batch-size", type=int, default=1, help="images of a step of training")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    image = read_image(options.image) if options.image else scene()
    report = measure(options.entry, image, options.runs, options.steps, options.batch_size)
    print("\n".join(lines(report)))
    write_report(options.output, report)
    print(f"written to {options.output}")
    wrong = disagreeing({part: report[part] for part in ("latency", "features", "training")})
    if wrong:
        print(f"another network's results: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
