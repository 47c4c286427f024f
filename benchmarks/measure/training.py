"""Training throughput of an entry and where a step's time goes: ``python -m cascadezoo.benchmarks.measure.training``.

Steps of the real loop (worker processes, losses, backward, optimizer) with the publisher's recipe on generated images
of 480 x 640 with seven objects each, as COCO has them on average.  The network is random and is not saved.

With ``--before COMMIT`` the same is measured first with the code of an earlier commit of this repository, by a process
of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

import cascadezoo
from cascadezoo.benchmarks.measure.latency import scene
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.speed import peak_memory
from cascadezoo.benchmarks.verify.timing import Clock, spread, timed
from cascadezoo.coco.categories import COCO
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, join
from cascadezoo.files import write_json
from cascadezoo.losses import cascade_loss, rpn_loss
from cascadezoo.ops.library import COMPILED
from cascadezoo.training.config import Precision, TrainingConfig, recipe_of
from cascadezoo.training.loader import TrainingSet, training_loader
from cascadezoo.training.step import Stepper

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, OBJECTS = 480, 640, 7
PARTS = ("data", "targets", "forward", "backward", "optimizer")
# which boxes learn, which object each is matched to, and the mask inside it
_TARGETS = {rpn_loss: ("match", "sample"), cascade_loss: ("_sample_rois", "_mask_targets")}


def generate(
    folder: Path, count: int, objects: int = OBJECTS, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> tuple[Path, Path]:
    """A data set in COCO's layout, ellipses on scenes of ``size`` (height, width): its annotation file and its folder
    of JPEGs."""
    height, width = size
    rng, images = np.random.default_rng(0), folder / "images"
    images.mkdir()
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(images / name), scene(height, width)[..., ::-1])
        records.append({"id": number, "file_name": name, "height": height, "width": width})
        for _ in range(objects):
            w, h = rng.uniform(20, 300, 2)
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack((x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))), 1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": COCO.ids[int(rng.integers(len(COCO)))],
                    "bbox": [x, y, w, h],
                    "area": float(np.pi / 4 * w * h),
                    "iscrowd": 0,
                    "segmentation": [outline.ravel().round(2).tolist()],
                }
            )
    file = folder / "instances.json"
    named = [{"id": number, "name": name} for number, name in zip(COCO.ids, COCO, strict=True)]
    write_json(file, {"images": records, "annotations": annotations, "categories": named})
    return file, images


@contextmanager
def targets_timed(clock: Clock, device: torch.device) -> Iterator[None]:
    """Add to ``clock["targets"]`` what finding the targets takes, which is part of the forward pass."""

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with timed(clock, "targets", device):
                return work(*args)

        return call

    with ExitStack() as stack:
        for module, names in _TARGETS.items():
            for name in names:
                stack.enter_context(mock.patch.object(module, name, watched(getattr(module, name))))
        yield


def measure(
    entry: str, data: CocoDataset, *, batch_size: int, steps: int, workers: int, precision: Precision, world: World
) -> dict[str, Any]:
    """Seconds by part of ``steps`` steps, after one that warms up."""
    torch.manual_seed(0)
    recipe = recipe_of(cascadezoo.info(entry), None)
    model: Detector = cascadezoo.load(entry).to(world.device).train()
    training_set = TrainingSet(data, model.spec, recipe.augmentation, seed=0)
    stepper = Stepper(model, recipe, recipe.solver.lr * 1e-3, precision, 0, world)  # as in a warm-up: nothing diverges
    rows: list[Clock] = []
    loader = training_loader(training_set, batch_size, epoch=0, workers=workers)
    for step in range(steps + 1):
        clock: Clock = {}
        began = time.perf_counter()
        samples = next(loader)
        clock["data"] = time.perf_counter() - began
        with targets_timed(clock, world.device):
            report = stepper(step, 0, stepper.optimizer.defaults["lr"], [samples])
        clock |= report.seconds
        clock["forward"] -= clock["targets"]
        if step:
            rows.append(clock)
    totals = [sum(row.values()) for row in rows]
    return {
        "seconds": {part: spread([row[part] for row in rows], 4) for part in PARTS},
        "share": {part: round(sum(row[part] for row in rows) / sum(totals), 4) for part in PARTS},
        "step_seconds": spread(totals, 4),
        "images_per_second": round(batch_size * steps / sum(totals), 4),
        "peak_bytes": peak_memory(world.device),
    }


def measure_commit(commit: str, options: list[str], folder: Path) -> dict[str, Any]:
    """The report of this benchmark by the code of ``commit``, which is checked out in ``folder``, with operators
    compiled if they are here.  Raises CalledProcessError where git does not have it or its benchmark fails."""
    tree, report = folder / "before", folder / "before.json"
    git = ["git", "-C", str(ROOT), "worktree"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
    try:
        if "cpu" in COMPILED:
            subprocess.run([sys.executable, "-m", "cascadezoo", "build-ops"], cwd=tree, env=environment, check=True)
        command = [sys.executable, "-m", "cascadezoo.benchmarks.measure.training", *options, "--output", str(report)]
        subprocess.run(command, cwd=tree, env=environment, check=True)
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    measured: dict[str, Any] = json.loads(report.read_text())
    return measured


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Training throughput of an entry, and where a step's time goes.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--workers", type=int, default=TrainingConfig.model_fields["workers"].default)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32, choices=list(Precision))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit, whose code is measured first")
    parser.add_argument("--output", type=Path, default=RESULTS / "training.json")
    options = parser.parse_args()
    entry, before = cascadezoo.info(options.entry).name, None
    if options.before:
        same = ("entry", "batch_size", "steps", "workers", "precision", "device")
        given = [text for name in same for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
        with TemporaryDirectory(prefix="cascadezoo-") as folder:
            before = measure_commit(options.before, given, Path(folder))
    with TemporaryDirectory(prefix="cascadezoo-") as folder, join(options.device) as world:
        data = CocoDataset(*generate(Path(folder), (options.steps + 1) * options.batch_size))
        measured = measure(
            entry, data, batch_size=options.batch_size, steps=options.steps, workers=options.workers,
            precision=options.precision, world=world,
        )  # fmt: skip
    report = {
        "benchmark": "training",
        "entry": entry,
        "images": [HEIGHT, WIDTH],
        "objects": OBJECTS,
        "batch_size": options.batch_size,
        "steps": options.steps,
        "workers": options.workers,
        "precision": str(options.precision),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        **measured,
    }
    if before:
        kept = ("seconds", "share", "step_seconds", "images_per_second", "peak_bytes")
        times = before["step_seconds"]["median"] / measured["step_seconds"]["median"]
        report["before"] = {"commit": options.before, **{name: before[name] for name in kept}}
        report["times_faster"] = round(times, 2)
    print(f"{'part':12}{'median s':>10}{'share':>8}")
    for part in PARTS:
        print(f"{part:12}{report['seconds'][part]['median']:10.2f}{report['share'][part]:8.1%}")
    print(f"{report['images_per_second']:.2f} images a second")
    if before:
        print(f"{report['times_faster']:.2f} times as fast as {options.before}")
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
