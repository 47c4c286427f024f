"""A COCO folder of small images, and a tiny detector in place of a published one, for the tests of verification.

Run as a script it is the command line with that detector: ``python tests/small_coco.py verify NAME …``.
"""

import json
import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

NAME = "cascade_mask_r50_fpn_1x.mmdet"
SIZES = [(60, 80), (80, 60), (60, 80), (60, 80), (50, 90), (60, 80), (80, 60), (60, 80)]  # height, width


def write_coco(root: Path, count: int = len(SIZES)) -> Path:
    """``count`` images whose objects are detections of the tiny detector, some of them moved: polygons, compressed
    RLE and, as uncompressed RLE, crowds; the last image has no annotation."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    rng, model = np.random.default_rng(0), tiny_load(NAME)
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES[:count], start=1):
        path = root / "val2017" / f"{number:012}.jpg"
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC))
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        if number < count:
            found = model.predict(path).to_coco(number)[:9:3]
            annotations += [_truth(record, kind, height, width) for kind, record in enumerate(found)]
    categories = [{"id": label, "name": f"class {label - 1}"} for label in range(1, 6)]
    numbered = [{"id": number, **record} for number, record in enumerate(annotations, start=1)]
    document = {"images": images, "annotations": numbered, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(document))
    return root


def _truth(record: dict, kind: int, height: int, width: int) -> dict:
    """An annotation near a detection: kind 0 its mask, 1 a polygon, 2 a crowd."""
    x, y, w, h = (int(value) + kind for value in record["bbox"])
    x, y, w, h = min(x, width - 2), min(y, height - 2), max(w, 2), max(h, 2)
    w, h = min(w, width - x), min(h, height - y)
    columns = [n for column in range(w - 1) for n in (h, height - h)]
    runs = [x * height + y, *columns, h, height * (width - x - w) + height - y - h]
    segmentation = (
        record["segmentation"],
        [[x, y, x + w, y, x + w, y + h, x, y + h]],
        {"size": [height, width], "counts": runs},
    )[kind]
    return {"image_id": record["image_id"], "category_id": record["category_id"], "bbox": [x, y, w, h], "area": w * h,
            "iscrowd": int(kind == 2), "segmentation": segmentation}  # fmt: skip


def tiny_load(name: str, **_: object):
    """In place of ``cascadezoo.load``."""
    from tiny import lively, tiny

    return lively(tiny() if "mask" in name else tiny("cascade_r50_fpn"))


class TooSmall:
    """A device with room for ``room`` images."""

    def __init__(self, extract, room: int, error: RuntimeError) -> None:
        self.extract, self.room, self.error, self.tried = extract, room, error, []

    def __call__(self, pixels):
        self.tried.append(len(pixels))
        if len(pixels) > self.room:
            raise self.error
        return self.extract(pixels)


def cramped_load(name: str, **_: object):
    """In place of ``cascadezoo.load``: the tiny detector on a device with room for one image."""
    model = tiny_load(name)
    model.extract = TooSmall(model.extract, 1, torch.OutOfMemoryError("CUDA out of memory"))
    return model


def main() -> None:
    """The command line with the tiny detector; ``KILL_AFTER`` images it kills itself."""
    import cascadezoo
    from cascadezoo.benchmarks.verify import results_stream
    from cascadezoo.cli import main as cli

    torch.set_num_threads(1)
    cascadezoo.load = tiny_load
    left = int(os.environ.get("KILL_AFTER", "0"))
    if left:
        write = results_stream.ResultsStream._write

        def torn(self, record):
            nonlocal left
            left -= 1
            if not left:
                self._file.write(results_stream._line(record)[:-9])
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, record)

        results_stream.ResultsStream._write = torn
    cli(sys.argv[1:])


if __name__ == "__main__":
    main()
