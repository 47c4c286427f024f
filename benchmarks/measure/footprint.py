"""Memory and time of one image at an entry's published scale: ``python -m cascadezoo.benchmarks.measure.footprint``.

Each entry runs in a fresh process on the CPU with random weights, whose class scores are made equal, so that there
are a hundred detections with their masks.  Memory is the process's highest resident set, imports and weights included.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report

# the heaviest of each kind: entry, with test-time augmentation or without, optimised or not
ENTRIES = (
    ("cascade_mask_r50_fpn_1x.mmdet", False, False),
    ("cascade_mask_r50_fpn_1x.mmdet", False, True),
    ("cascade_mask_internimage_l_fpn_1x.internimage", False, False),
    ("cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron", False, False),
    ("cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron", True, False),
    ("cascade_mask_swin_l_50ep.detectron2", False, False),
    ("cascade_mask_swin_l_50ep.detectron2", False, True),
    ("cascade_mask_vitdet_h_75ep.detectron2", False, False),
    ("cascade_mask_vitdet_h_75ep.detectron2", False, True),
)


def measure(name: str, tta: bool, optimised: bool) -> dict[str, Any]:
    """One image of 600 x 1000 in this process, of which an optimised model has been made before."""
    import torch

    import cascadezoo
    from cascadezoo.benchmarks.measure.latency import scene
    from cascadezoo.ops.library import COMPILED

    torch.manual_seed(0)
    model = cascadezoo.load(name)
    for head in model.box_heads:
        torch.nn.init.zeros_(head.get_parameter("cls_score.weight"))
        torch.nn.init.constant_(head.get_parameter("cls_score.bias")[:8], 10.0)
    if optimised:
        model = model.optimize()
    start = time.perf_counter()
    detections = model.predict(scene(600, 1000), tta=tta)
    detections.rles()
    return {
        "entry": name,
        "tta": tta,
        "optimised": optimised,
        "image": [600, 1000],
        "network_input": [model.spec.preprocess.min_size, model.spec.preprocess.max_size],
        "compiled_ops": list(COMPILED),
        "detections": len(detections),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_bytes": process_memory("VmHWM"),
    }


def run_fresh(name: str, tta: bool, optimised: bool) -> dict[str, Any]:
    """The result of ``measure`` in a new process."""
    code = (
        "import json, sys; from cascadezoo.benchmarks.measure.footprint import measure; "
        "print(json.dumps(measure(sys.argv[1], *(each == 'True' for each in sys.argv[2:]))))"
    )
    command = [sys.executable, "-c", code, name, str(tta), str(optimised)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the report that is there, if one is."""
    return list(json.loads(path.read_text("utf-8"))["rows"]) if path.exists() else []


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Peak memory and time of one image at the published scale.")
    parser.add_argument("entries", nargs="*", help="measure these alone, and keep the report's rows of the others")
    parser.add_argument("--output", type=Path, default=RESULTS / "footprint.json")
    options = parser.parse_args()
    output: Path = options.output
    kept = [row for row in _rows(output) if row["entry"] not in options.entries] if options.entries else []
    rows = []
    print(f"{'entry':52}{'tta':>5}{'optimised':>11}{'seconds':>9}{'peak GiB':>10}")
    for name, tta, optimised in ENTRIES:
        if options.entries and name not in options.entries:
            continue
        row = run_fresh(name, tta, optimised)
        rows.append(row)
        kind = f"{'yes' if tta else 'no':>5}{'yes' if optimised else 'no':>11}"
        print(f"{name:52}{kind}{row['seconds']:9.1f}{row['peak_bytes'] / 2**30:10.2f}", flush=True)
    write_report(output, {"benchmark": "footprint", "rows": [*kept, *rows]})
    print(f"written to {output}")


if __name__ == "__main__":
    main()
