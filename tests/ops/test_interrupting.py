"""Ctrl-C ends the long loops: each of these would run for minutes."""

import os
import signal
import subprocess
import sys

import pytest

SETUP = "import torch; ones = torch.ones; rand = torch.rand\n"
LONG = {
    "nms": """
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import Nms
corner = rand(1, 400_000, 2) * 1e5
boxes, zero = torch.cat((corner, corner + 1), -1), torch.zeros(1, 400_000)
rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
call = lambda: grouped_nms(boxes, rand(1, 400_000), zero.long(), zero == 0, rule, 400_000)
""",
    "nms in one call": """
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import Nms
corner, zero = rand(1, 100_000, 2) * 1e5, torch.zeros(1, 100_000)
boxes, scores = torch.cat((corner, corner + 1), -1), rand(1, 100_000)
rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
call = lambda: [grouped_nms(boxes, scores, zero.long(), zero == 0, rule, 10_000) for _ in range(999)]
""",
    "pasting": """
from cascadezoo.ops.mask_paste import paste_bilinear
boxes = torch.tensor([[0.0, 0, 3e4, 3e4]]).expand(50, 4)
call = lambda: [crop.top for crop in paste_bilinear(ones(50, 28, 28), boxes, 30_000, 30_000)]
""",
    "roi_align": """
from cascadezoo.ops.roi_align import pyramid_roi_align
from cascadezoo.spec.conventions import LevelRule, RoIAlign
rule = LevelRule(size=32, level=0, epsilon=1e-6, extent=0)
align = RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False)
boxes = torch.tensor([[[0.0, 0, 800, 800]]]).expand(1, 400_000, 4)
call = lambda: pyramid_roi_align([ones(1, 1, 200, 200)], boxes, [4], rule, align, 7)
""",
}


@pytest.mark.skipif(os.name != "posix", reason="signals are sent so on POSIX alone")
@pytest.mark.parametrize("name", LONG)
def test_ctrl_c_ends_a_long_loop(name: str) -> None:
    code = f"{SETUP}{LONG[name]}\nimport threading, os, signal\nwith torch.inference_mode():\n"
    code += "    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start(); call()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip().splitlines()[-1].startswith("KeyboardInterrupt")
    assert "in call" in done.stderr or "<lambda>" in done.stderr  # within the loop, not at the end of the process
    assert done.returncode == -signal.SIGINT
