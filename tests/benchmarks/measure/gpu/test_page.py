"""The page of figures: sections of the reports that are there, a sentence for those that are not."""

import json
import re
from pathlib import Path

from cascadezoo.benchmarks.measure.gpu.page import gpu_sections
from cascadezoo.benchmarks.measure.gpu.plan import PARTS

ENVIRONMENT = {
    "torch": {"gpu": "NVIDIA H200", "cuda": "13.0"}, "driver": "580.1", "commit": "0123456789", "modified": True,
    "date": "2026-11-26T10:00", "packages": {"torch": "2.11.0"},
}  # fmt: skip
SHARED = {
    "status": "passed",
    "failures": {},
    "left_out": [],
    "environment": ENVIRONMENT,
    "compiled_ops": ["cpu", "cuda"],
}
TESTS = {"collected": 9, "passed": 7, "skipped": 1, "failed": 1}


def spread(median: float) -> dict[str, float]:
    return {"min": median / 2, "median": median, "max": median * 2}


def timed(way: str, precision: str, network: float) -> dict:
    entry = "maskrcnn_resnet50_fpn" if way == "torchvision" else "an_entry.mmdet"
    found = {
        "entry": entry, "way": way, "precision": precision, "batch_size": 1, "runs": 20, "images_per_second": 31.25,
        "network_ms": spread(network), "whole_ms": spread(32.0),
        "stages_ms": {"rpn": spread(1.5), "masks": spread(2.5)},
    }  # fmt: skip
    return found if way == "torchvision" else found | {"roofline_ms": 1.06, "share_of_roofline": 0.25}


PEAKS = {"card": {"source": "NVIDIA's data sheet"}, "measured": {"source": "measured"}}
TARGET = {
    "least": 4.0,
    "times_faster": {"network": spread(5.0), "whole": spread(3.0)},
    "met": {"network": True, "whole": False},
}
APART = {"matched": 0.99, "score": 2e-3, "box": 0.25, "bit_equal": True}
REPORTS = {
    "build": {"rows": [{"kind": "cuda", "library": "cascadezoo_cu13_sm90.so", "seconds": 21.4}]},
    "ops": {"rows": [], "tests": TESTS, "compute_sanitizer": {"memcheck": {"result": "0 errors in 10 tests"}}},
    "sync": {
        "rows": [
            {"entry": "e.mmdet", "precision": "fp16", "synchronisations": 2, "places": {"modeling/rpn.py:7": 2}}
        ]
    },
    "graph": {
        "rows": [
            {
                "entry": "e.mmdet", "precision": "bf16", "from_no_graph": [APART], "from_the_eager_network": [APART],
                "ways": [timed("eager", "bf16", 9.5), timed("optimized", "bf16", 2.5)],
                "times_faster": {"network": spread(3.8)},
            }
        ]
    },
    "latency": {
        "rows": [timed("eager", "fp32", 21.5), timed("torchvision", "fp16", 12.25)],
        "image": [480, 800], "peaks": PEAKS,
        "targets": {"fp16 beside eager": TARGET, "fp16 beside torchvision": None},
    },
    "parity": {
        "rows": [
            {
                "case": "mmdet/r50", "precision": "fp16", "matched": 0.875, "score_p95": 3e-3, "box_p95": 0.5,
                "ok": False,
            }
        ],
        "tests": TESTS,
    },
    "throughput": {"rows": [timed("optimized", "fp16", 15.75)], "image": [480, 800], "peaks": PEAKS},
    "training": {
        "rows": [
            {
                "precision": "bf16", "images_per_second": 30.5, "peak_bytes": 2**33, "share": {"data": 1},
                "seconds": {"data": spread(0.125)},
            }
        ],
        "entry": "e.mmdet", "images": [480, 640], "objects": 7, "batch_size": 4, "workers": 8, "steps": 10,
    },
}  # fmt: skip


def written(folder: Path, **reports: dict) -> str:
    for name, report in reports.items():
        (folder / f"gpu_{name}.json").write_text(json.dumps({**SHARED, **report}))
    return "\n".join(gpu_sections(folder))


def test_without_reports_it_says_that_no_gpu_has_run(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "No GPU has run these:\n\n- the operators compiled" in page
    assert page.count("\n- ") == len(PARTS)
    assert not re.search(r"\d ms", page)


def test_every_report_has_its_figures_on_the_page(tmp_path: Path) -> None:
    assert REPORTS.keys() == {part.name for part in PARTS}
    page = written(tmp_path, **REPORTS)
    assert "No GPU has run" not in page
    where = "NVIDIA H200, driver 580.1, CUDA 13.0, torch 2.11.0, commit 01234567 with changes, 2026-11-26"
    assert page.count(f"({where}; `gpu_") == 8
    for words in (
        "- cuda: `cascadezoo_cu13_sm90.so`, 21 s",
        "Of 9 tests 7 passed, 1 failed and 1 were skipped; compiled operators: cpu, cuda.",
        "- memcheck: 0 errors in 10 tests",
        "| `e.mmdet` | fp16 | 2 | modeling/rpn.py:7 |",
        "| `e.mmdet` | bf16 | yes | 99.0% | 2.0e-03 | 0.25 | 9.50 | 2.50 | 3.80 (1.90 to 7.60) |",
        "| `an_entry.mmdet` | eager | fp32 | 1 | 21.50 (10.75 to 43.00) | 32.00 | 31.2 | 1.06 | 25% |",
        "| `maskrcnn_resnet50_fpn` | torchvision | fp16 | 1 | 12.25 (6.12 to 24.50) | 32.00 | 31.2 | – | – |",
        "Goal, fp16 beside eager, 4 times faster: network 5.00 (2.50 to 10.00), whole 3.00 (1.50 to 6.00)",
        "; met by: network.",
        "Goal, fp16 beside torchvision: not measured.",
        "| network | way | precision | rpn | masks |\n|---|---|---|---|---|",
        "| `an_entry.mmdet` | eager | fp32 | 1.50 | 2.50 |",
        "the card (NVIDIA's data sheet)",
        "| `mmdet/r50` | fp16 | 87.5% | 3.0e-03 | 0.500 | no |",
        "15.75 (7.88 to 31.50)",
        "| bf16 | 30.50 | 8.0 | 0.125 |",
    ):
        assert words in page, words


def test_what_failed_or_was_cut_is_said(tmp_path: Path) -> None:
    cut = {**REPORTS["latency"], "status": "cut", "rows": [], "targets": None, "left_out": ["entry one", "entry two"]}
    broken = {"status": "failed", "failures": {"operators for cuda": "not compiled"}, "rows": []}
    page = written(tmp_path, latency=cut, ops=broken, training={**broken, "status": "running"})
    assert "This part was cut when its time was up.\n\nThere was no time for: entry one; entry two." in page
    assert "This part failed." in page
    assert "- `operators for cuda`: not compiled" in page
    assert "Of 0 tests 0 passed" in page
    assert "This part was interrupted." in page
    assert "No GPU has run these:" in page
