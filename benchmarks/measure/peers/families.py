"""A network of each later kind, ours and mmdetection's: ``python -m cascadezoo.benchmarks.measure.peers.families``.

As ``python -m cascadezoo.benchmarks.measure.peers`` does it, without memory and training: whole networks, and their
backbones with the neck.  mmdetection runs its own networks and Swin Transformer's.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import torch
from numpy.typing import NDArray

from cascadezoo.benchmarks.measure.latency import random_model, scene
from cascadezoo.benchmarks.measure.peers import features, latency, mmdetection
from cascadezoo.benchmarks.measure.peers.contender import CPU, disagreeing, setting
from cascadezoo.benchmarks.measure.peers.ours import OURS
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.ops.library import COMPILED

ENTRIES = (
    "mask_swin_t_fpn_3x.swin",
    "cascade_mask_convnext_t_fpn_3x.mmdet",
    "cascade_mask_r50_dconv_c3c5_fpn_1x.mmdet",
    "cascade_mask_r50_fpn_3x.detectron2",
    "cascade_mask_vitdet_b_100ep.detectron2",
    "mask_internimage_t_fpn_3x.internimage",
)
NETWORKS = {name: OURS[name] for name in ("plain", "optimized", "optimized, bf16")}
EXTRACTORS = {name: features.CONTENDERS[name] for name in ("plain", "optimized")}


def measure(entry: str, image: NDArray[Any], runs: int) -> dict[str, Any]:
    """One network: what ``latency.measure`` and ``features.measure`` give."""
    with TemporaryDirectory(prefix="cascadezoo-") as name:
        model = random_model(entry, image, CPU)
        given = setting(model, entry, image, Path(name))
        return {
            "entry": given.entry,
            "network_input": list(model.prepare([model.resize(image)]).pixels.shape[2:]),
            "latency": latency.measure({**NETWORKS, "mmdetection": mmdetection.CONTENDER}, given, runs),
            "features": features.measure({**EXTRACTORS, "mmdetection": mmdetection.EXTRACTOR}, given, runs),
        }


def main() -> int:
    """Measure, print the medians, write the report; 1 where mmdetection does not find what ours finds."""
    parser = argparse.ArgumentParser(description="A network of each later kind, ours and mmdetection's.")
    parser.add_argument("--entries", nargs="+", metavar="NAME", default=ENTRIES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each way")
    parser.add_argument("--output", type=Path, default=RESULTS / "families.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    image, found = scene(), []
    for entry in options.entries:
        found.append(measure(entry, image, options.runs))
        print(entry)
        for row in found[-1]["latency"]["rows"]:
            print(f"    {row['way']:18}{row['whole_ms']['median'] / 1000:8.2f} s   agrees: {row['agrees']}")
        for row in found[-1]["features"]["rows"]:
            print(
                f"    features, {row['way']:12}{row['milliseconds']['median'] / 1000:4.2f} s   agrees: {row['agrees']}"
            )
        for way, why in found[-1]["latency"]["missing"].items():
            print(f"    without {way}: {why}")
    write_report(
        options.output,
        {
            "benchmark": "families",
            "image": list(image.shape[:2]),
            "runs": options.runs,
            "threads": options.threads,
            "compiled_ops": list(COMPILED),
            "networks": found,
        },
    )
    print(f"written to {options.output}")
    wrong = [
        f"{row['entry']}: {name}"
        for row in found
        for name in disagreeing({part: row[part] for part in ("latency", "features")})
    ]
    if wrong:
        print(f"another network's results: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
