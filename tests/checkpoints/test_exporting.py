"""Canonical weights back to publishers' files, which their own readers and plain Python then read."""

import errno
import hashlib
import io
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cascadezoo
from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.coco.categories import Categories
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import write_canonical
from cascadezoo.converters.checkpoint import read_checkpoint
from cascadezoo.errors import (
    CorruptCheckpoint,
    OutputExists,
    UnknownName,
    UnsupportedEntry,
    UnwritableOutput,
    UsageError,
    WeightsNotFound,
    WrongEntry,
    WrongPublisher,
)
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.paths import canonical_path
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

# one entry of each publisher: one for BGR images, one whose layers are transposed, one with rows that are dropped
MMDET, PADDLE, DETECTRON = (
    "cascade_r50_caffe_fpn_1x.mmdet",
    "mask_r50_vd_fpn_1x.paddle",
    "cascade_mask_r50_fpn_1x.detectron",
)
NAMES = (MMDET, PADDLE, DETECTRON)


def smaller(spec: ModelSpec) -> ModelSpec:
    """Fewer and narrower layers of the same kinds, where the publisher's names allow it."""
    record = spec.model_dump()
    record["backbone"].update(width_per_group=4)
    record["neck"].update(channels=16)
    record["box_head"].update(fcs=(32, 16))
    record["num_classes"] = 5
    if record["mask"]:
        record["mask"].update(convs=(16,) * 4, deconv=16)
    return ModelSpec.model_validate(record)


@pytest.fixture(autouse=True)
def _small_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        entry = registry.info(name)
        monkeypatch.setitem(SPECS[entry.publisher], entry.architecture, smaller(registry.spec_of(entry)))
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))


def tensors_of(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = canonical_shapes(registry.spec_of(registry.info(name)))
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def canonical(path: Path, name: str, **metadata: str) -> Path:
    entry = registry.info(name)
    write_canonical(
        path, tensors_of(name), {"publisher": entry.publisher, "architecture": entry.architecture} | metadata
    )
    return path


def exported(tmp_path: Path, name: str) -> Path:
    weights = canonical(tmp_path / "weights.safetensors", name)
    return export(name, registry.info(name).publisher, weights).output


def test_P11_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    canonical(tmp_path / "weights.safetensors", MMDET)
    assert export(MMDET, "mmdet", "~/weights.safetensors", "~/theirs.pth").output == tmp_path / "theirs.pth"
    assert convert("~/theirs.pth", entry=MMDET, output="~/back.safetensors").output == tmp_path / "back.safetensors"
    assert read_checkpoint("~/theirs.pth").tensors
    assert inspect("~/back.safetensors") == inspect(tmp_path / "back.safetensors")
    model = cascadezoo.load(MMDET, weights="~/back.safetensors")
    assert model.predict(np.zeros((40, 40, 3), np.uint8)).save("~/found.json") == tmp_path / "found.json"
    assert (tmp_path / "found.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(tmp_path: Path, name: str) -> None:
    first = convert(exported(tmp_path, name), source=registry.info(name).publisher)
    assert first.entries == (name,)
    assert first.output is not None
    report = export(name, first.publisher, first.output, tmp_path / f"again{CONVERTERS[first.publisher].suffix}")
    second = convert(report.output, source=first.publisher, entry=name, output=tmp_path / "second.safetensors")
    assert second.content_digest == first.content_digest
    assert report.output_sha256 == hashlib.sha256(report.output.read_bytes()).hexdigest() == first.source_sha256
    expected = tensors_of(name)
    found = cascadezoo.load(name, weights=second.output).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("name", "suffix"), [(MMDET, ".pth"), (PADDLE, ".pdparams"), (DETECTRON, ".pkl")])
def test_the_output_is_named_after_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    publisher = registry.info(name).publisher
    beside = canonical(tmp_path / "weights.safetensors", name)
    assert export(name, publisher, beside).output == tmp_path / f"{name}{suffix}"
    cached = canonical_path(name)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(beside.read_bytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export(name, publisher).output == Path(f"{name}{suffix}")
    assert os.listdir() == [f"{name}{suffix}"]


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in NAMES:
        weights = canonical(tmp_path / f"{name}.safetensors", name)
        outputs = [tmp_path / "a", tmp_path / "b_with_another_name.bin"]
        for output in outputs:
            export(name, registry.info(name).publisher, weights, output, force=True)
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_mmdetection_file(tmp_path: Path) -> None:
    weights = canonical(tmp_path / "weights.safetensors", MMDET)
    report = cascadezoo.export(MMDET, "mmdet", weights)
    file = torch.load(report.output, weights_only=True)
    assert file.keys() == {"meta", "state_dict"}
    assert file["meta"]["exp_name"] == "cascade_rcnn_r50_caffe_fpn_1x_coco.py"
    assert file["meta"]["CLASSES"] == ("class 0", "class 1", "class 2", "class 3", "class 4")
    state, ours = file["state_dict"], tensors_of(MMDET)
    assert torch.equal(state["backbone.conv1.weight"], ours["backbone.stem.0.weight"].flip(1))  # trained on BGR
    assert torch.equal(state["roi_head.bbox_head.2.fc_cls.weight"], ours["box_heads.2.cls_score.weight"])
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    assert len(counters) == 53
    assert {int(state[key]) for key in counters} == {0}
    assert {state[key].dtype for key in counters} == {torch.int64}
    assert report.zeroed == dict.fromkeys(counters, "a counter")
    assert report.tensors == len(state) == len(ours) + 53


def test_paddle_file_in_plain_python(tmp_path: Path) -> None:
    with exported(tmp_path, PADDLE).open("rb") as file:
        state = pickle.load(file)
    ours = tensors_of(PADDLE)
    assert list(state.pop("StructuredToParameterName@@")) == list(state)
    assert len(state) == len(ours)
    assert all(type(array) is np.ndarray and array.dtype == np.float32 for array in state.values())
    for theirs, name, transposed in (
        ("backbone.conv1.conv1_2.conv.weight", "backbone.stem.1.weight", False),
        ("backbone.res4.res4f.branch2b.norm._variance", "backbone.layer3.5.conv2.norm.running_var", False),
        ("bbox_head.head.fc6.weight", "box_heads.0.fcs.0.weight", True),
        ("bbox_head.bbox_delta.weight", "box_heads.0.bbox_pred.weight", True),
        ("mask_head.mask_fcn_logits.weight", "mask_heads.0.mask_logits.weight", False),
    ):
        expected = ours[name].numpy()
        np.testing.assert_array_equal(state[theirs], expected.T if transposed else expected)


def test_detectron_file_in_plain_python(tmp_path: Path) -> None:
    report = export(DETECTRON, "detectron", canonical(tmp_path / "weights.safetensors", DETECTRON))
    with report.output.open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert content.keys() == {"blobs", "cfg"}
    assert "BBOX_REG_WEIGHTS: !!python/tuple [10.0, 10.0, 5.0, 5.0]" in content["cfg"]
    blobs, ours = content["blobs"], tensors_of(DETECTRON)
    scores = ours["box_heads.1.cls_score.weight"].numpy()
    np.testing.assert_array_equal(blobs["cls_score_2_w"], np.concatenate([scores[-1:], scores[:-1]]))
    np.testing.assert_array_equal(blobs["bbox_pred_3_w"][4:], ours["box_heads.2.bbox_pred.weight"].numpy())
    assert blobs["bbox_pred_3_w"].shape == (8, 16)
    assert not blobs["bbox_pred_3_w"][:4].any()
    assert report.zeroed["bbox_pred_3_w"].startswith("rows 0 to 3: the background's box")
    masks = ours["mask_heads.0.mask_logits.bias"].numpy()
    np.testing.assert_array_equal(blobs["mask_fcn_logits_b"], np.concatenate([masks[-1:], masks[:-1]]))


def test_detectron_file_holds_byte_strings_of_python_2(tmp_path: Path) -> None:
    data = exported(tmp_path, DETECTRON).read_bytes()
    assert data.startswith(pickle.PROTO + b"\x02")
    names = {opcode.name for opcode, _, _ in pickletools.genops(data)}
    assert "BINSTRING" in names
    assert not {name for name in names if "UNICODE" in name or "BYTES" in name}


@pytest.mark.parametrize("name", [PADDLE, DETECTRON])
def test_pickles_name_numpy_as_version_1_did(tmp_path: Path, name: str) -> None:
    found = read_checkpoint(exported(tmp_path, name)).globals
    assert found == ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")


def test_numpy_reads_them_without_a_warning(tmp_path: Path) -> None:
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'), encoding='latin1')"
    for name in (PADDLE, DETECTRON):
        subprocess.run([sys.executable, "-W", "error", "-c", code, exported(tmp_path, name)], check=True)


def test_own_classes(tmp_path: Path) -> None:
    spec = registry.spec_of(registry.info(MMDET)).model_copy(update={"num_classes": 2})
    tensors = {key: torch.zeros(shape) for key, shape in canonical_shapes(spec).items()}
    weights = tmp_path / "weights.safetensors"
    write_canonical(weights, tensors, {"categories": Categories(["cat", "dog"], [4, 9]).to_json()})
    file = torch.load(export(MMDET, "mmdet", weights).output, weights_only=True)
    assert file["meta"]["CLASSES"] == ("cat", "dog")
    assert file["state_dict"]["roi_head.bbox_head.0.fc_cls.bias"].shape == (3,)


# What cannot be expressed


@pytest.mark.parametrize(
    ("name", "format", "parts"),
    [
        (MMDET, "paddle", ["stages", "conventions.resize", "conventions.cascade"]),
        (MMDET, "detectron", ["stages", "conventions.anchors", "conventions.roi_align", "conventions.paste"]),
        (PADDLE, "mmdet", ["backbone", "box_head", "conventions.proposals"]),
        (DETECTRON, "paddle", ["backbone", "conventions.roi_align"]),
    ],
)
def test_another_publishers_format(tmp_path: Path, name: str, format: str, parts: list[str]) -> None:
    weights = canonical(tmp_path / "weights.safetensors", name)
    with pytest.raises(UsageError, match=f"cannot be a file of {format}") as caught:
        export(name, format, weights)
    message = str(caught.value)
    listed = message.split("no network there has its ")[1].split(";")[0].split(", ")
    assert set(parts) <= set(listed)
    assert message.endswith(f"choose its own format, {registry.info(name).publisher}")
    assert "neck" not in listed or format == "detectron"  # what both have alike is no reason
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_our_own_entry_has_no_publishers_format() -> None:
    with pytest.raises(UsageError, match=r"cannot be a file of mmdet.*; it has no format but ours$"):
        export("cascade_mask_r18_fpn_shapes", "mmdet")


def test_networks_alike_in_every_part_but_not_as_a_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SPECS, "paddle", dict(SPECS["mmdet"]))
    with pytest.raises(UsageError, match="no network there is like it as a whole"):
        export(MMDET, "paddle", canonical(tmp_path / "weights.safetensors", MMDET))


def test_wrong_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName):
        export("cascade_r51_fpn_1x", "mmdet")
    with pytest.raises(UsageError, match="no files of 'onnx' can be written: choose one of mmdet, "):
        export(MMDET, "onnx")
    monkeypatch.delitem(SPECS["mmdet"], "cascade_r50_caffe_fpn")
    with pytest.raises(UnsupportedEntry):
        export(MMDET, "mmdet")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match=r"missing\.safetensors: no such file"):
        export(MMDET, "mmdet", tmp_path / "missing.safetensors")
    with pytest.raises(WeightsNotFound, match=f"weights of {MMDET}, or run `cascadezoo download {MMDET}` first"):
        export(MMDET, "mmdet")


def test_weights_of_something_else(tmp_path: Path) -> None:
    other = canonical(tmp_path / "other.safetensors", PADDLE)
    with pytest.raises(WrongEntry, match="the metadata in the file is mask_r50_vd_fpn of paddle"):
        export(MMDET, "mmdet", other)
    nameless = tmp_path / "nameless.safetensors"
    write_canonical(nameless, {"a": torch.zeros(1)}, {})
    with pytest.raises(WrongPublisher, match="it has no tensor under roi_head"):
        export(MMDET, "mmdet", nameless)
    publishers_own = tmp_path / "own.pth"
    torch.save({"a": torch.zeros(1)}, publishers_own)
    with pytest.raises(WrongPublisher, match="it has no tensor under roi_head"):
        export(MMDET, "mmdet", publishers_own)
    back = cascadezoo.export(MMDET, "mmdet", canonical(tmp_path / "good.safetensors", MMDET)).output
    with pytest.raises(WrongPublisher, match="is a file of mmdet: give canonical weights"):
        export(MMDET, "mmdet", back)
    damaged = canonical(tmp_path / "damaged.safetensors", MMDET, content_digest="0" * 64)
    with pytest.raises(CorruptCheckpoint, match="content digest"):
        export(MMDET, "mmdet", damaged)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    weights = canonical(tmp_path / "weights.safetensors", PADDLE)
    output = tmp_path / "out.pdparams"
    output.write_text("precious")
    with pytest.raises(OutputExists, match=r"out\.pdparams is already there"):
        export(PADDLE, "paddle", weights, output)
    assert output.read_text() == "precious"
    export(PADDLE, "paddle", weights, output, force=True)
    assert len(read_checkpoint(output).tensors) == len(tensors_of(PADDLE))
    before = weights.read_bytes()
    with pytest.raises(OutputExists, match="is the input itself"):
        export(PADDLE, "paddle", weights, weights, force=True)
    assert weights.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    weights = canonical(tmp_path / "weights.safetensors", name)

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(name, registry.info(name).publisher, weights)
    assert os.listdir(tmp_path) == ["weights.safetensors"]


class FullDisk(io.FileIO):
    def write(self, data: Any) -> int:
        if self.tell() > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    weights = canonical(tmp_path / "weights.safetensors", name)
    monkeypatch.setattr(os, "fdopen", FullDisk)
    with pytest.raises(UnwritableOutput, match="cannot be written: No space left on device; nothing was left"):
        export(name, registry.info(name).publisher, weights)
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    weights = canonical(tmp_path / "weights.safetensors", MMDET)
    with pytest.raises(UnwritableOutput, match="No such file or directory"):
        export(MMDET, "mmdet", weights, tmp_path / "nowhere" / "out.pth")
