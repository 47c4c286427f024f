"""What checking a data set of COCO's size costs: ``python -m cascadezoo.benchmarks.measure.data_check``.

An annotation file of as many images and polygons as COCO train2017 has is generated, with an image file for each, and
read by ``cascadezoo.coco.checking.check`` in a process of its own: the file alone, then with the headers of the images.
Memory is the process's highest resident set, imports included.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from PIL import Image

from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.coco.categories import COCO
from cascadezoo.coco.checking import check

IMAGES, ANNOTATIONS = 118_287, 860_001  # of COCO train2017
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375))  # width and height, the commonest of COCO
_LINKS = 30_000  # names of one file: some file systems take no more than 65,000


@click.command()
@click.option("--images", default=IMAGES, show_default=True, type=click.IntRange(min=4), help="Images.")
@click.option("--annotations", default=ANNOTATIONS, show_default=True, type=click.IntRange(min=1), help="Polygons.")
@click.option(
    "--output",
    default=RESULTS / "data_check.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/data_check.json]",
)
def main(images: int, annotations: int, output: Path) -> None:
    """Time the check of a generated data set and write a report."""
    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        generate(Path(folder), images, annotations)
        size = annotations_file(Path(folder)).stat().st_size
        rows = {what: run_fresh(Path(folder), what) for what in ("file", "file and headers")}
    report = {
        "benchmark": "data_check",
        "images": images,
        "annotations": annotations,
        "file_bytes": size,
        "rows": rows,
    }
    write_report(output, report)
    for what, row in rows.items():
        seconds = f"{row['seconds']['wall']:7.1f} s ({row['seconds']['cpu']:.1f} s of the processor)"
        click.echo(f"{what:18} {seconds}  {row['peak_bytes'] / 2**20:7.0f} MiB  {row['faults']} faults")
    click.echo(f"report: {output}", err=True)


def generate(folder: Path, images: int, annotations: int) -> None:
    """Image files, each one of four under many names, and outlines of 4 to 60 points with two digits."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    originals = [folder / f"{number}.jpg" for number in range(len(SIZES))]
    with annotations_file(folder).open("w") as file:
        file.write('{"images": [')
        for number in range(images):
            width, height = SIZES[number % len(SIZES)]
            original = originals[number % len(SIZES)]
            if number // len(SIZES) % _LINKS == 0:
                original.unlink(missing_ok=True)
                Image.new("RGB", (width, height)).save(original)
            name = f"{number + 1:012}.jpg"
            os.link(original, folder / "images" / name)
            item = {"id": number + 1, "file_name": name, "height": height, "width": width}
            file.write(", " * (number > 0) + json.dumps(item))
        file.write('], "annotations": [')
        for number in range(annotations):
            image = number % images
            item = _annotation(rng, *SIZES[image % len(SIZES)])
            item |= {"id": number + 1, "image_id": image + 1, "category_id": COCO.ids[number % len(COCO)]}
            file.write(", " * (number > 0) + json.dumps(item))
        file.write(f'], "categories": {json.dumps(COCO.to_coco())}}}')


def measure(folder: str, what: str) -> None:
    """Check in this process and print what it took, as JSON."""
    images = Path(folder) / "images" if what != "file" else None
    start, cpu = time.perf_counter(), time.process_time()
    contents, faults = check(annotations_file(Path(folder)), images, most=20)
    seconds = {"wall": round(time.perf_counter() - start, 1), "cpu": round(time.process_time() - cpu, 1)}
    row = {"seconds": seconds, "peak_bytes": process_memory("VmHWM"), "faults": faults.counts.total()}
    print(json.dumps({**row, "annotations": contents.annotations}))


def run_fresh(folder: Path, what: str) -> dict[str, Any]:
    """The result of ``measure`` in a new process."""
    code = "import sys; from cascadezoo.benchmarks.measure.data_check import measure; measure(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), what]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def annotations_file(folder: Path) -> Path:
    """Where the generated annotations lie."""
    return folder / "annotations.json"


def _annotation(rng: np.random.Generator, width: int, height: int) -> dict[str, Any]:
    radius = rng.uniform(4, min(width, height) / 2 - 1)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    angles = np.linspace(0, 2 * np.pi, rng.integers(4, 61), endpoint=False)
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).round(2)
    box = [round(float(value), 2) for value in (x - radius, y - radius, 2 * radius, 2 * radius)]
    return {
        "segmentation": [points.ravel().tolist()],
        "area": round(float(np.pi * radius**2), 4),
        "iscrowd": 0,
        "bbox": box,
    }


if __name__ == "__main__":
    main()
