"""What a file is: wrappers, prefixes, layouts, classes and clues, by the field cases R2, R5 and R6."""

import json
import logging
import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_pickles import zip_archive
from checkpoints.stand_ins import ENTRIES, fine_tuned, of_mmdet, same, save
from safetensors.torch import save_file

import cascadezoo
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.checkpoints.identification import examine
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.detector import Detector
from cascadezoo.errors import CorruptCheckpoint, TensorMismatch, WrongEntry, WrongPublisher
from cascadezoo.providers import SPECS

from tiny import lively

MMDET = ENTRIES["mmdet"]
CAFFE = "cascade_mask_r50_caffe_fpn_1x.mmdet"
CAFFE_CONFIG = """model = dict(
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN', requires_grad=False), style='caffe'),
)
img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
"""


# --- R2: clues ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "meta", "says"),
    [
        ("epoch_12.pth", {"config": CAFFE_CONFIG.replace("depth=50", "depth=50, num_stages=4")}, "caffe style"),
        (
            "epoch_12.pth",
            {"cfg": CAFFE_CONFIG.replace(", style='caffe'", "")},
            r"deviations \(RGB\) \(1\.0, 1\.0, 1\.0\)",
        ),
        ("epoch_12.pth", {"exp_name": "cascade_mask_rcnn_r50_caffe_fpn_1x_coco.py"}, "cascade_mask_rcnn_r50_caffe"),
        ("epoch_12.pth", {"config": "work_dir = './work_dirs/cascade_mask_rcnn_r50_caffe_fpn_1x_coco'"}, "caffe_fpn"),
        ("cascade_mask_rcnn_r50_caffe_fpn_1x_coco.pth", {}, "the file name"),
        ("my-Caffe_cats.pth", {}, '"caffe" in the file name is my-Caffe_cats.pth'),
        (
            "epoch_12.pth",
            {"config_name": "configs/cats_caffe.py"},
            '"caffe" in the configuration\'s name is cats_caffe',
        ),
        ("epoch_12.pth", {"cfg": {"model": {"backbone": {"style": "caffe"}}}}, "caffe style"),
        ("epoch_12.pth", {"cfg": OrderedDict(img_norm_cfg={"std": (1.0, 1.0, 1.0)})}, "deviations"),
        ("epoch_12.pth", {"cfg": b"backbone=dict(style='caffe')"}, "caffe style"),
    ],
)
def test_R2_an_entry_that_the_files_own_clues_contradict_is_refused(
    small: Detector, tmp_path: Path, file: str, meta: dict[str, str], says: str
) -> None:
    path = save(tmp_path / file, {"meta": meta, "state_dict": of_mmdet(small)})
    for take in (lambda: cascadezoo.load(MMDET, weights=path), lambda: convert(path, entry=MMDET)):
        with pytest.raises(WrongEntry, match=says) as error:
            take()
        assert MMDET in str(error.value)
        assert "insist" in str(error.value)
    insisted = cascadezoo.load(MMDET, weights=path, insist=True)
    assert same(insisted, small)
    report = convert(path, entry=MMDET, output=tmp_path / "out.safetensors", insist=True)
    assert report.entries == (MMDET,)


def test_R2_a_configuration_as_mmcv_pickles_it(small: Detector, tmp_path: Path, monkeypatch) -> None:
    """mmcv's ConfigDict is a dict with state, mmengine's is made from one."""
    import types

    modules = {"mmcv.utils.config": {}, "mmengine.config.config": {"__reduce__": lambda s: (type(s), (dict(s),))}}
    for name, methods in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        kind = type("ConfigDict", (dict,), {"__module__": name, **methods})
        sys.modules[name].ConfigDict = kind
        config = kind(model=kind(backbone=kind(style="caffe")))
        config.frozen = False
        path = save(tmp_path / "epoch_12.pth", {"meta": {"cfg": config}, "state_dict": of_mmdet(small)})
        with pytest.raises(WrongEntry, match="caffe style"):
            cascadezoo.load(MMDET, weights=path)


def test_R2_caffe_in_a_name_decides_between_the_styles_and_says_nothing_of_others(
    small: Detector, tmp_path: Path
) -> None:
    path = save(tmp_path / "of_caffe.pth", {"state_dict": of_mmdet(small)})
    assert examine(path).identify().identity.architecture == "cascade_mask_r50_caffe_fpn"
    path = save(tmp_path / "of_caffe2.pth", {"state_dict": of_mmdet(small)})
    assert same(cascadezoo.load(MMDET, weights=path), small)
    (hint,) = [hint for hint in examine(tmp_path / "of_caffe.pth").hints if hint.origin.startswith('"caffe"')]
    architectures = {entry.architecture for entry in hint.entries}
    assert "cascade_mask_x101_64x4d_fpn" in architectures  # of one style only
    assert "cascade_r101_fpn" not in architectures


def test_R2_a_clue_that_a_stronger_one_overrules_is_no_contradiction(small: Detector, tmp_path: Path) -> None:
    meta = {"config": "backbone=dict(type='ResNet', depth=50, style='pytorch')"}
    patched = SPECS["mmdet"]["cascade_mask_r50_fpn"]
    blocks = patched.backbone.blocks
    path = tmp_path / "cascade_mask_rcnn_r50_caffe_fpn_1x_coco.pth"
    with pytest.MonkeyPatch.context() as context:  # the small network has one block per stage, where the text says 50
        context.setattr("cascadezoo.converters.mmdet_config._BLOCKS", {"50": blocks, "101": ()})
        context.setitem(
            SPECS["mmdet"],
            "cascade_mask_r50_fpn",
            patched.model_copy(update={"backbone": patched.backbone.model_copy(update={"width_per_group": 64})}),
        )
        model = lively(SPECS["mmdet"]["cascade_mask_r50_fpn"])
        save(path, {"meta": meta, "state_dict": of_mmdet(model)})
        assert same(cascadezoo.load(MMDET, weights=path), model)


def test_a_published_file_of_before_mmdetection_2_was_called_so(
    small: Detector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its tensors are 2.0's, and its version says 1.0rc1: anybody else's is refused."""
    meta = {"mmdet_version": "1.0rc1+5f9f470", "CLASSES": ("a", "b", "c", "d", "e")}
    path = save(tmp_path / "any.pth", {"meta": meta, "state_dict": of_mmdet(small)})
    with pytest.raises(WrongPublisher, match=r"mmdetection 1\.x"):
        cascadezoo.load(MMDET, weights=path)
    prefix = cascadezoo.info(MMDET).source.sha256_prefix
    monkeypatch.setattr("cascadezoo.checkpoints.identification.file_sha256", lambda _: str(prefix).ljust(64, "0"))
    model = cascadezoo.load(MMDET, weights=path)
    assert same(model, small)
    assert tuple(model.categories) == meta["CLASSES"]


@pytest.mark.parametrize("said", [{}, {"source": "swin"}, {"source": "mmdet"}, {"entry": "mask_swin_t_fpn_1x.swin"}])
def test_mmdetections_own_swin_transformer_is_nobodys(small: Detector, said: dict[str, str], tmp_path: Path) -> None:
    heads = {name: tensor for name, tensor in of_mmdet(small).items() if not name.startswith("backbone.")}
    swin = {"backbone.stages.0.blocks.0.attn.w_msa.qkv.weight": torch.zeros(24, 8)}
    path = save(tmp_path / "a.pth", {"state_dict": {**swin, **heads}})
    with pytest.raises(WrongPublisher) as error:
        convert(path, output=tmp_path / "out.safetensors", **said)
    assert "name its entry" not in str(error.value)
    assert re.search("its backbone is mmdetection's (own )?Swin Transformer", str(error.value))


def test_R2_another_schedule_of_the_same_network_is_taken_with_a_word(
    small: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "cascade_mask_rcnn_r50_fpn_20e_coco.pth", {"state_dict": of_mmdet(small)})
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert same(cascadezoo.load(MMDET, weights=path), small)
    assert "of cascade_mask_r50_fpn_20e.mmdet: taken as cascade_mask_r50_fpn_1x.mmdet" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        cascadezoo.load("cascade_mask_r50_fpn_20e.mmdet", weights=path)
    assert caplog.text == ""


def test_R2_inspect_shows_every_clue(small: Detector, tmp_path: Path) -> None:
    meta = {"exp_name": "cascade_mask_rcnn_r50_caffe_fpn_1x_coco.py", "CLASSES": ("a", "b", "c", "d", "e")}
    path = save(tmp_path / "cascade_mask_r50_fpn_20e.pth", {"meta": meta, "state_dict": of_mmdet(small)})
    found = [(one.about, one.value, one.source) for one in inspect(path).evidence]
    assert ("container", "zip", "the first bytes of the file") in found
    assert ("wrapper", "state_dict", "the entry that holds the tensors") in found
    assert ("layout", "mmdet", "tensors lie under backbone. and roi_head., as mmdetection names them") in found
    assert ("classes", "5", "the lengths of the class layers, less the background") in found
    assert ("class names", "a, b, c, d, e", "the list in its metadata") in found
    name = "the configuration's name: cascade_mask_rcnn_r50_caffe_fpn_1x_coco"
    assert ("entry", CAFFE, name) in found
    assert ("entry", "cascade_mask_r50_fpn_20e.mmdet", "the file name: cascade_mask_r50_fpn_20e.pth") in found
    networks = [value for about, value, _ in found if about == "network"]
    assert networks == ["cascade_mask_r50_caffe_fpn of mmdet", "cascade_mask_r50_fpn of mmdet"]


def test_R2_a_canonical_file_that_does_not_say_its_network_warns(
    small: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(small.state_dict(), tmp_path / "mine.safetensors")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert same(cascadezoo.load(MMDET, weights=tmp_path / "mine.safetensors"), small)
    assert "does not say which network it is of" in caplog.text
    caplog.clear()
    cascadezoo.save(small, tmp_path / "saved.safetensors")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        cascadezoo.load(MMDET, weights=tmp_path / "saved.safetensors")
    assert "does not say" in caplog.text  # of a model that build made: no entry is its own
    caplog.clear()
    cascadezoo.save(cascadezoo.load(MMDET), tmp_path / "of_entry.safetensors")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        cascadezoo.load(MMDET, weights=tmp_path / "of_entry.safetensors")
    assert caplog.text == ""


def test_R2_a_canonical_file_of_another_network_of_equal_shapes_is_refused(small: Detector, tmp_path: Path) -> None:
    cascadezoo.save(cascadezoo.load(CAFFE), tmp_path / "mine.safetensors")
    with pytest.raises(WrongEntry, match="the metadata in the file is cascade_mask_r50_caffe_fpn of mmdet"):
        cascadezoo.load(MMDET, weights=tmp_path / "mine.safetensors")
    save_file(small.state_dict(), tmp_path / f"{CAFFE}.safetensors")
    with pytest.raises(WrongEntry, match="the file name"):
        cascadezoo.load(MMDET, weights=tmp_path / f"{CAFFE}.safetensors")


def test_R2_detectrons_configuration_is_held_against_the_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cascadezoo.converters.pickle_writer import PYTHON_2, write_pickle

    model = fine_tuned("detectron", monkeypatch)
    name = ENTRIES["detectron"]
    cfg = "MODEL:\n  TYPE: x\nRESNETS:\n  STRIDE_1X1: false\n"
    content = {"blobs": to_publisher(model.state_dict(), name), "cfg": cfg}
    with (tmp_path / "model_final.pkl").open("wb") as file:
        write_pickle(file, content, PYTHON_2)
    with pytest.raises(WrongEntry, match="pytorch style, where the network has caffe style"):
        convert(tmp_path / "model_final.pkl", entry=name)


# --- R5: wrappers and prefixes --------------------------------------------------------------------------------------

WRAPPERS = [
    *("state_dict", "model", "model_state_dict", "net", "module", "model.state_dict", "checkpoint", "app.model"),
    *("params_ema", "checkpoint.ema", "app.student"),
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_R5_common_wrappers_are_taken_off(small: Detector, tmp_path: Path, wrapper: str) -> None:
    content: dict[str, Any] = of_mmdet(small)
    for name in reversed(wrapper.split(".")):
        content = {name: content, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}
    tensors, report = convert_in_memory(save(tmp_path / "x.pth", content), entry=MMDET)
    assert torch.equal(tensors["rpn.deltas.bias"], small.rpn.deltas.bias)
    assert report.wrapper == wrapper
    assert {"epoch", "optimizer"} <= set(report.ignored_entries)
    assert inspect(tmp_path / "x.pth").wrapper == wrapper


def test_R5_detectrons_blobs_under_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cascadezoo.converters.pickle_writer import PYTHON_3, write_pickle

    model = fine_tuned("detectron", monkeypatch)
    blobs = to_publisher(model.state_dict(), ENTRIES["detectron"])
    with (tmp_path / "x.pkl").open("wb") as file:
        write_pickle(file, {"model": blobs, "__author__": "Caffe2"}, PYTHON_3)
    assert same(cascadezoo.load(ENTRIES["detectron"], weights=tmp_path / "x.pkl"), model)
    assert convert_in_memory(tmp_path / "x.pkl", entry=ENTRIES["detectron"])[1].wrapper == "model"


def test_R5_of_a_model_and_its_average_the_model_is_taken(small: Detector, tmp_path: Path) -> None:
    state = of_mmdet(small)
    other = {key: value + 1 for key, value in state.items()}
    path = save(tmp_path / "x.pth", {"ema": other, "model": state})
    tensors, report = convert_in_memory(path, entry=MMDET)
    assert torch.equal(tensors["rpn.deltas.bias"], small.rpn.deltas.bias)
    assert "ema" in report.ignored_entries


PREFIXES = ["module.", "model.", "_orig_mod.", "module.module.", "module._orig_mod.", "model.net."]
PREFIXES += ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_R5_a_prefix_that_all_keys_share_is_taken_off(small: Detector, tmp_path: Path, prefix: str) -> None:
    state = OrderedDict((prefix + key, value) for key, value in of_mmdet(small).items())
    tensors, report = convert_in_memory(save(tmp_path / "x.pth", state), entry=MMDET)
    assert torch.equal(tensors["rpn.deltas.bias"], small.rpn.deltas.bias)
    assert report.prefix == prefix
    assert report.mapped[f"{prefix}rpn_head.rpn_reg.bias"] == "rpn.deltas.bias"
    prefixes = [one for one in inspect(tmp_path / "x.pth").evidence if one.about == "prefix"]
    assert [one.value for one in prefixes] == [prefix]


PARTS = ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"]


@pytest.mark.parametrize("part", PARTS)
def test_R5_a_wrapper_of_a_part_is_taken_off_wherever_it_is(small: Detector, tmp_path: Path, part: str) -> None:
    names = {key: re.sub(r"^(backbone|rpn_head)\.", rf"\1.{part}.", key) for key in of_mmdet(small)}
    names = {key: name.replace(".bn1.", f".bn1.{part}.") for key, name in names.items()}
    path = save(tmp_path / "x.pth", {f"module.{names[key]}": value for key, value in of_mmdet(small).items()})
    tensors, report = convert_in_memory(path, entry=MMDET)
    assert torch.equal(tensors["rpn.deltas.bias"], small.rpn.deltas.bias)
    assert report.mapped[f"module.rpn_head.{part}.rpn_reg.bias"] == "rpn.deltas.bias"
    parts = [one for one in inspect(path).evidence if one.about == "wrapped parts"]
    assert [one.value for one in parts] == [f"{part}."]


def test_R5_a_tensor_with_and_without_a_wrapper_keeps_both_names(small: Detector, tmp_path: Path) -> None:
    state = of_mmdet(small)
    state["rpn_head._orig_mod.rpn_reg.bias"] = state["rpn_head.rpn_reg.bias"] + 1
    with pytest.raises(TensorMismatch, match=r"1 unexpected: rpn_head\._orig_mod\.rpn_reg\.bias"):
        convert_in_memory(save(tmp_path / "x.pth", state), entry=MMDET)


def test_R5_counters_beside_the_prefix_are_left_out_by_name(small: Detector, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in of_mmdet(small).items()}
    path = save(tmp_path / "x.pth", {"n_averaged": torch.tensor(5), "steps": torch.tensor([7]), **state})
    _, report = convert_in_memory(path, entry=MMDET)
    assert report.ignored["n_averaged"] == report.ignored["steps"] == "a number that a wrapper of the model keeps"


def test_R5_a_prefix_that_only_some_keys_have_is_not_taken_off(small: Detector, tmp_path: Path) -> None:
    state = of_mmdet(small)
    state["module.rpn_head.rpn_reg.bias"] = state.pop("rpn_head.rpn_reg.bias")
    with pytest.raises(TensorMismatch, match=r"1 unexpected: module\.rpn_head\.rpn_reg\.bias"):
        convert_in_memory(save(tmp_path / "x.pth", state), entry=MMDET)


# --- R6: files that are something else ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.pdiparams", bytes(16) + b"\x0a\0\0\0\x08\x05\x10\x40", r"\.pdiparams.*take the \.pdparams"),
        ("model.pdmodel", b"\n\xd0\x05\x08\0\x12\x0b\n\x04feed\x12", r"\.pdmodel.*take the \.pdparams"),
        (
            "model.safetensors.index.json",
            json.dumps({"weight_map": {key: f"model-0000{key}-of-00002.safetensors" for key in "12"}}),
            r"index of a sharded checkpoint.*model-00001-of-00002\.safetensors, model-00002-of-00002\.safetensors",
        ),
        ("config.json", "{}", "it is a JSON text"),
        ("model.onnx", b"\x08\x08\x12\x07pytorch\x1a", "ONNX"),
        ("last_checkpoint", "/runs/x/epoch_12.pth\n", "mmdetection's note of its last checkpoint"),
        ("weights.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("__0_0.distcp", b"PK\x03\x04", "a part of a distributed checkpoint of torch.*dcp_to_torch"),
        (".metadata", b"\x80\x02N.", "a part of a distributed checkpoint of torch.*dcp_to_torch"),
        ("zero_pp_rank_0_mp_rank_00_optim_states.pt", b"PK\x03\x04", r"DeepSpeed's zero_to_fp32\.py"),
        ("model.pdiparams.info", b"\x80\x02}.", r"names that Paddle writes.*take the \.pdparams"),
        ("model.ckpt-1000.data-00000-of-00001", bytes(64), "TensorFlow"),
        ("model.xml", '<?xml version="1.0"?><net name="x"/>', "OpenVINO"),
        ("model.pth.xz", b"\xfd7zXZ\0", "it is compressed: unpack it first"),
        ("model.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        ("config.yml", "MODEL:\n  META: x\n", "it is a text"),
        ("model.zip", zip_archive({"run/model_final.pth": b""}), r"unpack it, and give .*run/model_final\.pth"),
        ("arrays.npz", zip_archive({"a.npy": b""}), "archive of numpy's arrays"),
        ("program.pt2", zip_archive({"program/archive_format": b"pt2"}), r"a program of torch\.export"),
        ("sgd.pdopt", pickle.dumps({"LR_Scheduler": {"last_epoch": 1}}), r"\.pdopt.*take the \.pdparams"),
        ("optimizer.pt", pickle.dumps({"state": {}, "param_groups": []}), "an optimizer's state of torch: take the"),
    ],
)
def test_R6_a_file_that_is_something_else_says_which_to_take(
    tmp_path: Path, name: str, content: bytes | str, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (inspect, lambda p: convert(p, entry=MMDET), lambda p: cascadezoo.load(MMDET, weights=p)):
        with pytest.raises(CorruptCheckpoint, match=says):
            read(path)


def test_R6_an_optimizers_state_of_paddle(tmp_path: Path) -> None:
    from cascadezoo.converters.pickle_writer import PYTHON_3, write_pickle

    state = {f"conv2d_{i}.w_0_velocity_0": torch.ones(2, 2) for i in range(5)}
    with (tmp_path / "model_final.pdopt").open("wb") as file:
        write_pickle(file, {**state, "LR_Scheduler": {"last_lr": "0.01"}}, PYTHON_3)
    with pytest.raises(WrongPublisher, match=r"an optimizer's state of Paddle \(\.pdopt\): take the \.pdparams"):
        convert(tmp_path / "model_final.pdopt")
    (finding,) = (one for one in inspect(tmp_path / "model_final.pdopt").evidence if one.about == "no network")
    assert "take the .pdparams" in finding.value


def test_R6_one_of_several_parts(small: Detector, tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00003.safetensors"
    save_file({"rpn.objectness.bias": torch.ones(3), "box_heads.0.cls_score.bias": torch.ones(6)}, path)
    with pytest.raises(CorruptCheckpoint, match="it is part 1 of 3 of a sharded checkpoint"):
        cascadezoo.load(MMDET, weights=path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([".metadata", "__0_0.distcp"], "distributed checkpoint of torch.*dcp_to_torch"),
        (["step_100/__0_0.distcp", "log.txt"], "of its folder step_100: .*dcp_to_torch"),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed"),
        (["saved_model.pb", "variables/variables.index"], "TensorFlow"),
        (["config.json", "model.safetensors"], "load it as local-dir:"),
        (["model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "parts of a sharded checkpoint"),
        (["latest", "zero_to_fp32.py"], "DeepSpeed"),
        (["epoch_12.pth", "log.txt"], r"give one of its files: epoch_12\.pth"),
        (["model.pdiparams", "model.pdmodel"], "inference model of Paddle"),
        (["notes.txt"], "give the checkpoint file itself"),
    ],
)
def test_R6_a_folder_says_which_file_to_take(tmp_path: Path, files: list[str], says: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for read in (inspect, lambda p: convert(p, entry=MMDET), lambda p: cascadezoo.load(MMDET, weights=p)):
        with pytest.raises(CorruptCheckpoint, match=says):
            read(tmp_path)
