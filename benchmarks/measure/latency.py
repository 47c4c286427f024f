"""Per-image latency of an entry, stage by stage, beside torchvision's Mask R-CNN on the same image and threads.

    python -m cascadezoo.benchmarks.measure.latency [--entry NAME] [--weights FILE] [--device cuda] [--output FILE]

Both networks are run in turn within one process.  Without weights they are random, and each gets the score threshold
that lets ``CANDIDATES`` of its scored boxes pass, so that both end with a full hundred detections and masks.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import maskrcnn_resnet50_fpn

import cascadezoo
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.speed import STAGES, run_stages
from cascadezoo.benchmarks.verify.timing import Clock, spread, timed
from cascadezoo.detector import Detector
from cascadezoo.images import read_image
from cascadezoo.ops.library import COMPILED

CANDIDATES = 1000


def _ours(model: Detector, image: NDArray[np.uint8]) -> Clock:
    clock, detections = run_stages(model, [image])
    return {**clock, "detections": detections}


def _theirs(model: Any, image: NDArray[np.uint8], device: torch.device) -> Clock:
    clock: Clock = {}
    with timed(clock, "preprocess", device):
        tensor = torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255
        images, _ = model.transform([tensor])
    with timed(clock, "backbone+neck", device):
        features = model.backbone(images.tensors)
    with timed(clock, "rpn", device):
        proposals, _ = model.rpn(images, features)
    heads = model.roi_heads
    with timed(clock, "box stages", device):
        pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
    with timed(clock, "postprocess", device):
        boxes, scores, labels = heads.postprocess_detections(logits, deltas, proposals, images.image_sizes)
    with timed(clock, "masks", device):
        pooled = heads.mask_roi_pool(features, boxes, images.image_sizes)
        masks = heads.mask_predictor(heads.mask_head(pooled))[torch.arange(len(labels[0])), labels[0]].sigmoid()
    with timed(clock, "postprocess", device):
        result = [{"boxes": boxes[0], "labels": labels[0], "scores": scores[0], "masks": masks[:, None]}]
        result = model.transform.postprocess(result, images.image_sizes, [image.shape[:2]])
    clock["detections"] = len(result[0]["boxes"])
    return clock


@torch.inference_mode()
def random_model(entry: str, image: NDArray[np.uint8], device: str | torch.device) -> Detector:
    """An entry's network with random weights that find a full number of detections in this image."""
    torch.manual_seed(0)
    model = cascadezoo.load(entry, device=device)
    batch = model.prepare([model.resize(image)])
    features = model.extract(batch.pixels)
    scored = model.refine(features, model.rpn(features, batch.sizes), batch.sizes)
    torch.manual_seed(0)
    return cascadezoo.load(entry, device=device, box_score_thresh=_threshold(scored.probabilities[..., :-1]))


def _load_theirs(image: NDArray[np.uint8], device: torch.device) -> Any:
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval().to(device)
    images, _ = model.transform([torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255])
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    heads = model.roi_heads
    logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes)))
    heads.score_thresh = _threshold(logits.softmax(-1)[:, 1:])
    return model


def _threshold(scores: torch.Tensor) -> float:
    return float(scores.flatten().topk(CANDIDATES + 1).values[-1])


def scene(height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """An image with smooth areas, edges and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    image = np.stack([128 + 90 * np.sin(x / 40 + c) * np.cos(y / 55 - c) for c in range(3)], -1)
    for _ in range(20):
        top, left = rng.integers(0, height), rng.integers(0, width)
        image[top : top + rng.integers(20, 160), left : left + rng.integers(20, 160)] = rng.uniform(0, 255, 3)
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


@torch.inference_mode()
def measure(
    entry: str, weights: str | None, image: NDArray[np.uint8], device: torch.device, runs: int
) -> dict[str, Any]:
    """Milliseconds by stage of both networks, ``runs`` counted runs each in turn after one warm-up."""
    ours = cascadezoo.load(entry, weights=weights, device=device) if weights else random_model(entry, image, device)
    theirs = _load_theirs(image, device)
    contenders: dict[str, Callable[[], Clock]] = {
        "cascadezoo": lambda: _ours(ours, image),
        "torchvision": lambda: _theirs(theirs, image, device),
    }
    clocks: dict[str, list[Clock]] = {name: [] for name in contenders}
    for run in range(runs + 1):
        for name, contender in contenders.items():
            clock = contender()
            if run:
                clocks[name].append(clock)
    totals = {name: [sum(c[s] for s in STAGES) for c in each] for name, each in clocks.items()}
    ratios = [ours / theirs for ours, theirs in zip(totals["cascadezoo"], totals["torchvision"], strict=True)]
    return {
        "entry": entry,
        "weights": "given" if weights else "random",
        "image": list(image.shape[:2]),
        "network_input": [ours.spec.preprocess.min_size, ours.spec.preprocess.max_size],
        "runs": runs,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "detections": {name: int(each[0]["detections"]) for name, each in clocks.items()},
        "stages_ms": {n: {s: spread([1000 * c[s] for c in each]) for s in STAGES} for n, each in clocks.items()},
        "total_ms": {name: spread([1000 * t for t in each]) for name, each in totals.items()},
        "ratio_cascadezoo_to_torchvision": spread(ratios),
    }


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'stage, median ms':18}{'cascadezoo':>12}{'torchvision':>13}"]
    for stage in STAGES:
        row = [report["stages_ms"][name][stage]["median"] for name in ("cascadezoo", "torchvision")]
        lines.append(f"{stage:18}{row[0]:12.1f}{row[1]:13.1f}")
    totals = [report["total_ms"][name]["median"] for name in ("cascadezoo", "torchvision")]
    ratio = report["ratio_cascadezoo_to_torchvision"]
    lines.append(f"{'total':18}{totals[0]:12.1f}{totals[1]:13.1f}")
    lines.append(f"ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), {report['threads']} threads")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Latency of an entry by stage, beside torchvision's Mask R-CNN.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--weights", help="canonical file or the publisher's own; default: random")
    parser.add_argument("--image", help="an image; default: a generated one of 480x640")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "latency.json")
    options = parser.parse_args()
    image = read_image(options.image) if options.image else scene()
    report = measure(options.entry, options.weights, image, torch.device(options.device), options.runs)
    print(_table(report))
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
