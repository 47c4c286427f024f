"""The convolutions and matrix products of a network, counted stage by stage on tensors without memory.

What has no products (pooling, suppression, sorting, activations) counts nothing.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

from cascadezoo.modeling.build import build
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import select
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.spec.model import ModelSpec


@register_flop_formula(torch.ops.cascadezoo.deform_conv2d)
def _deform_conv2d(x: Any, offset: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """As of an ordinary convolution; what is read between pixels is no product of a layer."""
    operations: int = 2 * math.prod(out_shape) * math.prod(weight[1:])
    return operations


class Work(NamedTuple):
    """One operator with products: its floating-point operations, and the numbers that it reads and writes."""

    flops: int
    numbers: int


class Counting(TorchDispatchMode):
    """Inside, operators with products are counted, under the name of the stage that they run in."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stages: dict[str, list[Work]] = {}
        self._now: list[Work] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is work of this stage."""
        self._now = self.stages.setdefault(name, [])
        yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket](*args, **kwargs or {}, out_val=out)
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self._now.append(Work(int(flops), sum(x.numel() for x in tensors)))
        return out


@torch.inference_mode(False)  # in it operators are not seen as the ones that they are made of
@torch.no_grad()
def count(
    spec: ModelSpec, size: tuple[int, int], batch_size: int = 1, *, one_mask: bool = False
) -> dict[str, list[Work]]:
    """The products of the network of ``spec`` by stage, for padded images of ``size`` (height, width) and as many
    proposals and detections as it makes at most.

    ``one_mask``: of a detection's masks, one per class, only one is counted.
    """
    with FakeTensorMode(), Counting() as counting:
        network = build(spec, device="meta").eval()
        network.load_state_dict({name: torch.empty(x.shape) for name, x in network.state_dict().items()}, assign=True)
        if one_mask:
            _leave_one_mask(network)
        pixels = torch.empty(batch_size, 3, *size).contiguous(memory_format=torch.channels_last)
        batch = Batch(pixels, *(torch.empty(batch_size, 2) for _ in range(3)))
        with counting.stage("backbone"):
            features = network.backbone(batch.pixels)
        with counting.stage("neck"):
            features = network.neck(features)
        with counting.stage("rpn"):
            proposals = network.rpn(features, batch.sizes)
        with counting.stage("box stages"):
            predictions = network.refine(features, proposals, batch.sizes)
        with counting.stage("postprocess"):
            found = select(predictions, batch, spec.stages[-1], spec.conventions.selection)
        with counting.stage("masks"):
            network.segment(features, found)
    return {stage: works for stage, works in counting.stages.items() if works}


def _leave_one_mask(network: Network) -> None:
    for head in network.mask_heads:
        head.mask_logits = nn.Conv2d(head.get_parameter("mask_logits.weight").shape[1], 1, 1)
