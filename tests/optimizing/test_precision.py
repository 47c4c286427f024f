"""In what an optimised model can compute, and where."""

import re

import pytest
import torch

from cascadezoo.errors import MissingResource, UsageError, WrongType
from cascadezoo.optimizing import precision
from cascadezoo.optimizing.precision import DTYPES, Settings, settings


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of compute capability 8.0, another of 7.5, and MPS, as far as settings look."""
    monkeypatch.setattr(precision, "usable", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device.index else (8, 0))


def test_each_precision_has_the_type_of_its_weights(gpu) -> None:
    types = {name: settings("cuda:0", name, None, False).dtype for name in DTYPES}
    float32, bfloat16, float16 = torch.float32, torch.bfloat16, torch.float16
    assert types == {"fp32": float32, "tf32": float32, "bf16": bfloat16, "fp16": float16}


@pytest.mark.parametrize(
    ("device", "given", "graphs"),
    [
        ("cuda:0", None, True),
        ("cuda:0", True, True),
        ("cuda:0", False, False),
        ("cpu", None, False),
        ("cpu", False, False),
    ],
)
def test_cuda_graphs_are_for_cuda(gpu, device: str, given: bool | None, graphs: bool) -> None:
    assert settings(device, "fp32", given, False).cuda_graph is graphs


@pytest.mark.parametrize(
    ("device", "name", "sentence"),
    [
        ("cpu", "tf32", "precision tf32 on cpu: TF32 is a number format of GPUs, give fp32 or bf16"),
        ("cpu", "fp16", "precision fp16 on cpu: half precision is for GPUs, give fp32 or bf16"),
        (
            "cuda:1",
            "tf32",
            "precision tf32 on cuda:1: this GPU is older than compute capability 8.0, give fp32 or fp16",
        ),
        (
            "cuda:1",
            "bf16",
            "precision bf16 on cuda:1: this GPU is older than compute capability 8.0, give fp32 or fp16",
        ),
        ("mps", "fp16", "precision fp16 on mps: only CPUs and CUDA devices compute in other precisions, give fp32"),
        ("cpu", "int8", "precision 'int8': give fp32, tf32, bf16 or fp16"),
        ("cpu", torch.bfloat16, "precision torch.bfloat16: give fp32, tf32, bf16 or fp16"),
        ("cpu", ["fp32"], "precision ['fp32']: give fp32, tf32, bf16 or fp16"),
    ],
)
def test_what_a_device_cannot_is_refused_in_a_sentence(gpu, device: str, name: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
        settings(device, name, None, False)


@pytest.mark.parametrize(("wide", "tiles"), [(False, False), (True, False), (False, True)])
def test_bfloat16_needs_a_processor_that_has_it(monkeypatch: pytest.MonkeyPatch, wide: bool, tiles: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: wide)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    if wide or tiles:
        assert settings("cpu", "bf16", None, False).dtype is torch.bfloat16
        return
    with pytest.raises(UsageError, match=r"on cpu: this processor has neither avx512_bf16 nor AMX.*, give fp32$"):
        settings("cpu", "bf16", None, False)


def test_an_old_gpu_has_half_precision(gpu) -> None:
    assert settings("cuda:1", "fp16", None, False).dtype is torch.float16


def test_arguments_of_other_types_and_devices_that_are_not_there(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongType, match=r"^cuda_graph: give True or False, not 1$"):
        settings("cuda:0", "fp32", 1, False)
    with pytest.raises(WrongType, match=r"^compile: give True or False, not None$"):
        settings("cuda:0", "fp32", None, None)
    with pytest.raises(UsageError, match=r"^cuda_graph=True on cpu: only a CUDA device has CUDA graphs, leave it out$"):
        settings("cpu", "fp32", True, False)
    monkeypatch.undo()
    with pytest.raises(MissingResource, match=r"^there is no device cuda:99 here"):
        settings("cuda:99", "fp32", None, False)


@pytest.mark.parametrize(("name", "inside"), [("fp32", "ieee"), ("tf32", "tf32")])
def test_inside_nothing_of_the_callers_holds(name: str, inside: str) -> None:
    chosen = Settings(torch.device("cpu"), name, False, False)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with chosen.arithmetic():
            assert torch.backends.cuda.matmul.fp32_precision == inside
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
