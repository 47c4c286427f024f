"""From the uploaded batch to the packed detections nothing waits for the device.

It is seen on tensors without memory that say they are on a GPU: where a value of theirs is asked for, or a shape that
depends on values, there is none, and that is an error.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.modeling.build import build
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.providers import SPECS


class Copies(TorchDispatchMode):
    """Names the operators between the host and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.total += 1
        tensors = [x for x in [*args, result] if isinstance(x, torch.Tensor)]
        if len({x.device.type for x in tensors}) > 1:
            self.seen.append(str(func))
        return result


def on_a_pretended_gpu(network: Network) -> Network:
    for module in network.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    there = torch.empty_like(tensor, device="cuda")
                    own[name] = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
    return network


@pytest.mark.parametrize(
    ("publisher", "architecture"),
    [
        ("mmdet", "cascade_mask_r50_fpn"),
        ("detectron", "cascade_mask_r50_fpn"),
        ("paddle", "mask_r50_c4"),
        ("internimage", "cascade_mask_internimage_l_fpn"),
        ("cascadezoo", "cascade_mask_r18_fpn"),
    ],
)
def test_the_network_never_waits_for_the_device(publisher: str, architecture: str) -> None:
    spec = SPECS[publisher][architecture]
    rows = spec.conventions.selection.detections_per_img
    with FakeTensorMode(), torch.no_grad():
        network = on_a_pretended_gpu(build(spec, device="meta"))
        images = torch.empty(2, 3, 320, 448, device="cuda").contiguous(memory_format=torch.channels_last)
        with Copies() as copies:
            found = network.infer(Batch(images, *(torch.empty(2, 2, device="cuda") for _ in range(3))))
    assert copies.seen == []
    assert copies.total > 500
    assert {x.device.type for x in found} == {"cuda"}
    assert found.boxes.shape == (2, rows, 4)
    assert found.masks.shape[:2] == (2, rows)


def test_what_waits_is_seen() -> None:
    with FakeTensorMode(), Copies() as copies:
        boxes = torch.empty(3, 4, device="cuda")
        boxes.to("cpu")
        with pytest.raises(DynamicOutputShapeException):
            (boxes > 0).any(1).nonzero()
        with pytest.raises(DataDependentOutputException):
            boxes.max().item()
    assert copies.seen == ["aten._to_copy.default"]
