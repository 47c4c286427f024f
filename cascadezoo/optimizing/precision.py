"""What an optimised model may compute in, and on which device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from cascadezoo.devices import full_float32, tf32, usable
from cascadezoo.errors import UsageError, WrongType

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The type of weights and features, by the name of a precision."""

_FROM_AMPERE = (8, 0)  # compute capability of the first GPUs with TF32 and bfloat16


class Settings(NamedTuple):
    """What ``Detector.optimize`` was asked for, checked.

    Attributes:
        device: where the model computes.
        precision: a name of ``DTYPES``.
        cuda_graph: whether batches are recorded as CUDA graphs.
        compile: whether ``torch.compile`` makes what is run.
        exact: whether convolutions on a CPU are plain sums, without Winograd's way.
    """

    device: torch.device
    precision: str
    cuda_graph: bool
    compile: bool
    exact: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and features."""
        return DTYPES[self.precision]

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Inside, the model computes as it was asked to, whatever its caller has switched on: without gradients and
        autocast, in full float32 or in TF32; what it makes are no inference tensors."""
        float32 = tf32 if self.precision == "tf32" else full_float32
        with torch.inference_mode(False), torch.no_grad(), float32(), torch.autocast(self.device.type, enabled=False):
            yield


def settings(
    device: torch.device | str | int, precision: object, cuda_graph: bool | None, compile: bool, exact: bool = False
) -> Settings:
    """The settings, once they are known to be possible here.

    Raises:
        MissingResource: the device is not there.
        UsageError: the device does not compute in this precision, or has no CUDA graphs; no such precision.
        WrongType: ``cuda_graph``, ``compile`` or ``exact`` is no truth value.
    """
    chosen = usable(device)
    for name, value in {"cuda_graph": cuda_graph, "compile": compile, "exact": exact}.items():
        if not isinstance(value, bool) and not (name == "cuda_graph" and value is None):
            raise WrongType(f"{name}: give True or False, not {value!r}")
    if not isinstance(precision, str) or precision not in DTYPES:
        raise UsageError(f"precision {precision!r}: give fp32, tf32, bf16 or fp16")
    if why := _refusal(precision, chosen):
        raise UsageError(f"precision {precision} on {chosen}: {why}")
    if cuda_graph and chosen.type != "cuda":
        raise UsageError(f"cuda_graph=True on {chosen}: only a CUDA device has CUDA graphs, leave it out")
    graphs = chosen.type == "cuda" if cuda_graph is None else cuda_graph
    return Settings(chosen, precision, graphs, compile, exact)


def _refusal(precision: str, device: torch.device) -> str | None:
    """Why there is no such precision on this device, and what to give instead; None where there is."""
    if precision == "fp32":
        return None
    if device.type == "cpu":
        return {
            "tf32": "TF32 is a number format of GPUs, give fp32 or bf16",
            "fp16": "half precision is for GPUs, give fp32 or bf16",
            "bf16": None
            if has_bfloat16()
            else "this processor has neither avx512_bf16 nor AMX, so that bf16 would be slower than fp32, give fp32",
        }[precision]
    if device.type != "cuda":
        return "only CPUs and CUDA devices compute in other precisions, give fp32"
    if precision != "fp16" and torch.cuda.get_device_capability(device) < _FROM_AMPERE:
        return "this GPU is older than compute capability 8.0, give fp32 or fp16"
    return None


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 numbers by itself (avx512_bf16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
