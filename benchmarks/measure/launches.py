"""What a GPU is asked to do for one batch, counted without one: ``python -m cascadezoo.benchmarks.measure.launches``.

A network in its lean form runs, from the uploaded batch to the packed detections, on tensors without memory that say
they are on a GPU, with the CUDA operators taken as loaded.  A launching operator is one of ATen or of this project that
is neither a view nor an allocation; how many kernels it launches is its own affair.  What would wait for the device
ends the run: where a value is asked for, or a shape that depends on values, there is none.  What copies between the
host and the device is named.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.modeling.build import build
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import DetectionBatch, select
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.transfer import packed
from cascadezoo.ops import roi_align
from cascadezoo.optimizing.lean import lean
from cascadezoo.registry import info, spec_of
from cascadezoo.spec.model import ModelSpec

ENTRIES = (
    "cascade_mask_r50_fpn_1x.mmdet",
    "cascade_mask_r50_fpn_1x.detectron",
    "cascade_mask_r50_vd_ssld_fpn_1x.paddle",
    "mask_r50_c4_1x.paddle",
    "cascade_mask_internimage_l_fpn_1x.internimage",
    "cascade_mask_r18_fpn_shapes.cascadezoo",
)
SIZE = (800, 1344)

T = TypeVar("T")


class Launches(TorchDispatchMode):
    """Counts launching operators by name, and lists what copies from one kind of device to another."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if is_launching(func):
            self.names[str(func)] += 1
        tensors = [x for x in (*args, result) if isinstance(x, Tensor)]
        if len({x.device.type for x in tensors}) > 1:
            self.copies.append(str(func))
        return result


def is_launching(func: Any) -> bool:
    """Whether an operator gives the device something to do: it is neither a view nor an allocation."""
    namespace, _, name = func._schema.name.partition("::")
    is_view = func.is_view or name in ("_unsafe_view", "detach")
    return namespace in ("aten", "cascadezoo") and not is_view and "empty" not in name


class Stage(NamedTuple):
    """What one stage of the network asks of the device."""

    launches: Counter[str]  # by operator
    copies: list[str]  # to the host or from it


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Inside, CUDA tensors have no memory, and the CUDA operators count as loaded."""
    with FakeTensorMode(), torch.no_grad(), patch.object(roi_align, "COMPILED", ("cuda",)):
        yield


def network_there(spec: ModelSpec) -> Network:
    """The network of ``spec``, its tensors on a pretended GPU."""
    network = build(spec, device="meta")
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty_like(parameter, device="cuda"), False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_like(buffer, device="cuda"))
    return network


def batch_there(images: int, size: tuple[int, int]) -> Batch:
    """A batch on a pretended GPU."""
    pixels = torch.empty(images, 3, *size, device="cuda").contiguous(memory_format=torch.channels_last)
    return Batch(pixels, *(torch.empty(images, 2, device="cuda") for _ in range(3)))


def stages_of(network: Network, batch: Batch) -> tuple[dict[str, Stage], DetectionBatch]:
    """What the stages of ``infer``, and the packing of its detections, ask of the device in turn; the detections."""
    stages: dict[str, Stage] = {}

    def run(name: str, stage: Callable[[], T]) -> T:
        with Launches() as launches:
            result = stage()
        stages[name] = Stage(launches.names, launches.copies)
        return result

    maps = run("backbone", lambda: network.backbone(batch.pixels))
    features = run("neck", lambda: network.neck(maps))
    proposals = run("rpn", lambda: network.rpn(features, batch.sizes))
    predictions = run("box stages", lambda: network.refine(features, proposals, batch.sizes))
    coder, rule = network.spec.stages[-1], network.spec.conventions.selection
    chosen = run("selection", lambda: select(predictions, batch, coder, rule))
    found = run("masks", lambda: network.segment(features, chosen))
    run("packing", lambda: packed(found.rows))
    return stages, found


def measure(entry: str) -> dict[str, Any]:
    """Launching operators by stage, and copies between the host and the device, for one image in the lean form."""
    with pretended_gpu():
        stages, _ = stages_of(lean(network_there(spec_of(info(entry)))), batch_there(1, SIZE))
    launches = {name: stage.launches.total() for name, stage in stages.items()}
    copies = [name for stage in stages.values() for name in stage.copies]
    return {"entry": entry, "launches": launches, "total": sum(launches.values()), "copies": copies}


def main() -> None:
    """Count, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS / "launches.json")
    arguments = parser.parse_args()
    rows = [measure(entry) for entry in ENTRIES]
    write_report(arguments.output, {"input": [1, 3, *SIZE], "rows": rows})
    for row in rows:
        print(row["entry"], row["total"], row["launches"])


if __name__ == "__main__":
    main()
