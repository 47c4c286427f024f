"""A newcomer's first look: the model inside the package detects shapes, and its accuracy and speed are measured here.

    python -m cascadezoo.benchmarks.measure.demo --output demo

Nothing is fetched: the weights lie in the package, and the images are drawn.
"""

import argparse
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

import cascadezoo
from cascadezoo import shapes
from cascadezoo.coco.evaluation import evaluate
from cascadezoo.coco.metrics import METRICS, Measured, published, rounded

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
IMAGES = 100  # of the 500 of the validation split
SURE = 0.5  # scores that are drawn

_MEANINGS = {
    "box_ap": "how well boxes fit, 0 to 100, over ten strictnesses",
    "box_ap50": "classified right and roughly placed",
    "mask_ap": "how well outlines fit, pixel by pixel",
}


def main() -> None:
    """Load, predict, evaluate, draw, and print the results."""
    parser = argparse.ArgumentParser(description="Measure the model inside the package on images drawn here.")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    output: Path = parser.parse_args().output
    console = Console(highlight=False, soft_wrap=True)

    console.print(f"[bold]1.[/] Drawing {IMAGES} images of coloured shapes, which the model has never seen")
    annotations = shapes.generate("val", output / "shapes", IMAGES)
    console.print(f'[bold]2.[/] model = cascadezoo.load("{ENTRY}", pretrained=True)')
    model = cascadezoo.load(ENTRY, pretrained=True)

    console.print("[bold]3.[/] detections = model.predict(image), for each of them")
    paths = [output / "shapes" / "val" / f"{number:06d}.png" for number in range(1, IMAGES + 1)]
    model.predict(paths[0])  # the first call warms up
    results, seconds, counts = [], 0.0, []
    for number, path in enumerate(paths, 1):
        start = time.perf_counter()
        detections = model.predict(path)
        seconds += time.perf_counter() - start
        results += detections.to_coco(number)
        counts.append(int((detections.scores > SURE).sum()))
    console.print(_table(evaluate(annotations, results), IMAGES / seconds))

    path = paths[counts.index(max(counts))]
    with Image.open(path) as small:
        image = small.resize((3 * small.width, 3 * small.height))
    best = model.predict(image)
    best[best.scores > SURE].plot(image).save(output / "detections.png")
    console.print(
        f"[bold]4.[/] Its detections on the image where it has most ({path.name}), drawn: {output}/detections.png"
    )


def _table(figures: Measured, speed: float) -> Table:
    entry = cascadezoo.info(ENTRY)
    table = Table(title=f"{ENTRY} on {IMAGES} images", title_justify="left")
    for heading in ("", "measured here", "on all 500", "what it means"):
        table.add_column(heading, justify="right" if heading in ("measured here", "on all 500") else "left")
    expected_figures = published(entry)
    for name, meaning in _MEANINGS.items():
        metric, expected = METRICS[name], expected_figures[name]
        measured = metric.of(figures)
        shown = "none" if measured is None else str(rounded(measured, expected))
        table.add_row(metric.heading, shown, str(expected), meaning)
    table.add_row("speed", f"{speed:.1f} /s", "", "images a second on this machine, one at a time")
    return table


if __name__ == "__main__":
    main()
