"""Where the host waits for the GPU inside the network: nowhere, by the design of ``Network.infer``.

torch's synchronisation debug mode tells of operators that wait (copies to the host, ``nonzero``, ``item``); it does not
see all that can wait, such as memory that is given back to the driver.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.latency import random_model, scene
from cascadezoo.ops.library import COMPILED

ENTRIES = (
    "cascade_mask_r50_fpn_1x.mmdet",
    "cascade_mask_r50_fpn_1x.detectron",
    "mask_r50_c4_1x.paddle",
    "cascade_mask_internimage_l_fpn_1x.internimage",
    "cascade_mask_r18_fpn_shapes.cascadezoo",
)
PRECISIONS = ("fp32", "fp16")
ONE_ENTRY = 8.0  # seconds
_SAYS = "called a synchronizing CUDA operation"  # torch, c10/cuda/CUDAFunctions.cpp


def run(report: Report, device: torch.device) -> None:
    """A row for each entry and precision: how often it waits, and where."""
    report.data["compiled_ops"] = list(COMPILED)
    for entry in ENTRIES:
        if report.has_time(entry, ONE_ENTRY):
            with report.attempt(entry):
                report.data["rows"] += [of_entry(report, entry, precision, device) for precision in PRECISIONS]


@torch.inference_mode()
def of_entry(report: Report, entry: str, precision: str, device: torch.device) -> dict[str, Any]:
    """A row; waits are a failure, named by their places."""
    image = scene()
    model = random_model(entry, image, device)
    batch = model.prepare([model.resize(image)])
    with computing(device, precision):
        model.infer(batch)  # what is made once may wait
        with watched() as places:
            model.infer(batch)
        refused = None
        with debug_mode("error"):
            try:
                model.infer(batch)
            except RuntimeError as error:
                refused = str(error).split("\n")[0]
    if places or refused:
        where = ", ".join(f"{place} ({count})" for place, count in places.items())
        report.fail(f"{entry}, {precision}", f"it waits for the GPU: {where or refused}")
    return {
        "entry": entry,
        "precision": precision,
        "synchronisations": sum(places.values()),
        "places": dict(places),
        "refused": refused,
    }


@contextmanager
def debug_mode(mode: str) -> Iterator[None]:
    """torch's debug mode for what waits for a GPU: ``warn`` or ``error``."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """Count what waits by its place: the innermost line of this project that leads to it."""
    places: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if _SAYS in str(message):
            places[_place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        with debug_mode("warn"):
            yield places


def _place() -> str:
    """The innermost frame of the package, without those of this file."""
    frames = [
        frame
        for frame in traceback.extract_stack()
        if "cascadezoo" in frame.filename and frame.filename != __file__ and "site-packages/torch" not in frame.filename
    ]
    if not frames:
        return "outside cascadezoo"
    return f"{frames[-1].filename.rpartition('cascadezoo/')[2]}:{frames[-1].lineno}"
