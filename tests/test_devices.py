"""Which device is meant, and what is none."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.devices import full_float32, tf32, usable
from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.modeling.tta import TTASettings


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda size, device: None)


@pytest.mark.parametrize(
    ("given", "local", "meant"),
    [
        (None, None, "cuda"),
        (None, 1, "cuda:1"),
        ("cuda", 1, "cuda:1"),
        ("cuda:0", 1, "cuda:0"),
        ("cpu", 1, "cpu"),
        (torch.device("cuda"), None, "cuda"),
    ],
)
def test_each_process_takes_its_own_gpu(gpus: None, given: str | None, local: int | None, meant: str) -> None:
    assert str(usable(given, local)) == meant


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(usable(None)) == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "", "cuda:-1", 2**70, 1.5, True, ["cuda"], "meta", "foo:0"])
def test_what_names_no_device_is_refused_before_anything_is_read(name: object) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(repr(name))} names no device: give cpu, cuda, cuda:N or mps$"):
        cascadezoo.load("cascade_r50_fpn_1x", weights="no_such_file", device=name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cuda:99", "cuda:99"),
        (99, "cuda:99"),
        (torch.device("cuda:99"), "cuda:99"),
        ("mps", "mps"),
        ("privateuseone", "privateuseone"),  # a kind that torch has a name for, and no module
        ("hpu:1", "hpu:1"),
        ("cuda:256", "cuda:256"),  # torch keeps 8 bits of the number: cuda:0
        (300, "cuda:300"),
        ("cpu:256", "cpu:256"),
    ],
)
def test_p12_a_device_that_is_not_there_is_missing(name: object, meant: str) -> None:
    """One short line, whatever torch says of it; exit code 3."""
    with pytest.raises(MissingResource, match=f"^there is no device {meant} here: torch can use cpu[a-z0-9:, ]*$"):
        cascadezoo.load("cascade_r50_fpn_1x", weights="no_such_file", device=name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1", 0])
def test_p12_without_a_gpu_none_is_the_cpu_in_disguise(name: object) -> None:
    with pytest.raises(MissingResource, match=r"torch can use cpu$"):
        usable(name)


# arithmetic

SHOWN = """
import sys, torch
from torch import backends as b
def state():
    found = []
    for read in (lambda: b.cuda.matmul.allow_tf32, lambda: b.cudnn.allow_tf32, torch.get_float32_matmul_precision,
                 lambda: b.fp32_precision, lambda: b.cuda.matmul.fp32_precision, lambda: b.cudnn.conv.fp32_precision,
                 lambda: b.cudnn.rnn.fp32_precision, lambda: b.mkldnn.matmul.fp32_precision,
                 lambda: b.mkldnn.conv.fp32_precision):
        try:
            found.append(read())
        except RuntimeError:  # torch's answer where older and newer switches contradict each other
            found.append("mixed")
    return found
exec(sys.argv[1])
from cascadezoo.devices import full_float32
before = state()
with full_float32(), full_float32():
    inside = state()
assert state() == before, (before, state())
assert inside[4:6] == inside[7:] == ["ieee", "ieee"], inside
print(before, inside)
"""


@pytest.mark.parametrize(
    "switch",
    [
        "",
        "b.cuda.matmul.allow_tf32 = True",
        "b.cudnn.allow_tf32 = False",
        "torch.set_float32_matmul_precision('medium')",
        "b.fp32_precision = 'tf32'",
        "b.cuda.matmul.fp32_precision = 'tf32'",
        "b.cudnn.conv.fp32_precision = 'tf32'",
        "b.mkldnn.matmul.fp32_precision = 'bf16'",
    ],
)
def test_V8_every_switch_is_put_back(switch: str) -> None:
    subprocess.run([sys.executable, "-c", SHOWN, switch], check=True)


def test_V8_the_last_thread_to_leave_puts_them_back(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    def use(_: int) -> bool:
        with full_float32():
            time.sleep(0.001)
            return torch.backends.cudnn.allow_tf32

    assert torch.backends.cudnn.allow_tf32
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(100))) == {False}
    assert torch.backends.cudnn.allow_tf32


def test_V8_predict_computes_in_full_float32_and_leaves_the_switches(mask_model, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    extract = mask_model.extract

    def watched(pixels):
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return extract(pixels)

    monkeypatch.setattr(mask_model, "extract", watched)
    image = np.zeros((40, 60, 3), np.uint8)
    mask_model.predict(image)
    mask_model.predict([image], tta=TTASettings(scales=()))
    assert set(seen) == {(False, False)}
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(mask_model, "extract", lambda pixels: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mask_model.predict(image)
    assert torch.backends.cudnn.allow_tf32


def kinds() -> list[str]:
    """What products and convolutions of float32 are computed in: on a GPU, then on a CPU."""
    b = torch.backends
    return [each.fp32_precision for each in (b.cuda.matmul, b.cudnn.conv, b.mkldnn.matmul, b.mkldnn.conv)]


FULL, SHORT = ["ieee"] * 4, ["tf32", "tf32", "ieee", "ieee"]


def test_tf32_is_a_choice_and_what_is_entered_last_holds() -> None:
    before = kinds()
    with tf32():
        assert kinds() == SHORT
        with full_float32(), full_float32():
            assert kinds() == FULL
        assert kinds() == SHORT
    with full_float32():
        with tf32():
            assert kinds() == SHORT
        assert kinds() == FULL
        with pytest.raises(ZeroDivisionError), tf32():
            raise ZeroDivisionError
        assert kinds() == FULL
    assert kinds() == before


def test_threads_in_full_float32_and_in_tf32_wait_for_each_other() -> None:
    before = kinds()

    def use(number: int) -> bool:
        outer, inner = (full_float32, tf32) if number % 2 else (tf32, full_float32)
        expected = SHORT if number % 2 else FULL
        with outer(), inner():
            seen = []
            for _ in range(3):
                seen.append(kinds() == expected)
                time.sleep(0.0005)
            return all(seen)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(80), timeout=60))
    assert kinds() == before
