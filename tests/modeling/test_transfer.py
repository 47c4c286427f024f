"""Many tensors, one copy, in either direction."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.detections import rles_of, to_coco_of
from cascadezoo.modeling.transfer import to_device, to_host

from tiny import lively, tiny

MIXED = [
    torch.tensor([True, False, True]),
    torch.tensor([[1.5, -2.0, float("inf")]]),
    torch.empty(0, 4),
    torch.tensor(7),
    torch.arange(5, dtype=torch.uint8),
    torch.tensor([0.5, 3.0], dtype=torch.float16),
    torch.arange(12.0, dtype=torch.float64).view(3, 4).T,
    torch.arange(12.0).view(4, 3)[:, 1],
]


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Copies(TorchDispatchMode):
    """Counts the copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].device != torch.device(kwargs.get("device") or args[0].device)
        elif func is torch.ops.aten.copy_.default:
            self.count += args[0].device != args[1].device
        return func(*args, **(kwargs or {}))


def up(tensors, device):
    return to_device(tensors, torch.device(device))


def down(tensors, device):
    return to_host([tensor.to(device) for tensor in tensors])


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("move", [up, down])
def test_what_arrives_is_what_was_sent(move, device: str) -> None:
    there = [tensor.cpu() for tensor in move(MIXED, device)]
    assert [x.dtype for x in there] == [x.dtype for x in MIXED]
    assert all(torch.equal(one, other) for one, other in zip(there, MIXED, strict=True))
    there[1].zero_()
    assert MIXED[1][0, 0] == 1.5


def test_what_arrives_has_no_gradients() -> None:
    (there,) = to_host([torch.ones(2, requires_grad=True) * 2])
    assert there.tolist() == [2, 2]
    assert not there.requires_grad


def test_a_batch_of_images_goes_up_in_one_copy() -> None:
    model = lively(tiny())
    sizes = [(60, 90), (64, 96), (33, 40)]
    images = [model.resize(random_image(*size)) for size in sizes]
    on_host = model.prepare(images)
    model.to("meta")
    with Copies() as copies:
        batch = model.prepare(images)
    assert copies.count == 1
    assert [x.shape for x in batch] == [x.shape for x in on_host]
    assert {x.device.type for x in batch} == {"meta"}


def test_detections_come_back_in_one_copy(monkeypatch) -> None:
    sent: list[list[Tensor]] = []

    def counted(tensors):
        sent.append(tensors)
        return to_host(tensors)

    for module in ("postprocess.to_host", "transfer.to_host"):
        monkeypatch.setattr(f"cascadezoo.modeling.{module}", counted)
    monkeypatch.setattr("cascadezoo.detections.to_host", counted)
    model = lively(tiny())
    found = model.predict([random_image(60, 90)] * 2, batch_size=2)
    assert len(sent) == 1
    assert len(found[0]) > 5
    found[0].to_coco(1)
    assert len(sent) == 2


def test_a_batch_costs_one_copy_and_its_run_lengths_a_second(monkeypatch) -> None:
    sent: list[int] = []

    def counted(tensors):
        sent.append(len(tensors))
        return to_host(tensors)

    monkeypatch.setattr("cascadezoo.modeling.postprocess.to_host", counted)
    monkeypatch.setattr("cascadezoo.detections.to_host", counted)
    monkeypatch.setattr("cascadezoo.mask_rles._at_once", lambda probabilities: True)  # as on a GPU
    model = lively(tiny())
    found = model.predict([random_image(60, 90)] * 3, batch_size=3)
    assert sent == [4]  # boxes, scores, labels, counts of all three
    rles = rles_of(found)
    assert sent == [4, 6]  # run ends and their counts of each
    records = to_coco_of(found, [1, 2, 3])
    assert sent == [4, 6, 15]
    assert [len(one) for one in records] == [len(one) for one in rles] == [len(one) for one in found]
    assert records[2] == found[2].to_coco(3)
    assert [record["segmentation"] for record in records[1]] == rles[1] == found[1].rles()
