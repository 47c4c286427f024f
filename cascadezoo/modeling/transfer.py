"""Tensors between the host and a device: any number of them in one copy, since each copy costs more than its bytes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on ``device``; for a GPU from pinned memory, so that the host does not wait for the copy."""
    parts = _bytes(tensors)
    size = sum(len(part) for part in parts)
    pinned = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    return unpacked(torch.cat(parts, out=pinned).to(device, non_blocking=True), tensors)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device on the host, as copies without gradients; waits once, until they are computed and there."""
    return unpacked(_fetched(packed(tensors)), tensors)


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors of one device as one tensor there, without gradients."""
    return torch.cat(_bytes([tensor.detach() for tensor in tensors]))


def unpacked(packet: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that ``packed`` has made of some that were ``like`` these, as views of the bytes."""
    order = _order(like)
    parts = packet.split([like[index].nbytes for index in order])
    found = {i: part.view(like[i].dtype).view(like[i].shape) for i, part in zip(order, parts, strict=True)}
    return [found[index] for index in range(len(like))]


def _fetched(there: Tensor) -> Tensor:
    if not there.is_cuda:
        return there.cpu()
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)  # what a GPU writes to by itself
    here.copy_(there, non_blocking=True)
    torch.cuda.current_stream(there.device).synchronize()
    return here


def _order(tensors: Sequence[Tensor]) -> list[int]:
    """The tensors of the largest elements first: then each lies where its elements may."""
    return sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size())


def _bytes(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensors[index].reshape(-1).contiguous().view(torch.uint8) for index in _order(tensors)]
