"""The memory that one inference takes, in a process of its own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

import torch

from cascadezoo.benchmarks.measure.peers.contender import Contender, Made, Setting
from cascadezoo.benchmarks.measure.results import process_memory

Given = ParamSpec("Given")
Result = TypeVar("Result")


def peak(contender: Contender[Made], setting: Setting, threads: int) -> dict[str, int]:
    """Bytes of this process at its highest: once all is imported, once the network is loaded, and after one image."""
    torch.set_num_threads(threads)
    contender.why_not(setting.entry)
    imported = process_memory("VmHWM")
    way = contender.make(setting).way
    loaded = process_memory("VmHWM")
    with torch.inference_mode(), way.arithmetic():
        way.whole()
    return {"imported_bytes": imported, "loaded_bytes": loaded, "peak_bytes": process_memory("VmHWM")}


def apart(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What ``work`` gives in a new process, which shares nothing with this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()
