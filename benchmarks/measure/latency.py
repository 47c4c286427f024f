"""Latency of an entry, stage by stage and whole, beside torchvision's Mask R-CNN on the same image and threads.

    python -m cascadezoo.benchmarks.measure.latency [--entry NAME] [--weights FILE] [--device cuda] [--output FILE]
        [--precision tf32] [--batch-size 4]
    python -m cascadezoo.benchmarks.measure.latency --entries [NAME ...] [--runs 3] [--output FILE]

Both networks are run in turn within one process, twice each: once with a wait for the device around every stage, and
once whole, from the image to detections, where only the end waits.  Without weights they are random, and each gets the
score threshold that lets ``CANDIDATES`` of its scored boxes pass, so that both end with a full hundred detections and
masks.

``--entries``: instead, one entry of each kind of network on the CPU, each beside itself as ``Detector.optimize`` makes
it in the precisions that the processor has.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

import cascadezoo
from cascadezoo.benchmarks.measure.computing import PRECISIONS, computing
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.speed import STAGES, run_stages
from cascadezoo.benchmarks.verify.timing import Clock, in_turn, spread, timed
from cascadezoo.detector import Detector
from cascadezoo.images import read_image
from cascadezoo.ops.library import COMPILED
from cascadezoo.optimizing.precision import has_bfloat16

CANDIDATES = 1000
SPREAD = 57  # of the grey levels of ImageNet, about
CPU = torch.device("cpu")
PLAIN = "plain"
ENTRIES = (  # one of each family and publisher
    "cascade_mask_r50_fpn_1x.mmdet",
    "cascade_mask_x101_64x4d_fpn_1x.mmdet",
    "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron",
    "cascade_mask_r50_vd_ssld_fpn_1x.paddle",
    "cascade_mask_internimage_l_fpn_1x.internimage",
    "mask_swin_t_fpn_3x.swin",
    "cascade_mask_convnext_t_fpn_3x.convnext",
    "cascade_mask_r50_fpn_3x.detectron2",
    "cascade_mask_vitdet_b_100ep.detectron2",
    "cascade_mask_r50_dconv_c3c5_fpn_1x.mmdet",
    "cascade_mask_r18_fpn_shapes.cascadezoo",
)
Images = Sequence[NDArray[np.uint8]]


def our_stages(model: Detector, images: Images) -> Clock:
    """Seconds of each stage, and how many detections there are."""
    clock, detections = run_stages(model, images)
    return {**clock, "detections": detections}


def our_whole(model: Detector, images: Images) -> None:
    """Images to detections with run lengths."""
    for number, found in enumerate(model.detect([model.resize(image) for image in images])):
        found.to_coco(number)


def our_clock(model: Detector, images: Images) -> Clock:
    """``our_stages``, and as ``whole`` the seconds of ``our_whole``."""
    clock = our_stages(model, images)
    with timed(clock, "whole", next(model.parameters()).device):
        our_whole(model, images)
    return clock


def their_input(images: Images, device: torch.device) -> list[Tensor]:
    """The images as torchvision takes them."""
    return [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255 for image in images]


def their_stages(model: Any, images: Images, device: torch.device) -> Clock:
    """``our_stages`` of torchvision's network, whose masks are pasted and not encoded."""
    clock: Clock = {}
    with timed(clock, "preprocess", device):
        batch, _ = model.transform(their_input(images, device))
    with timed(clock, "backbone+neck", device):
        features = model.backbone(batch.tensors)
    with timed(clock, "rpn", device):
        proposals, _ = model.rpn(batch, features)
    heads = model.roi_heads
    with timed(clock, "box stages", device):
        pooled = heads.box_roi_pool(features, proposals, batch.image_sizes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
    with timed(clock, "postprocess", device):
        boxes, scores, labels = heads.postprocess_detections(logits, deltas, proposals, batch.image_sizes)
    with timed(clock, "masks", device):
        pooled, flat = heads.mask_roi_pool(features, boxes, batch.image_sizes), torch.cat(labels)
        masks = heads.mask_predictor(heads.mask_head(pooled))[torch.arange(len(flat)), flat].sigmoid()
        rows = masks[:, None].split([len(each) for each in labels])
    with timed(clock, "postprocess", device):
        result = [
            {"boxes": b, "labels": n, "scores": s, "masks": m}
            for b, n, s, m in zip(boxes, labels, scores, rows, strict=True)
        ]
        result = model.transform.postprocess(result, batch.image_sizes, [image.shape[:2] for image in images])
    clock["detections"] = sum(len(found["boxes"]) for found in result)
    return clock


def their_whole(model: Any, images: Images, device: torch.device) -> None:
    """Images to detections with pasted masks."""
    found = model(their_input(images, device))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    assert len(found) == len(images)


def _their_clock(model: Any, images: Images, device: torch.device) -> Clock:
    clock = their_stages(model, images, device)
    with timed(clock, "whole", device):
        their_whole(model, images, device)
    return clock


@torch.inference_mode(False)
@torch.no_grad()
def random_model(entry: str, image: NDArray[np.uint8], device: str | torch.device) -> Detector:
    """An entry's network with random weights that find a full number of detections in this image.

    Its weights are no inference tensors, whose norms would be folded anew at every forward.
    """
    model = _drawn(entry, device)
    batch = model.prepare([model.resize(image)])
    features = model.extract(batch.pixels)
    scored = model.refine(features, model.rpn(features, batch.sizes), batch.sizes)
    return _drawn(entry, device, box_score_thresh=_threshold(scored.probabilities[..., :-1]))


def _drawn(entry: str, device: str | torch.device, box_score_thresh: float | None = None) -> Detector:
    """The same random weights each time; grey levels that the network does not divide by their spread are divided by
    the first layer, or boxes would be as large as the image, or nothing."""
    torch.manual_seed(0)
    model = cascadezoo.load(entry, device=device, box_score_thresh=box_score_thresh)
    first = next(weight for weight in model.backbone.parameters() if weight.ndim == 4)
    first.mul_(min(1, max(model.spec.preprocess.std) / SPREAD))
    return model


@torch.inference_mode()
def torchvision_model(image: NDArray[np.uint8], device: torch.device) -> Any:
    """torchvision's Mask R-CNN with random weights that find a full number of detections in this image."""
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval().to(device)
    images, _ = model.transform(their_input([image], device))
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


def measure(
    entry: str,
    weights: str | None,
    image: NDArray[np.uint8],
    device: torch.device,
    runs: int,
    precision: str = "fp32",
    batch_size: int = 1,
) -> dict[str, Any]:
    """Milliseconds of both networks by stage and whole, ``runs`` counted runs each in turn after one warm-up.

    A batch holds copies of the image.  ``precision``: a name of ``PRECISIONS``.
    """
    ours = cascadezoo.load(entry, weights=weights, device=device) if weights else random_model(entry, image, device)
    theirs = torchvision_model(image, device)
    images = [image] * batch_size
    ways: dict[str, Callable[[], Clock]] = {
        "cascadezoo": partial(our_clock, ours, images),
        "torchvision": partial(_their_clock, theirs, images, device),
    }
    with torch.inference_mode(), computing(device, precision):
        clocks = in_turn(ways, runs)
    totals = {name: [total(clock) for clock in each] for name, each in clocks.items()}
    ratios = [ours / theirs for ours, theirs in zip(totals["cascadezoo"], totals["torchvision"], strict=True)]
    return {
        "entry": entry,
        "weights": "given" if weights else "random",
        "image": list(image.shape[:2]),
        "network_input": [ours.spec.preprocess.min_size, ours.spec.preprocess.max_size],
        "device": device.type,
        "precision": precision,
        "tf32": precision == "tf32",
        "batch_size": batch_size,
        "runs": runs,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "detections": {name: int(each[0]["detections"]) for name, each in clocks.items()},
        "stages_ms": {n: {s: spread([1000 * c[s] for c in each]) for s in STAGES} for n, each in clocks.items()},
        "total_ms": {name: spread([1000 * t for t in each]) for name, each in totals.items()},
        "whole_ms": {name: spread([1000 * c["whole"] for c in each]) for name, each in clocks.items()},
        "ratio_cascadezoo_to_torchvision": spread(ratios),
    }


def optimised(model: Detector) -> dict[str, Detector]:
    """What can be made of a model on this processor, by precision."""
    return {name: model.optimize(device=CPU, precision=name) for name in ("fp32", *["bf16"] * has_bfloat16())}


def summary(clocks: Sequence[Clock]) -> dict[str, Any]:
    """What ``our_stages`` says in some runs: detections, milliseconds of each stage and of their sum."""
    return {
        "detections": int(clocks[0]["detections"]),
        "stages_ms": {stage: spread([1000 * clock[stage] for clock in clocks]) for stage in STAGES},
        "total_ms": spread([1000 * total(clock) for clock in clocks]),
    }


def total(clock: Clock) -> float:
    """The seconds of all stages."""
    return sum(clock[stage] for stage in STAGES)


@torch.inference_mode()
def measure_entries(entries: Sequence[str], image: NDArray[np.uint8], runs: int) -> Iterator[dict[str, Any]]:
    """Milliseconds of each entry on the CPU with random weights, plain and optimised, ``runs`` runs of all in turn."""
    for entry in entries:
        model = random_model(entry, image, CPU)
        models = {PLAIN: model, **optimised(model)}
        with computing(CPU, "fp32"):
            clocks = in_turn({name: partial(our_stages, each, [image]) for name, each in models.items()}, runs)
        seconds = {name: [total(clock) for clock in each] for name, each in clocks.items()}
        yield {
            "entry": entry,
            "network_input": [model.spec.preprocess.min_size, model.spec.preprocess.max_size],
            "ways": {name: summary(each) for name, each in clocks.items()},
            "times_faster_than_plain": {
                name: spread([plain / fast for plain, fast in zip(seconds[PLAIN], seconds[name], strict=True)])
                for name in clocks
                if name != PLAIN
            },
        }


def _entries(options: argparse.Namespace, image: NDArray[np.uint8]) -> dict[str, Any]:
    rows = []
    for row in measure_entries(options.entries or ENTRIES, image, options.runs):
        rows.append(row)
        print(row["entry"])
        for name, way in row["ways"].items():
            stages = ", ".join(f"{stage} {ms['median']:.0f}" for stage, ms in way["stages_ms"].items())
            print(f"    {name:6}{way['total_ms']['median']:9.0f} ms: {stages}", flush=True)
    return {
        "benchmark": "latency of entries",
        "image": list(image.shape[:2]),
        "runs": options.runs,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "rows": rows,
    }


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'stage, median ms':18}{'cascadezoo':>12}{'torchvision':>13}"]
    for stage in STAGES:
        row = [report["stages_ms"][name][stage]["median"] for name in ("cascadezoo", "torchvision")]
        lines.append(f"{stage:18}{row[0]:12.1f}{row[1]:13.1f}")
    for name, times in (("total", report["total_ms"]), ("whole, unfenced", report["whole_ms"])):
        row = [times[name]["median"] for name in ("cascadezoo", "torchvision")]
        lines.append(f"{name:18}{row[0]:12.1f}{row[1]:13.1f}")
    ratio = report["ratio_cascadezoo_to_torchvision"]
    lines.append(
        f"ratio of the totals {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), batch "
        f"{report['batch_size']}, {report['precision']}, {report['device']}, {report['threads']} threads"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Latency of an entry by stage, beside torchvision's Mask R-CNN.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--weights", help="canonical file or the publisher's own; default: random")
    parser.add_argument("--image", help="an image; default: a generated one of 480x640")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="default: float32 without TF32")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--entries", nargs="*", metavar="NAME", help="one entry of each kind, or these, on the CPU")
    parser.add_argument("--output", type=Path, help="default: latency.json or latency_entries.json with the results")
    options = parser.parse_args()
    image = read_image(options.image) if options.image else scene()
    if options.entries is not None:
        report, output = _entries(options, image), options.output or RESULTS / "latency_entries.json"
    else:
        output = options.output or RESULTS / "latency.json"
        report = measure(
            options.entry, options.weights, image, torch.device(options.device), options.runs,
            precision=options.precision, batch_size=options.batch_size,
        )  # fmt: skip
        print(_table(report))
    write_report(output, report)
    print(f"written to {output}")


if __name__ == "__main__":
    main()
