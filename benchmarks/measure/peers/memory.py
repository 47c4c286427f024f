"""The memory that a network takes while it is loaded and while it runs, in a process of its own, as Linux counts it."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from cascadezoo.benchmarks.measure.peers.contender import Contender, Made, Setting
from cascadezoo.benchmarks.measure.results import process_memory

Given = ParamSpec("Given")
Result = TypeVar("Result")


def peak(contender: Contender[Made], setting: Setting, threads: int) -> dict[str, int]:
    """Bytes that this process has at its highest: when all is imported, while the network is loaded, and then while it
    runs on the image."""
    torch.set_num_threads(threads)
    contender.why_not(setting.entry)
    imported = process_memory("VmHWM")
    way = contender.make(setting).way
    loading = process_memory("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what there is now
    with torch.inference_mode(), way.arithmetic():
        way.whole()
    return {"imported_bytes": imported, "loading_bytes": loading, "inference_bytes": process_memory("VmHWM")}


def apart(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What ``work`` gives in a new process, which shares nothing with this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()
