"""Which device is meant, and what is none."""

import re

import pytest
import torch

import cascadezoo
from cascadezoo.devices import usable
from cascadezoo.errors import MissingResource, UsageError


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


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "", "cuda:-1", 1.5, True, ["cuda"]])
def test_what_names_no_device_is_refused_before_anything_is_read(name: object) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(repr(name))} names no device: give cpu, cuda, cuda:N or mps$"):
        cascadezoo.load("cascade_r50_fpn_1x", weights="no_such_file", device=name)


@pytest.mark.parametrize(
    ("name", "meant"), [("cuda:99", "cuda:99"), (99, "cuda:99"), (torch.device("cuda:99"), "cuda:99"), ("mps", "mps")]
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
