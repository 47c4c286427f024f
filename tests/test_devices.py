"""Which device is meant, and what is none."""

import pytest
import torch

import cascadezoo
from cascadezoo.devices import usable
from cascadezoo.errors import UsageError


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


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x"])
def test_what_is_no_device_here_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"'{name}' is no device that torch can use here .*: give cpu, cuda or cuda:N$"
    ):
        cascadezoo.load("cascade_r50_fpn_1x", weights="no_such_file", device=name)
