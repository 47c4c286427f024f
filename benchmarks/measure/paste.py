"""Masks to run lengths, beside what did it before: ``python -m cascadezoo.benchmarks.measure.paste``.

Smooth masks on boxes of all sizes, the first larger than its image, at several sizes of the image and numbers of masks,
each in a fresh process for each way: by the compiled operator; cropped to their boxes, one by one, as PyTorch's version
does; and as whole masks of the image's size, as mmdetection does.  All have to give the same encodings.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.coco.rle import Rle, encode_crop
from cascadezoo.detections import Detections
from cascadezoo.errors import OpsNotBuilt
from cascadezoo.ops.library import COMPILED, STATUS

# height, width and masks: more pixels, then fewer masks
CASES = ((500, 500, 100), (1000, 1000, 100), (1732, 2309, 100), (3000, 4000, 100), (3000, 4000, 10), (3000, 4000, 1))


def scene(height: int, width: int, masks: int) -> Detections:
    """Detections drawn from a seed."""
    noise = torch.Generator().manual_seed(0)
    whole = torch.tensor([float(width), float(height)])
    centre = torch.rand(masks, 2, generator=noise) * whole
    half = (torch.rand(masks, 2, generator=noise).square() * whole + 8) / 2
    half[0] = 0.8 * whole
    logits = F.interpolate(torch.rand(masks, 1, 5, 5, generator=noise) * 12 - 4, size=28, mode="bicubic")[:, 0]
    boxes = torch.cat((centre - half, centre + half), 1)
    return Detections(boxes, torch.ones(masks), torch.zeros(masks), (height, width), mask_probs=logits.sigmoid())


def _cropped(detections: Detections) -> list[Rle]:
    return [encode_crop(mask.numpy(), top, left, *detections.image_size) for top, left, mask in detections.crops()]


def _whole(detections: Detections) -> list[Rle]:
    masks = detections.masks
    assert masks is not None
    rles = [coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
    return [Rle(size=rle["size"], counts=rle["counts"].decode("ascii")) for rle in rles]


WAYS: dict[str, Callable[[Detections], list[Rle] | None]] = {
    "compiled": Detections.rles,
    "crops": _cropped,
    "whole masks": _whole,
}


def measure(way: str, height: int, width: int, masks: int, runs: int) -> dict[str, Any]:
    """One way in this process: seconds of each run, bytes at the highest of the first, and what it gave."""
    work = WAYS[way]
    work(scene(9, 9, 2))  # what the first call alone takes
    seconds, peak, found = [], 0, None
    for _ in range(runs):
        given = scene(height, width, masks)  # anew: whole masks are kept
        Path("/proc/self/clear_refs").write_text("5")  # the highest counts from here
        before, start = process_memory("VmRSS"), time.perf_counter()
        found = work(given)
        seconds.append(time.perf_counter() - start)
        peak = peak or process_memory("VmHWM") - before
        del given
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "encodings": hashlib.sha256(json.dumps(found).encode()).hexdigest(),
    }


def run_fresh(way: str, *numbers: int) -> dict[str, Any]:
    """What ``measure`` finds in a process of its own."""
    code = (
        "import json, sys; from cascadezoo.benchmarks.measure.paste import measure; "
        "print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))"
    )
    command = [sys.executable, "-c", code, way, *map(str, numbers)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def row(height: int, width: int, masks: int, runs: int) -> dict[str, Any]:
    """All ways, and how many times the operator's seconds and bytes the others take."""
    found = {way: run_fresh(way, height, width, masks, runs) for way in WAYS}
    if len({each["encodings"] for each in found.values()}) != 1:
        raise ValueError(f"{masks} masks on {height} x {width}: not the same encodings")
    seconds = {way: spread(each["seconds"], 5) for way, each in found.items()}
    peak = {way: each["peak_bytes"] for way, each in found.items()}
    ours = found["compiled"]
    return {
        "image": [height, width],
        "masks": masks,
        "seconds": seconds,
        "peak_bytes": peak,
        "times_faster_than": {way: round(seconds[way]["median"] / seconds["compiled"]["median"], 1) for way in WAYS},
        "times_less_memory_than": {way: round(peak[way] / max(1, ours["peak_bytes"]), 1) for way in WAYS},
    }


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="The compiled paste of masks beside PyTorch's and whole masks.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "paste.json")
    options = parser.parse_args()
    if "cpu" not in COMPILED:
        raise OpsNotBuilt(f"no compiled operators for the CPU ({STATUS['cpu']}): run `cascadezoo build-ops`")
    rows = []
    print(f"{'image':>12}{'masks':>7}" + "".join(f"{way + ', ms':>17}{'MiB':>8}" for way in WAYS))
    for case in CASES:
        rows.append(one := row(*case, options.runs))
        print(
            f"{case[0]:>7}x{case[1]:4}{case[2]:7}"
            + "".join(
                f"{1000 * one['seconds'][way]['median']:17.1f}{one['peak_bytes'][way] / 2**20:8.1f}" for way in WAYS
            ),
            flush=True,
        )
    report = {"benchmark": "paste", "threads": torch.get_num_threads(), "runs": options.runs, "rows": rows}
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
