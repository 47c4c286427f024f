"""CUDA graphs, as ``graphs.Graphs`` records and replays them.

https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor

from cascadezoo.ops import library
from cascadezoo.optimizing.graphs import Graphs, Recording

_WARM_UPS = 2  # runs before recording: libraries choose their kernels in the first, and compiled code is made

_recording = Lock()  # of the process: a recording breaks off when another one waits for the device

_log = logging.getLogger("cascadezoo")


def graphs_on(device: torch.device) -> Graphs | None:
    """CUDA graphs on a GPU; None, which is logged, where operators run as PyTorch's, which wait for the device."""
    if "cuda" in library.COMPILED:
        return Graphs(CudaRecorder(device))
    _log.warning(
        "the operators for CUDA are not loaded (%s), so that nothing can be recorded as a CUDA graph: run "
        "`cascadezoo build-ops --cuda`",
        library.STATUS["cuda"],
    )
    return None


class CudaRecorder:
    """Records on one device; all its graphs share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._latest: torch.cuda.Event | None = None  # the end of the last turn

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is done inside follows, on the device, what was done in all earlier turns, whichever stream each of the
        callers is on."""
        with torch.cuda.device(self._device):
            caller = torch.cuda.current_stream()
            if self._latest is not None:
                caller.wait_event(self._latest)
            try:
                yield
            finally:
                self._latest = caller.record_event()

    def record(self, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Recording:
        """The work of ``function(*inputs)`` as a CUDA graph; raises RuntimeError where there can be none."""
        caller = torch.cuda.current_stream()
        with _recording:
            self._stream.wait_stream(caller)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    function(*inputs)
            caller.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # other threads may use the GPU meanwhile, so only this one is kept from what cannot be recorded
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = function(*inputs)
        return Recording(outputs, graph.replay)
