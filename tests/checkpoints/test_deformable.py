"""Files of deformable cascades: told apart from plain ones, read under both spellings, written in today's."""

import re
from pathlib import Path

import pytest
import torch
from checkpoints.stand_ins import same, save

import cascadezoo
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.detector import Detector
from cascadezoo.errors import TensorMismatch, WrongEntry, WrongPublisher
from cascadezoo.modeling.layers import DeformConv
from cascadezoo.providers import SPECS

from tiny import lively, tiny

PLAIN, DEFORMABLE = "cascade_mask_r50_fpn_1x.mmdet", "cascade_mask_r50_dconv_c3c5_fpn_1x.mmdet"
CONFIG = """model = dict(backbone=dict(type='ResNet', depth=50, style='pytorch',
    dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, True, True, True)))
"""


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A small model whose offsets are not zero, of an entry that is as small for as long."""
    for name in ("cascade_mask_r50_fpn", "cascade_mask_r50_dconv_c3c5_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], name, tiny(name))
    model = lively(tiny("cascade_mask_r50_dconv_c3c5_fpn"))
    for module in model.modules():
        if isinstance(module, DeformConv):
            torch.nn.init.normal_(module.offset.weight)
            torch.nn.init.normal_(module.offset.bias)
    return model


def checkpoint(path: Path, model: Detector, config: str | None = None, old: bool = False) -> Path:
    state = to_publisher(model.state_dict(), DEFORMABLE)
    if old:
        state = {key.replace(".conv_offset.", "_offset."): tensor for key, tensor in state.items()}
    meta = {} if config is None else {"config": config}
    return save(path / "epoch_12.pth", {"meta": meta, "state_dict": state})


@pytest.mark.parametrize("old", [False, True])
def test_both_spellings_are_the_same_model(old: bool, moved: Detector, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, moved, old=old)
    report = convert(path, output=tmp_path / "out.safetensors")  # no other network has these tensors
    assert report.entries == (DEFORMABLE,)
    assert same(cascadezoo.load(DEFORMABLE, weights=report.output), moved)
    found = cascadezoo.load(DEFORMABLE, weights=path).predict(torch.rand(3, 40, 60))
    assert len(found) > 0
    export(DEFORMABLE, "mmdet", report.output, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    written = {key for key in back if "offset" in key}
    assert written == {f"backbone.layer{s}.0.conv2.conv_offset.{p}" for s in (2, 3, 4) for p in ("weight", "bias")}
    tensors, _ = convert_in_memory(tmp_path / "back.pth", entry=DEFORMABLE)
    assert all(torch.equal(tensor, moved.state_dict()[name]) for name, tensor in tensors.items())


def test_a_deformable_file_is_no_plain_one(moved: Detector, tmp_path: Path) -> None:
    for config in (None, CONFIG):
        path = checkpoint(tmp_path, moved, config)
        with pytest.raises(TensorMismatch, match=r"unexpected: backbone\.layer2\.0\.conv2\.conv_offset\.bias") as error:
            cascadezoo.load(PLAIN, weights=path)
        assert f"they fit {DEFORMABLE}" in str(error.value)


def test_a_plain_file_is_no_deformable_one(moved: Detector, tmp_path: Path) -> None:
    state = {key: x for key, x in to_publisher(moved.state_dict(), DEFORMABLE).items() if "conv_offset" not in key}
    for meta in ({}, {"config": re.sub(r"dcn=[^\n]*\n[^\n]*\n", "))", CONFIG)}):
        path = save(tmp_path / "epoch_12.pth", {"meta": meta, "state_dict": state})
        with pytest.raises(TensorMismatch, match=r"missing: backbone\.layer2\.0\.conv2\.conv_offset\.bias"):
            cascadezoo.load(DEFORMABLE, weights=path)


def test_a_file_of_both_spellings_is_refused(moved: Detector, tmp_path: Path) -> None:
    state = to_publisher(moved.state_dict(), DEFORMABLE)
    state["backbone.layer2.0.conv2_offset.bias"] = torch.zeros(18)
    path = save(tmp_path / "epoch_12.pth", {"meta": {}, "state_dict": state})
    with pytest.raises(TensorMismatch, match="2 claimed twice"):
        cascadezoo.load(DEFORMABLE, weights=path)


def test_modulated_deformable_convolutions_are_refused(moved: Detector, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, moved, CONFIG.replace("'DCN'", "'DCNv2'"))
    with pytest.raises(WrongPublisher, match=r"are of version 2 \(DCNv2\), which weighs each point"):
        cascadezoo.load(DEFORMABLE, weights=path)
    state = to_publisher(moved.state_dict(), DEFORMABLE)
    key = "backbone.layer2.0.conv2.conv_offset.bias"
    path = save(tmp_path / "epoch_12.pth", {"meta": {}, "state_dict": state | {key: torch.zeros(27)}})
    with pytest.raises(TensorMismatch, match=rf"{re.escape(key)} is \(27,\), expected \(18,\)"):
        cascadezoo.load(DEFORMABLE, weights=path)


def test_a_config_that_contradicts_the_entry_is_told_in_words(moved: Detector, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, moved, CONFIG.replace("(False, True,", "(False, False,"))
    words = "deformable convolutions in stages 3, 4, where the network has deformable convolutions in stages 2, 3, 4"
    for take in (lambda: cascadezoo.load(DEFORMABLE, weights=path), lambda: convert(path)):
        with pytest.raises(WrongEntry, match=words):
            take()
