"""The section of docs/speed.md about the precisions of exported files, from its report."""

from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine


def exported(report: dict[str, Any]) -> list[str]:
    """Average precision and size by format and precision."""
    first = report["rows"][0]
    return [
        "## Precisions of exported files",
        "",
        f"`cascadezoo export {report['entry']}` by format and `--precision`: average precision in percent, as the",
        f"command measures it with the format's runtime on {first['accuracy']['images']} drawn images, the size of the",
        f"file, and how far {first['detections']} detections are from PyTorch's.  int8 is calibrated on "
        f"{report['calibration_images']} other images.",
        f"({machine(report)}; `exported.json`)",
        "",
        "| format | precision | box AP | mask AP | MB | boxes differ by up to, pixels | scores | least mask IoU |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, report["rows"]),
        "",
    ]


def _row(row: dict[str, Any]) -> str:
    return (
        f"| {row['format']} ({row['runtime']}) | {row['precision']} | {row['accuracy']['box_ap']:.2f} "
        f"| {row['accuracy']['mask_ap']:.2f} | {row['bytes'] / 1e6:.1f} | {row['box_difference']:.2g} "
        f"| {row['score_difference']:.1g} | {row['mask_iou']:.3f} |"
    )
