"""What tiles find on a large image: ``python -m cascadezoo.benchmarks.measure.tiling [--sahi] [--height N --width N]``.

The model inside the package on one drawn image: objects of the sizes that it was trained on, many of which tiles cut,
and a few larger than any tile.  Each way is a fresh process on the CPU: recall and precision of what reaches a score
of 0.5, time, and the highest resident memory, imports and weights included.  ``--sahi`` adds SAHI, where that is
installed, with the same model on slices of the same size and overlap.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

import cascadezoo
from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.coco.evaluation import Kind
from cascadezoo.coco.overlaps import overlaps
from cascadezoo.detector import Detector
from cascadezoo.ops.library import COMPILED
from cascadezoo.shapes import planted
from cascadezoo.shapes.dataset import CATEGORIES
from cascadezoo.tiling import Tiles

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
SIZE, OVERLAP = 256, 64  # of which the network makes 192: what it was trained on, up to 110 pixels, has 147 here
SURE, SAME = 0.5, 0.5  # the score that counts, and the IoU with an object from which a detection is of it
SMALL, CUT, LARGE = "small", "cut", "large"
LIMITS = {SMALL: (0, OVERLAP), CUT: (OVERLAP, SIZE), LARGE: (SIZE, 10**6)}
"""Longer sides of objects, pixels: those that are whole in some tile, that may be, and that never are."""

Found = list[dict[str, Any]]


def _whole(model: Detector, image: NDArray[np.uint8]) -> Found:
    return model.predict(image, threshold=SURE).to_coco(1)


def _in_tiles(model: Detector, image: NDArray[np.uint8]) -> Found:
    return model.predict(image, threshold=SURE, tiles=Tiles(SIZE, OVERLAP, whole=False)).to_coco(1)


def _in_tiles_and_whole(model: Detector, image: NDArray[np.uint8]) -> Found:
    return model.predict(image, threshold=SURE, tiles=Tiles(SIZE, OVERLAP)).to_coco(1)


def _by_nms_alone(model: Detector, image: NDArray[np.uint8]) -> Found:
    """The tiles' detections, of which NMS takes those that overlap a better one of their class by an IoU of 0.5."""
    height, width = image.shape[:2]
    windows = Tiles(SIZE, OVERLAP, whole=False).windows(height, width)
    parts = model.predict([image[w.top : w.bottom, w.left : w.right] for w in windows], threshold=SURE)
    results = []
    for part, window in zip(parts, windows, strict=True):
        part = cascadezoo.Detections(
            part.boxes + torch.tensor((window.left, window.top) * 2), part.scores, part.labels, (height, width),
            part.categories, part.mask_probs,
        )  # fmt: skip
        results += part.to_coco(1)
    x, y, w, h = torch.tensor([each["bbox"] for each in results]).reshape(-1, 4).unbind(1)
    scores, labels = (torch.tensor([each[name] for each in results]) for name in ("score", "category_id"))
    return [results[i] for i in batched_nms(torch.stack((x, y, x + w, y + h), 1), scores, labels, 0.5).tolist()]


def _by_sahi(model: Detector, image: NDArray[np.uint8]) -> Found:
    from sahi.predict import get_sliced_prediction

    from cascadezoo.integrations.sahi import ZooDetectionModel

    share = OVERLAP / SIZE
    result = get_sliced_prediction(
        image, ZooDetectionModel(model=model, confidence_threshold=SURE), slice_height=SIZE, slice_width=SIZE,
        overlap_height_ratio=share, overlap_width_ratio=share, verbose=0,
    )  # fmt: skip
    return [{**each, "image_id": 1} for each in result.to_coco_predictions(image_id=1)]


WAYS: dict[str, Callable[[Detector, NDArray[np.uint8]], Found]] = {
    "whole image alone": _whole,
    "tiles, NMS alone": _by_nms_alone,
    "tiles": _in_tiles,
    "tiles and whole image": _in_tiles_and_whole,
}
SAHI = "SAHI, slices and whole image"


def sizes(height: int, width: int, seed: int = 0) -> list[int]:
    """Pixels across of the objects of an image of this size: a small one for 60,000 pixels, one longer than the overlap
    for 100,000, one larger than a tile for two million; at least one of each."""
    dice, pixels = np.random.default_rng(seed), height * width
    largest = max(SIZE + 50, min(height, width) // 3)
    spans = ((30, OVERLAP, 60_000), (OVERLAP + 16, 147, 100_000), (SIZE + 50, largest + 1, 2_000_000))
    return [int(size) for low, high, each in spans for size in dice.integers(low, high, max(1, pixels // each))]


def measure(way: str, folder: Path) -> dict[str, Any]:
    """One way in this process, on the image in ``folder``; a first prediction, which warms up, is not timed."""
    image = np.load(folder / "image.npy")
    model = cascadezoo.load(ENTRY, pretrained=True)
    detect = {**WAYS, SAHI: _by_sahi}[way]
    model.predict(image[:SIZE, :SIZE])
    before = process_memory("VmHWM")
    start, cpu = time.perf_counter(), time.process_time()
    found = detect(model, image)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "way": way,
        "found": found,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_bytes": process_memory("VmHWM"),
        "peak_bytes_before": before,
    }


def run_fresh(way: str, folder: Path) -> dict[str, Any]:
    """The result of ``measure`` in a new process."""
    code = (
        "import json, sys; from pathlib import Path; from cascadezoo.benchmarks.measure.tiling import measure; "
        "print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, way, str(folder)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def accuracy(
    annotations: Sequence[Mapping[str, Any]], size: tuple[int, int], found: Found, kind: Kind
) -> dict[str, Any]:
    """Recall of the objects of each size, precision, and detections of an object that a better one is of already.

    The best detections choose first, each the object of its class that it overlaps most, by an IoU of 0.5 or more.
    """
    truth = {
        "images": [{"id": 1, "height": size[0], "width": size[1]}],
        "categories": CATEGORIES.to_coco(),
        "annotations": [{**each, "id": number, "image_id": 1} for number, each in enumerate(annotations, 1)],
    }
    (of_image,) = overlaps(truth, found, kind)
    classes = np.array([each["category_id"] for each in of_image.objects])
    taken = np.zeros(len(classes), dtype=np.bool_)
    again = 0
    for detection, iou in zip(of_image.detections, of_image.iou, strict=True):
        fits = np.where(classes == detection["category_id"], iou, 0) >= SAME
        free = np.where(fits & ~taken, iou, 0)
        if free.any():
            taken[free.argmax()] = True
        else:
            again += bool(fits.any())
    longer = np.array([max(each["bbox"][2:]) for each in of_image.objects])
    groups = {name: (low <= longer) & (longer < high) for name, (low, high) in LIMITS.items()}
    return {
        "recall": {name: round(float(taken[group].mean()), 4) for name, group in groups.items() if group.any()},
        "found_objects": int(taken.sum()),
        "precision": round(float(taken.sum() / len(found)), 4) if found else None,
        "again": again,
        "other": len(found) - int(taken.sum()) - again,
    }


def report(height: int, width: int, ways: Sequence[str], index: int = 0) -> dict[str, Any]:
    """The benchmark's report on one image of this size."""
    image, annotations = planted(height, width, sizes(height, width, index), index)
    rows = []
    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "image.npy", image)
        for way in ways:
            row = run_fresh(way, Path(folder))
            found = row.pop("found")
            kinds: tuple[Kind, ...] = ("bbox", "segm")
            figures: dict[str, Any] = {kind: accuracy(annotations, (height, width), found, kind) for kind in kinds}
            rows.append({**row, "detections": len(found), **figures})
    longer = [max(each["bbox"][2:]) for each in annotations]
    return {
        "benchmark": "tiling",
        "entry": ENTRY,
        "image": [height, width],
        "tiles": {"size": SIZE, "overlap": OVERLAP, "count": len(Tiles(SIZE, OVERLAP, False).windows(height, width))},
        "objects": {name: sum(low <= side < high for side in longer) for name, (low, high) in LIMITS.items()},
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "rows": rows,
    }


def table(found: Mapping[str, Any]) -> list[str]:
    """The report as lines for a terminal."""
    counts = ", ".join(f"{count} {name}" for name, count in found["objects"].items())
    height, width = found["image"]
    lines = [f"{width}x{height}, objects: {counts}; {found['tiles']['count']} tiles; masks, IoU {SAME}, score {SURE}"]
    lines.append(f"{'':30}{'recall: ' + ', '.join(LIMITS):>26}{'prec.':>7}{'again':>7}{'CPU s':>8}{'MiB':>7}")
    for row in found["rows"]:
        figures = row["segm"]
        recall = "  ".join(f"{figures['recall'].get(name, float('nan')):.3f}" for name in LIMITS)
        precision = "none" if figures["precision"] is None else f"{figures['precision']:.3f}"
        lines.append(
            f"{row['way']:30}{recall:>26}{precision:>7}{figures['again']:7}{row['cpu_seconds']:8.1f}"
            f"{row['peak_bytes'] / 2**20:7.0f}"
        )
    return lines


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Recall, precision and cost on a large image, in tiles and whole.")
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--index", type=int, default=0, help="Which of the images of this size.")
    parser.add_argument("--sahi", action="store_true", help="SAHI's sliced inference too.")
    parser.add_argument("--output", type=Path, default=RESULTS / "tiling.json")
    options = parser.parse_args()
    ways = [*WAYS, *[SAHI] * options.sahi]
    found = report(options.height, options.width, ways, options.index)
    print("\n".join(table(found)))
    write_report(options.output, found)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
