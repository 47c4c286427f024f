"""Publishers' files to canonical ones: small stand-ins for every way it can go."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cascadezoo.checkpoints import identification
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.converters.canonical import content_digest, read_canonical
from cascadezoo.errors import (
    AmbiguousEntry,
    CascadezooError,
    NonFiniteWeights,
    OutputExists,
    TensorMismatch,
    UnknownName,
    UnsafeCheckpoint,
    UnwritableOutput,
    UsageError,
    WrongPublisher,
)
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS
from cascadezoo.version import __version__

from tiny import tiny

PARITY = Path(__file__).parents[1] / "parity" / "mmdet"
COUNTER = "num_batches_tracked"
BOX, CAFFE_MASK = "cascade_r50_fpn", "cascade_mask_r50_caffe_fpn"

# the table once more, in other words
RENAMES = (
    (r"^backbone\.(conv|bn)1\.", r"backbone.stem.0.\1."),
    (r"\bstem\.0\.conv\.", "stem.0."),
    (r"\bstem\.0\.bn\.", "stem.0.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"^neck\.lateral_convs\.(\d)\.conv", r"neck.lateral.\1"),
    (r"^neck\.fpn_convs\.(\d)\.conv", r"neck.output.\1"),
    (r"^rpn_head\.rpn_conv", "rpn.conv"),
    (r"^rpn_head\.rpn_cls", "rpn.objectness"),
    (r"^rpn_head\.rpn_reg", "rpn.deltas"),
    (r"^roi_head\.bbox_head", "box_heads"),
    (r"^roi_head\.mask_head", "mask_heads"),
    (r"\.shared_fcs\.", ".fcs."),
    (r"\.fc_cls\.", ".cls_score."),
    (r"\.fc_reg\.", ".bbox_pred."),
    (r"^(mask_heads\.\d\.convs\.\d)\.conv\.", r"\1."),
    (r"\.upsample\.", ".deconv."),
    (r"\.conv_logits\.", ".mask_logits."),
)


def ours(key: str) -> str:
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


@pytest.fixture(autouse=True)
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cascade_r50_fpn", "cascade_r50_caffe_fpn", "cascade_mask_r50_fpn", "cascade_mask_r50_caffe_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], name, tiny(name))


def stand_in(architecture: str = BOX, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A state dict with mmdetection's keys, every tensor with numbers of its own."""
    generator = torch.Generator().manual_seed(1)
    shapes = canonical_shapes(SPECS["mmdet"][architecture])
    state = to_publisher({name: torch.empty(shape) for name, shape in shapes.items()}, f"{architecture}_1x.mmdet")
    return {
        key: value if key.endswith(COUNTER) else torch.randn(value.shape, generator=generator).to(dtype)
        for key, value in state.items()
    }


def save(path: Path, state: dict[str, Any], meta: Any = None, **beside: Any) -> Path:
    torch.save({"meta": meta or {"mmdet_version": "2.0.0"}, "state_dict": state, **beside}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file whose name tells the style."""
    return save(tmp_path / "cascade_r50_fpn_1x.pth", stand_in())


def test_every_tensor_arrives(checkpoint: Path) -> None:
    report = convert(checkpoint)
    output = checkpoint.with_name("cascade_r50_fpn_1x.mmdet.safetensors")
    assert report.output == output
    state = stand_in()
    used = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    tensors = load_file(output)
    assert tensors.keys() == {ours(key) for key in used} == canonical_shapes(SPECS["mmdet"][BOX]).keys()
    assert all(torch.equal(tensors[ours(key)], value) for key, value in used.items())
    assert report.mapped == {key: ours(key) for key in used}
    assert report.ignored.keys() == state.keys() - used.keys()
    assert set(report.ignored.values()) == {"a counter that inference never uses"}


def test_the_report_and_the_metadata_tell_the_same(checkpoint: Path) -> None:
    report = convert(checkpoint)
    assert report.output is not None
    _, metadata = read_canonical(report.output)
    source_sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert report.entries == ("cascade_r50_fpn_1x.mmdet",)
    assert report.found_by == "the file name"
    assert report.container == "zip"
    assert report.source_sha256 == source_sha256
    assert report.output_sha256 == hashlib.sha256(report.output.read_bytes()).hexdigest()
    assert report.content_digest == content_digest(load_file(report.output))
    assert not report.source_is_published
    assert len(metadata.pop("key_map")) == 64
    assert metadata == {
        "format": "pt",
        "architecture": BOX,
        "publisher": "mmdet",
        "entries": "cascade_r50_fpn_1x.mmdet",
        "source_url": "https://download.openmmlab.com/mmdetection/v2.0/cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco/"
        "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.pth",
        "source_sha256": source_sha256,
        "source_is_published": "no",
        "converter": f"cascadezoo {__version__}",
        "code_license": "Apache-2.0",
        "weights_license": "unstated",
        "attribution": "OpenMMLab, MMDetection",
        "content_digest": report.content_digest,
    }
    assert json.loads(report.to_json())["mapped"]["rpn_head.rpn_cls.bias"] == "rpn.objectness.bias"


def test_bgr_input_becomes_rgb_and_goes_back(tmp_path: Path) -> None:
    state = stand_in(CAFFE_MASK)
    tensors, report = convert_in_memory(save(tmp_path / "x.pth", state), entry="cascade_mask_r50_caffe_fpn_3x")
    stem = state["backbone.conv1.weight"]
    assert torch.equal(tensors["backbone.stem.0.weight"], torch.stack([stem[:, 2], stem[:, 1], stem[:, 0]], dim=1))
    back = to_publisher(tensors, "cascade_mask_r50_caffe_fpn_3x.mmdet")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)
    assert report.output is None
    assert report.output_sha256 is None
    assert os.listdir(tmp_path) == ["x.pth"]


def test_converting_twice_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    one = convert(checkpoint, output=tmp_path / "1.safetensors")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    two = convert(shutil.copy(checkpoint, elsewhere), output=elsewhere / "2.safetensors")
    assert (tmp_path / "1.safetensors").read_bytes() == (elsewhere / "2.safetensors").read_bytes()
    assert one.output_sha256 == two.output_sha256


def test_both_containers_give_the_same_tensors(checkpoint: Path, tmp_path: Path) -> None:
    legacy = tmp_path / "legacy.pth"
    torch.save(torch.load(checkpoint, weights_only=True), legacy, _use_new_zipfile_serialization=False)
    _, one = convert_in_memory(checkpoint, entry="cascade_r50_fpn_1x")
    _, two = convert_in_memory(legacy, entry="cascade_r50_fpn_1x")
    assert (one.container, two.container) == ("zip", "legacy")
    assert one.content_digest == two.content_digest


def test_the_published_file_is_recognised(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification, "file_sha256", lambda _: "e9872a90" + "0" * 56)  # as cascade_r50_fpn_20e's
    path = checkpoint.rename(checkpoint.with_name("download.pth"))
    report = convert(path)
    assert report.entries == ("cascade_r50_fpn_20e.mmdet",)
    assert report.source_is_published
    assert report.output is not None
    assert read_canonical(report.output)[1]["source_is_published"] == "yes"


def test_candidates_are_recorded_together(tmp_path: Path) -> None:
    path = save(tmp_path / "cascade_mask_r50_fpn.pth", stand_in("cascade_mask_r50_fpn"))
    report = convert(path)
    trained = ("1x", "20e", "3x", "instaboost_4x", "rsb_1x")
    assert report.entries == tuple(f"cascade_mask_r50_fpn_{ending}.mmdet" for ending in trained)
    assert report.output == tmp_path / "cascade_mask_r50_fpn.mmdet.safetensors"
    metadata = read_canonical(report.output)[1]
    assert metadata["entries"] == ",".join(report.entries)
    assert metadata["source_url"].count("https://") == 5


def test_the_style_must_be_known(tmp_path: Path) -> None:
    path = save(tmp_path / "epoch_12.pth", stand_in())
    with pytest.raises(AmbiguousEntry, match=r"pass --entry with one of cascade_r50_caffe_fpn_1x\.mmdet"):
        convert(path)
    assert os.listdir(tmp_path) == ["epoch_12.pth"]
    save(path, stand_in(), meta={"config": "", "exp_name": "cascade_rcnn_r50_caffe_fpn_1x_coco.py"})
    assert convert(path).entries == ("cascade_r50_caffe_fpn_1x.mmdet",)


def test_a_wrapper_prefix_is_stripped_where_all_have_it(tmp_path: Path) -> None:
    state = stand_in()
    wrapped = save(tmp_path / "w.pth", {f"module.{key}": value for key, value in state.items()})
    tensors, report = convert_in_memory(wrapped, entry="cascade_r50_fpn_1x")
    assert torch.equal(tensors["rpn.deltas.bias"], state["rpn_head.rpn_reg.bias"])
    assert report.mapped["module.rpn_head.rpn_reg.bias"] == "rpn.deltas.bias"
    assert f"module.backbone.bn1.{COUNTER}" in report.ignored

    mixed = {**state, "module.rpn_head.rpn_reg.bias": state.pop("rpn_head.rpn_reg.bias")}
    mixed.pop("rpn_head.rpn_reg.bias")
    with pytest.raises(TensorMismatch, match=r"1 unexpected: module\.rpn_head\.rpn_reg\.bias"):
        convert_in_memory(save(tmp_path / "m.pth", mixed), entry="cascade_r50_fpn_1x")


def test_averaging_twins_and_solver_state_are_left_out(tmp_path: Path) -> None:
    state = stand_in()
    twins = {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state.items()}
    path = save(tmp_path / "x.pth", {**twins, **state}, ema_state_dict={"steps": 3}, optimizer={"state": {}})
    tensors, report = convert_in_memory(path, entry="cascade_r50_fpn_1x")
    assert torch.equal(tensors["rpn.deltas.bias"], state["rpn_head.rpn_reg.bias"])
    assert twins.keys() <= report.ignored.keys()
    assert "averaged" in report.ignored["ema_rpn_head_rpn_reg_bias"]
    assert {"ema_state_dict", "optimizer"} <= set(report.ignored_entries)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    state = stand_in(dtype=dtype)
    tensors, report = convert_in_memory(save(tmp_path / "x.pth", state), entry="cascade_r50_fpn_1x")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert torch.equal(tensors["rpn.conv.weight"], state["rpn_head.rpn_conv.weight"].float())
    assert report.casts == {key: str(dtype).removeprefix("torch.") for key in report.mapped}


def test_float64_only_where_float32_holds_it(tmp_path: Path) -> None:
    state = stand_in()
    state["rpn_head.rpn_cls.bias"] = state["rpn_head.rpn_cls.bias"].double()
    tensors, report = convert_in_memory(save(tmp_path / "x.pth", state), entry="cascade_r50_fpn_1x")
    assert report.casts == {"rpn_head.rpn_cls.bias": "float64"}
    assert torch.equal(tensors["rpn.objectness.bias"].double(), state["rpn_head.rpn_cls.bias"])
    state["rpn_head.rpn_cls.bias"] += 1e-12
    with pytest.raises(TensorMismatch, match=r"rpn_head\.rpn_cls\.bias holds float64 values"):
        convert_in_memory(save(tmp_path / "x.pth", state), entry="cascade_r50_fpn_1x")


def test_not_a_number(checkpoint: Path) -> None:
    state = stand_in()
    state["rpn_head.rpn_cls.bias"][1] = float("nan")
    state["neck.fpn_convs.0.conv.bias"][0] = float("-inf")
    save(checkpoint, state)
    with pytest.raises(
        NonFiniteWeights, match=r"2 tensors .* \(neck\.fpn_convs\.0\.conv\.bias, rpn_head\.rpn_cls\.bias\)"
    ):
        convert(checkpoint)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]
    report = convert(checkpoint, allow_nan=True)
    assert set(report.non_finite) == {"neck.fpn_convs.0.conv.bias", "rpn_head.rpn_cls.bias"}
    assert report.output is not None
    assert read_canonical(report.output)[0]["rpn.objectness.bias"].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("rpn_head.rpn_cls.bias"), r"1 missing: rpn_head\.rpn_cls\.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected: extra\)"),
        (
            lambda state: state.update({"rpn_head.rpn_cls.bias": torch.zeros(4)}),
            r"1 of another shape: rpn_head\.rpn_cls\.bias is \(4,\), expected \(3,\)\)",
        ),
        (lambda state: state.update({"rpn_head.rpn_cls.bias": torch.zeros(3, dtype=torch.int32)}), "holds int32"),
    ],
)
def test_tensors_that_do_not_fit(checkpoint: Path, change: Callable[[dict[str, Tensor]], Any], message: str) -> None:
    state = stand_in()
    change(state)
    save(checkpoint, state)
    with pytest.raises(TensorMismatch, match=message):
        convert(checkpoint)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


class Hostile:
    """Pickles as a call of ``os.getenv``."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.getenv, ("HOME",)


def test_a_needed_tensor_that_hangs_on_foreign_code(checkpoint: Path) -> None:
    save(checkpoint, {**stand_in(), "rpn_head.rpn_cls.bias": Hostile()})
    with pytest.raises(UnsafeCheckpoint, match=r"rpn_head\.rpn_cls\.bias could only be read by running os\.getenv"):
        convert(checkpoint)


def test_foreign_code_elsewhere_is_only_listed(checkpoint: Path) -> None:
    save(checkpoint, {**stand_in(), "ema_x": Hostile()}, meta={"hook": Hostile()}, message_hub=Hostile())
    report = convert(checkpoint)
    assert report.refused == ("os.getenv",)
    assert "ema_x" in report.ignored


def test_files_of_other_versions_and_publishers(tmp_path: Path) -> None:
    old = {"bbox_head.0.fc_cls.weight": torch.zeros(81, 4), "backbone.conv1.weight": torch.zeros(1)}
    with pytest.raises(WrongPublisher, match=r"mmdetection 1\.x, which computes otherwise"):
        convert(save(tmp_path / "old.pth", old))
    with pytest.raises(WrongPublisher, match="no tensor under roi_head"):
        convert(save(tmp_path / "imagenet.pth", {"conv1.weight": torch.zeros(1)}))


def test_a_canonical_file_needs_no_conversion(checkpoint: Path) -> None:
    report = convert(checkpoint)
    assert report.output is not None
    with pytest.raises(CascadezooError) as error:
        convert(report.output)
    assert error.value.exit_code == 4


@pytest.mark.parametrize("name", sorted(path.name for path in (PARITY / "formats").glob("*.pth")))
def test_toys_fit_no_entry(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(PARITY / "formats" / name, tmp_path))
    with pytest.raises(TensorMismatch, match="missing: ") as error:
        convert(path)
    assert error.value.exit_code == 4


def test_wrong_names(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoints of 'caffe2' can be converted: choose one of mmdet"):
        convert(checkpoint, source="caffe2")
    with pytest.raises(UnknownName):
        convert(checkpoint, entry="cascade_r51_fpn_1x")
    with pytest.raises(UsageError, match="is an entry of paddle, but the file is to be read as mmdet's"):
        convert(checkpoint, "mmdet", "cascade_r50_fpn_1x.paddle")


def test_nothing_is_overwritten_unasked(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    output.write_text("precious")
    with pytest.raises(OutputExists, match=r"out\.safetensors is already there"):
        convert(checkpoint, output=output)
    assert output.read_text() == "precious"
    convert(checkpoint, output=output, force=True)
    assert read_canonical(output)[1]["architecture"] == BOX


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path / "cascade_r50_fpn_1x.safetensors", stand_in())
    before = path.read_bytes()
    with pytest.raises(OutputExists, match="is the input itself"):
        convert(path, output=path, force=True)
    assert path.read_bytes() == before


def test_outputs_that_cannot_be(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="end the output's name so"):
        convert(checkpoint, output=tmp_path / "out.pth")
    with pytest.raises(UnwritableOutput, match="No such file or directory"):
        convert(checkpoint, output=tmp_path / "nowhere" / "out.safetensors")
    assert os.listdir(tmp_path) == [checkpoint.name]


def test_an_interruption_leaves_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]
