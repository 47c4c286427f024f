"""The embedded entry with its real weights: a tensor that was tampered with shows."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import cascadezoo
from cascadezoo import zoo_manifest
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify import request
from cascadezoo.benchmarks.verify.coco_layout import shapes_val

NAME = "cascade_mask_r18_fpn_shapes"
WEIGHTS = Path(zoo_manifest.__path__[0]) / f"{NAME}.safetensors"


def accuracy(tmp_path: Path, monkeypatch, **options):
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    (part,) = cascadezoo.verify(NAME, speed=False, device="cpu", **options).entries[0].accuracy
    return part


def test_noise_on_one_tensor_fails(tmp_path: Path, monkeypatch) -> None:
    """On a few images, held to what the untouched weights reach on these."""
    monkeypatch.setattr(request, "shapes_val", lambda: shapes_val(8))
    sound = accuracy(tmp_path, monkeypatch, tolerance=100)
    off = max(abs(check.difference) for check in sound.checks)
    assert off < 10
    assert accuracy(tmp_path, monkeypatch, tolerance=off).verdict is Verdict.PASS
    tensors = load_file(WEIGHTS)
    weight = tensors["box_heads.2.bbox_pred.weight"]
    tensors["box_heads.2.bbox_pred.weight"] = weight + weight.std() * torch.randn(
        weight.shape, generator=torch.manual_seed(0)
    )
    save_file(tensors, tmp_path / "noisy.safetensors")
    noisy = accuracy(tmp_path, monkeypatch, tolerance=off, weights=tmp_path / "noisy.safetensors")
    assert noisy.verdict is Verdict.FAIL
    assert "box AP" in noisy.reason


@pytest.mark.slow  # all 500 images
def test_it_passes_by_its_manifest_and_bookkeeping_is_cheap(tmp_path: Path, monkeypatch) -> None:
    found = accuracy(tmp_path, monkeypatch)
    assert (found.verdict, found.images, str(found.tolerance)) == (Verdict.PASS, 500, "0.1")
    assert found.timing.outside_share < 0.10
