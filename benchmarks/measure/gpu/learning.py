"""Steps of training with a publisher's recipe, in float32 and in bfloat16."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cascadezoo.benchmarks.measure import training
from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.distributed import join
from cascadezoo.ops.library import COMPILED
from cascadezoo.training.config import Precision

ENTRY = "cascade_mask_r50_fpn_1x.mmdet"
BATCH_SIZE, STEPS, WORKERS = 4, 10, 8
LEAST = 20.0  # seconds for one precision


def run(
    report: Report, device: torch.device, batch_size: int = BATCH_SIZE, steps: int = STEPS, workers: int = WORKERS
) -> None:
    """A row for each precision."""
    report.data |= {"entry": ENTRY, "images": [training.HEIGHT, training.WIDTH], "objects": training.OBJECTS}
    report.data |= {"batch_size": batch_size, "steps": steps, "workers": workers, "compiled_ops": list(COMPILED)}
    with TemporaryDirectory(prefix="cascadezoo-") as folder, join(device.type) as world:
        data = CocoDataset(*training.generate(Path(folder), (steps + 1) * batch_size))
        for precision in (Precision.FP32, Precision.BF16):
            if report.has_time(str(precision), LEAST):
                with report.attempt(str(precision)):
                    measured = training.measure(
                        ENTRY, data, batch_size=batch_size, steps=steps, workers=workers, precision=precision,
                        world=world,
                    )  # fmt: skip
                    report.data["rows"].append({"precision": str(precision), **measured})
