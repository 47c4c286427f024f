"""Two tensors computed from parameters once, and kept for as long as those parameters stay as they are."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]


class Fold(NamedTuple):
    """The weight and the bias of a convolution, and what they were made from.

    Attributes:
        made: weight and bias.
        sources: the memory of the tensors they were made from, held, so that no other can come to lie there.
        versions: how often each of them had been written to, as PyTorch counts it.
    """

    made: Pair
    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, sources: tuple[Tensor, ...], make: Callable[[], Pair]) -> Self:
        """What ``make`` computes from ``sources``."""
        versions = tuple(x._version for x in sources)
        with torch.inference_mode(False), torch.no_grad():  # ordinary tensors: whoever comes next may want gradients
            made = make()
        if sources[0].is_cuda:  # or another thread, on a stream of its own, might read them too early
            torch.cuda.current_stream(sources[0].device).synchronize()
        return cls(made, tuple(x.detach() for x in sources), versions)

    def is_of(self, sources: tuple[Tensor, ...]) -> bool:
        """Whether these are the same tensors, unchanged."""
        return len(sources) == len(self.sources) and all(
            now.data_ptr() == before.data_ptr() and now.stride() == before.stride() and now._version == version
            for now, before, version in zip(sources, self.sources, self.versions, strict=True)
        )


def can_be_kept(sources: tuple[Tensor, ...]) -> bool:
    """Whether something computed from these tensors now may serve another time.

    Not where gradients flow to them, nor where compile, export or a CUDA graph records the computation, nor for tensors
    without memory or whose writes PyTorch does not count.
    """
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(x.requires_grad for x in sources)):
        return False
    if any(type(x) not in (Tensor, nn.Parameter) or x.is_meta or x.is_inference() for x in sources):
        return False
    return not (sources[0].is_cuda and torch.cuda.is_current_stream_capturing())
