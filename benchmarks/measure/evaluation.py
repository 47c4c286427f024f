"""What COCO's evaluation itself costs: ``python -m cascadezoo.benchmarks.measure.evaluation``.

A results file of the size that COCO val2017 gives, 5,000 images with 100 detections and masks each, is generated and
evaluated by each evaluator in a process of its own, as a verification does it: read from disk, merged, evaluated.
Memory is the process's highest resident set, imports included.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.benchmarks.verify.results_stream import Results, ResultsStream, merged, read_results
from cascadezoo.coco.categories import COCO
from cascadezoo.coco.evaluation import EVALUATORS, evaluate
from cascadezoo.files import write_json

HEIGHT, WIDTH = 480, 640
OBJECTS = 7  # per image, as in val2017
SHAPES = 400  # different masks


@click.command()
@click.option("--images", default=5000, show_default=True, type=click.IntRange(min=1), help="Images.")
@click.option("--detections", default=100, show_default=True, type=click.IntRange(min=1), help="Per image.")
@click.option(
    "--output",
    default=RESULTS / "evaluation.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/evaluation.json]",
)
def main(images: int, detections: int, output: Path) -> None:
    """Time the evaluation of a generated results file by each evaluator and write a report."""
    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        generate(Path(folder), images, detections)
        size = results_file(Path(folder)).stat().st_size
        rows = {evaluator: run_fresh(Path(folder), evaluator) for evaluator in EVALUATORS}
    report = {
        "benchmark": "evaluation",
        "images": images,
        "detections": detections,
        "results_bytes": size,
        "evaluators": rows,
        "figures_are_equal": _are_equal(*(row.pop("figures") for row in rows.values())),
    }
    write_report(output, report)

    click.echo(f"{'evaluator':12} {'read, s':>8} {'evaluate, s':>12} {'peak, MiB':>10}")
    for evaluator, row in rows.items():
        seconds, peak = row["seconds"], row["peak_bytes"] / 2**20
        click.echo(f"{evaluator:12} {seconds['read']:8.1f} {seconds['evaluate']:12.1f} {peak:10.0f}")
    click.echo(f"figures are {'equal' if report['figures_are_equal'] else 'NOT equal'}; report: {output}", err=True)


def _are_equal(*evaluations: dict[str, dict[str, float | None]]) -> bool:
    """Whether the figures are the same, except for the order in which sums of them were rounded."""
    ours, theirs = (np.array([list(of.values()) for of in evaluation.values()], float) for evaluation in evaluations)
    return np.allclose(ours, theirs, rtol=0, atol=1e-9, equal_nan=True)  # None becomes NaN


def generate(folder: Path, count: int, detections: int) -> None:
    """Annotations and a results file: ellipses of all sizes; about every tenth detection is near an object."""
    rng = np.random.default_rng(0)
    shapes = [_ellipse(rng) for _ in range(SHAPES)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ResultsStream(results_file(folder), {"generated": count}) as stream:
        for image_id in range(1, count + 1):
            images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": HEIGHT, "width": WIDTH})
            chosen = rng.integers(0, SHAPES, OBJECTS), rng.integers(0, len(COCO), OBJECTS)
            truths = [_record(image_id, shapes[shape], int(label)) for shape, label in zip(*chosen, strict=True)]
            annotations += [
                {**truth, "id": len(annotations) + n, "iscrowd": 0, "area": truth["bbox"][2] * truth["bbox"][3]}
                for n, truth in enumerate(truths, start=1)
            ]
            drawn = rng.integers(0, SHAPES, detections), rng.integers(0, len(COCO), detections)
            results = [_record(image_id, shapes[shape], int(label)) for shape, label in zip(*drawn, strict=True)]
            results[: detections // 10] = [dict(truth) for truth in truths[: detections // 10]]
            for result in results:
                result["score"] = float(rng.random())
            stream.add(image_id, results)
    document = {"images": images, "annotations": annotations, "categories": COCO.to_coco()}
    write_json(annotations_file(folder), document)


def measure(folder: str, evaluator: str) -> None:
    """Evaluate in this process and print what it took, as JSON."""
    start = time.perf_counter()
    results: Results = merged([read_results(results_file(Path(folder)))])
    read = time.perf_counter() - start
    figures = evaluate(annotations_file(Path(folder)), results, evaluator=evaluator)
    evaluated = time.perf_counter() - start - read
    seconds = {"read": round(read, 2), "evaluate": round(evaluated, 2)}
    print(json.dumps({"seconds": seconds, "peak_bytes": process_memory("VmHWM"), "figures": figures}))


def run_fresh(folder: Path, evaluator: str) -> dict[str, Any]:
    """The result of ``measure`` in a new process."""
    code = "import sys; from cascadezoo.benchmarks.measure.evaluation import measure; measure(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), evaluator]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def annotations_file(folder: Path) -> Path:
    """Where the generated annotations lie."""
    return folder / "annotations.json"


def results_file(folder: Path) -> Path:
    """Where the generated results lie."""
    return folder / "generated.results"


def _ellipse(rng: np.random.Generator) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    radius = np.exp(rng.uniform(np.log(6), np.log(200), 2))
    centre = rng.uniform(0, (HEIGHT, WIDTH))
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    rle = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    box = [float(value) for value in coco_mask.toBbox(rle)]
    return {"bbox": box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode("ascii")}}


def _record(image_id: int, shape: dict[str, Any], label: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": COCO.ids[label], **shape}


if __name__ == "__main__":
    main()
