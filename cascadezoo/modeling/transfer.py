"""Tensors between the host and a device: any number of them in one copy, since each copy costs more than its bytes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on ``device``; for a GPU from pinned memory, so that the host does not wait for the copy."""
    parts = _bytes(tensors)
    size = sum(len(part) for part in parts)
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    return _tensors(torch.cat(parts, out=packed).to(device, non_blocking=True), tensors)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device on the host, as copies without gradients; waits until the device has computed them."""
    return _tensors(torch.cat(_bytes([tensor.detach() for tensor in tensors])).cpu(), tensors)


def _order(tensors: Sequence[Tensor]) -> list[int]:
    """The tensors of the largest elements first: then each lies where its elements may."""
    return sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size())


def _bytes(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensors[index].reshape(-1).view(torch.uint8) for index in _order(tensors)]


def _tensors(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    order = _order(like)
    parts = packed.split([like[index].nbytes for index in order])
    found = {i: part.view(like[i].dtype).view(like[i].shape) for i, part in zip(order, parts, strict=True)}
    return [found[index] for index in range(len(like))]
