"""The README's paragraph and chart about speed, from ``peers.json``."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.bar_chart import Bar, bar_chart
from cascadezoo.benchmarks.measure.operator_sections import machine

README = Path("README.md")
CHART = "peers.svg"
BEGIN = "<!-- speed: written by python -m cascadezoo.benchmarks.measure.pages -->"
END = "<!-- end of speed -->"

_OURS = {"plain": "cascadezoo", "optimized": "cascadezoo, optimize()"}
_OTHERS = {"mmdetection": "mmdetection", "torchvision": "torchvision's Mask R-CNN"}

Report = dict[str, Any]


def with_speed(text: str, results: Path) -> str:
    """The README's ``text`` with what stands between the two marks written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    paragraph = _paragraph(json.loads((results / "peers.json").read_text()))
    return f"{before}{BEGIN}\n{paragraph}\n{END}{after}"


def peers_chart(report: Report) -> dict[str, str]:
    """Seconds an image takes, the slowest first, as a chart by the name of its file."""
    seconds = _seconds(report)
    names = {**_OURS, **_OTHERS}
    bars = [
        Bar(names[way], seconds[way], f"{seconds[way]:.2f} s", way in _OURS)
        for way in sorted(seconds, key=lambda way: -seconds[way])
    ]
    return {CHART: bar_chart(f"Seconds an image takes: {_setting(report)}", bars)}


def _paragraph(report: Report) -> str:
    faster = {way: report["latency"]["times_faster"]["optimized"][way]["whole"]["median"] for way in _OTHERS}
    rows = {row["way"]: row for row in report["latency"]["rows"] if row["way"] in ("mmdetection", "optimized")}
    mmdetection = rows["mmdetection"]
    paired = min(row["difference"]["paired"] for row in rows.values())
    return "\n".join([
        f"![A chart of the seconds that an image takes in each program](docs/images/{CHART})",
        "",
        f"`{report['entry']}`, {_setting(report)}, float32, from the image to encoded masks",
        f"(the others' to pasted ones), medians of {report['latency']['runs']} runs in turn: `model.optimize()`",
        f"makes it {faster['mmdetection']:.1f} times as fast as mmdetection,",
        f"with the same weights and {paired} of its {mmdetection['detections']} detections, and "
        f"{faster['torchvision']:.1f} times as fast as torchvision's Mask R-CNN, which has one",
        "stage where a cascade has three.",
        f"({machine(report)}, mmdetection {mmdetection['versions']['mmdet']}; compiled operators: "
        f"{', '.join(report['compiled_ops']) or 'none'}; `benchmarks/results/peers.json`)",
    ])  # fmt: skip


def _setting(report: Report) -> str:
    image, size = ("x".join(map(str, report[key])) for key in ("image", "network_input"))
    return f"{image} at {size}, {report['threads']} threads of a CPU"


def _seconds(report: Report) -> dict[str, float]:
    """Of the whole way in float32, by program."""
    rows = {row["way"]: row["whole_ms"]["median"] / 1000 for row in report["latency"]["rows"]}
    return {way: rows[way] for way in (*_OURS, *_OTHERS)}
