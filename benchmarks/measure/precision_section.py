"""The section of docs/speed.md about the precisions of an optimised model."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine


def precision_sections(results: Path) -> list[str]:
    """From ``precision.json``; none where it is not there."""
    path = results / "precision.json"
    return _section(json.loads(path.read_text())) if path.exists() else []


def _section(report: dict[str, Any]) -> list[str]:
    large = report["large"]
    height, width = large["image"]
    return [
        "## Optimised models, by precision",
        "",
        "`model.optimize(precision=...)` beside the plain model in float32: pairs of detections of one class whose",
        "boxes overlap by an IoU of 0.9, how far apart the scores and box coordinates (in pixels) of 95 % of these",
        "lie, and the mean IoU of their masks; medians of the milliseconds of an image, with decoding and resizing.",
        f"{report['threads']} threads; compiled operators: {', '.join(report['compiled_ops']) or 'none'}.",
        f"({machine(report)}; `precision.json`)",
        "",
        f"`{report['entry']}`, {report['images']} images:",
        "",
        "| | box AP | mask AP | detections | pairs | scores | boxes | masks | ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['box_ap']:.2f} | {row['mask_ap']:.2f} | {_difference(row)} |"
            for name, row in report["precisions"].items()
        ),
        "",
        f"`{large['entry']}` with random weights, one {height}x{width} image at its published scale:",
        "",
        "| | detections | pairs | scores | boxes | masks | ms |",
        "|---|---|---|---|---|---|---|",
        *(f"| {name} | {_difference(row)} |" for name, row in large["precisions"].items()),
        "",
    ]


def _difference(row: dict[str, Any]) -> str:
    apart = row["difference"]
    masks = "" if apart["mask_iou"] is None else f"{apart['mask_iou']:.4f}"
    return (
        f"{apart['after']} | {apart['paired']} | {apart['score_p95']:.2g} | {apart['box_p95']:.2g} | {masks} | "
        f"{row['image_ms']['median']:.0f}"
    )
