"""The section of docs/speed.md about tiles, from its report."""

from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine


def tiling(report: dict[str, Any]) -> list[str]:
    """Recall, precision, time and memory of each way to detect on one large image."""
    height, width = report["image"]
    tiles = report["tiles"]
    recalls = " | ".join(f"recall, {name}" for name in report["objects"])
    objects = ", ".join(f"{count} {name}" for name, count in report["objects"].items())
    return [
        "## Tiles",
        "",
        f"A drawn image of {width}x{height} pixels with {sum(report['objects'].values())} objects ({objects}), "
        f"`{report['entry']}`, {report['threads']} threads,",
        f"compiled operators: {', '.join(report['compiled_ops']) or 'none'}.  {tiles['count']} tiles of "
        f"{tiles['size']} pixels that share {tiles['overlap']}: a small object is whole in some tile,",
        "one that is cut may be, a large one never is.  Masks of a score of 0.5 or more, by an IoU of 0.5 with an",
        "object of their class.  *Again*: detections of an object that a better one is of already; *other*: of none.",
        "Each way is a process of its own, its memory with imports and weights ([tiles.md](tiles.md)).",
        f"({machine(report)}; `tiling.json`)",
        "",
        f"| | {recalls} | precision | again | other | seconds | peak MiB |",
        f"|---|{'---|' * (len(report['objects']) + 5)}",
        *(_row(row, list(report["objects"])) for row in report["rows"]),
        "",
    ]


def _row(row: dict[str, Any], names: list[str]) -> str:
    figures = row["segm"]
    recall = " | ".join(f"{figures['recall'][name]:.3f}" if name in figures["recall"] else "" for name in names)
    precision = "none" if figures["precision"] is None else f"{figures['precision']:.3f}"
    return (
        f"| {row['way']} | {recall} | {precision} | {figures['again']} | {figures['other']} | {row['seconds']:.1f} "
        f"| {row['peak_bytes'] / 2**20:.0f} |"
    )
