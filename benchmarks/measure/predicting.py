"""Images per second of ``cascadezoo predict`` on a folder, beside one image after another on all cores.

    python -m cascadezoo.benchmarks.measure.predicting [--rounds N] [--output FILE]

Whole commands, each a fresh process, take turns on folders of several sizes: a folder of one image is what starting,
loading and preparing take.  Then, in this process and without files, an optimised network takes turns at the ways in
which several images can share the cores.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import cascadezoo
from cascadezoo.benchmarks.measure.latency import random_model, scene
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.detector import Detector
from cascadezoo.ops.library import COMPILED
from cascadezoo.shapes.dataset import scene as shapes_scene

ALONE, ALONE_OPTIMISED, COMMAND = "one at a time", "one at a time, optimised", "predict"
WAYS = {ALONE: ("--no-optimize", "--at-once", "1"), ALONE_OPTIMISED: ("--at-once", "1"), COMMAND: ()}
"""What is compared, and the options of ``predict`` that make it; without any it is the command as people call it."""

ARRANGEMENTS: dict[str, Callable[[Detector, list[NDArray[np.uint8]]], object]] = {
    "one at a time": lambda model, images: [model.predict(image) for image in images],
    "several at once": lambda model, images: model.predict(images),
    "batches of 2": lambda model, images: model.predict(images, batch_size=2),
    "batches of 4": lambda model, images: model.predict(images, batch_size=4),
}


class Case(NamedTuple):
    """An entry and the sizes of folders to run it on.

    Attributes:
        counts: images of the folders, of which the first has one.
        is_random: with random weights that find a hundred objects, rather than its own.
    """

    entry: str
    counts: tuple[int, ...]
    is_random: bool

    def images(self, count: int) -> list[NDArray[np.uint8]]:
        """Images of a kind that the entry is for, all of one size."""
        if self.is_random:
            return [np.roll(scene(), 37 * number, axis=1) for number in range(count)]
        return [shapes_scene("val", number).image for number in range(count)]

    def model(self) -> Detector:
        """The entry's model, on the CPU."""
        if self.is_random:
            return random_model(self.entry, scene(), "cpu")
        return cascadezoo.load(self.entry, pretrained=True)


CASES = (
    Case("cascade_mask_r18_fpn_shapes.cascadezoo", (1, 16, 64), is_random=False),
    Case("cascade_mask_r50_fpn_1x.mmdet", (1, 4, 12), is_random=True),
)


def commands(case: Case, model: Detector, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds and memory of each way on each folder, and how many times faster than one at a time ``predict`` is.

    ``folder``: an empty one.
    """
    options = ["--device", "cpu"]
    if case.is_random:
        cascadezoo.save(model, folder / "weights.safetensors")
        threshold = model.spec.conventions.selection.score_thresh
        options += ["--weights", str(folder / "weights.safetensors"), "--threshold", repr(threshold)]
    for count in case.counts:
        (folder / str(count)).mkdir()
        for number, image in enumerate(case.images(count)):
            Image.fromarray(image).save(folder / str(count) / f"{number:03}.jpg", quality=92)
    seconds: dict[str, dict[int, list[float]]] = {way: defaultdict(list) for way in WAYS}
    peaks: dict[str, dict[int, int]] = {way: defaultdict(int) for way in WAYS}
    for _ in range(rounds):
        for count in case.counts:
            for way, own in WAYS.items():
                run = [case.entry, str(folder / str(count)), "--out", str(folder / "out"), *options, *own]
                took, peak = _run(run)
                seconds[way][count].append(took)
                peaks[way][count] = max(peaks[way][count], peak)
    first, *_, last = case.counts
    rates = {
        way: [(last - first) / (b - a) for a, b in zip(of[first], of[last], strict=True)] for way, of in seconds.items()
    }
    return {
        "images": list(case.counts),
        "seconds": {way: {str(n): spread(each) for n, each in of.items()} for way, of in seconds.items()},
        "peak_bytes": {way: {str(n): each for n, each in of.items()} for way, of in peaks.items()},
        "images_per_second": {way: spread(each) for way, each in rates.items()},
        "times_faster_than": {way: spread(_ratios(rates[COMMAND], rates[way])) for way in (ALONE, ALONE_OPTIMISED)},
        "whole_folder_times_faster_than": {
            way: spread(_ratios(seconds[way][last], seconds[COMMAND][last])) for way in (ALONE, ALONE_OPTIMISED)
        },
    }


def arrangements(model: Detector, images: list[NDArray[np.uint8]], rounds: int) -> dict[str, Any]:
    """Milliseconds of each way through the network, per image, after one warm-up; and of preparing the network."""
    start = time.perf_counter()
    fast = model.optimize()
    preparing = time.perf_counter() - start
    milliseconds: dict[str, list[float]] = {way: [] for way in ARRANGEMENTS}
    for number in range(rounds + 1):
        for way, predict in ARRANGEMENTS.items():
            start = time.perf_counter()
            predict(fast, images)
            if number:
                milliseconds[way].append(1000 * (time.perf_counter() - start) / len(images))
    return {
        "preparing_seconds": round(preparing, 3),
        "image": list(images[0].shape[:2]),
        "milliseconds": {way: spread(each) for way, each in milliseconds.items()},
    }


def _ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(these, those, strict=True)]


def _run(arguments: Sequence[str]) -> tuple[float, int]:
    """Seconds of a run of ``predict``, and its highest resident memory."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cascadezoo", "predict", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return took, usage.ru_maxrss * 1024


def measure(cases: Sequence[Case], rounds: int) -> dict[str, Any]:
    """The report on these cases."""
    rows = []
    for case in cases:
        model = case.model()
        with TemporaryDirectory() as folder:
            row = commands(case, model, rounds, Path(folder))
        rows.append({"entry": case.entry, **row, "network": arrangements(model, case.images(4), rounds)})
    return {
        "benchmark": "predicting",
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "rows": rows,
    }


def main() -> None:
    """Measure, print the rates, write the report."""
    parser = argparse.ArgumentParser(description="Images per second of predict, beside one image after another.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "predicting.json")
    options = parser.parse_args()
    report = measure(CASES, options.rounds)
    for row in report["rows"]:
        print(row["entry"])
        for way, rate in row["images_per_second"].items():
            print(f"  {way:26} {rate['median']:8.3f} images/s ({rate['min']:.3f} to {rate['max']:.3f})")
        for way, times in row["network"]["milliseconds"].items():
            print(f"  network alone, {way:15} {times['median']:8.1f} ms an image")
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
