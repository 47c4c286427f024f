"""What each format can be told, and what is refused before anything is computed."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.detector import Detector
from cascadezoo.errors import (
    BadAnnotations,
    DepartsFromModel,
    MissingResource,
    OutputExists,
    UnwritableOutput,
    UsageError,
    WrongType,
)
from cascadezoo.exporting import to_onnx, to_openvino
from cascadezoo.exporting.checking import Arrays
from cascadezoo.exporting.formats import GRAPHS, Format
from cascadezoo.exporting.graph import Graph

NAME = "cascade_mask_r50_fpn_1x.mmdet"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["export", NAME, *map(str, args)])
        assert isinstance(stop.value.code, int)
        return stop.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "mmdet", "--opset", "20"), "the format mmdet does not take --opset; onnx"),
        (("--format", "mmdet", "--preprocess"), "the format mmdet does not take --preprocess; onnx"),
        (("--format", "paddle", "--dynamic", "batch"), "the format paddle does not take --dynamic; onnx"),
        (("--format", "pt2", "--precision", "fp16"), "the format pt2 is not written in fp16: choose fp32"),
        (("--format", "onnx", "--dynamic", "batch,depth"), "'depth' is no axis of the input"),
        (("--format", "onnx", "--opset", "22"), "--opset 22: choose one from 20 to 21"),
        (("--format", "onnx", "--precision", "int8"), "int8 is calibrated on images: give a folder of some hundred"),
    ],
)
def test_what_a_format_does_not_take_is_refused_in_a_sentence(run: Run, options: Any, said: str) -> None:
    code, err = run(*options)
    assert code == 2
    assert err.startswith("cascadezoo: ")
    assert said in err
    assert err.count("\n") == 1


def test_calibration_is_refused_where_nothing_is_quantised(run: Run, tmp_path: Path) -> None:
    (tmp_path / "truth.json").touch()
    truth = ("--val-json", tmp_path / "truth.json")
    for options, said in (
        (("mmdet", "--calibration", tmp_path), "the format mmdet does not take --calibration; onnx and openvino do"),
        (("mmdet", *truth), "the format mmdet does not take --val-json; onnx and openvino do"),
        (("onnx", "--calibration", tmp_path), "--calibration is for --precision int8 only"),
        (("onnx", "--precision", "fp16", "--calibration", tmp_path), "--calibration is for --precision int8 only"),
        (("openvino", *truth), "--val-json is for --precision fp16 and int8 only"),
        (("openvino", "--precision", "int8", *truth), "--val-json and --val-images belong together"),
    ):
        code, err = run("--format", *options)
        assert code == 2
        assert said in err


def test_a_loaded_model_is_no_checkpoint_of_a_publisher(mask_model: Detector) -> None:
    with pytest.raises(WrongType, match="not a loaded model"):
        cascadezoo.export(mask_model, "mmdet")
    with pytest.raises(UsageError, match="leave weights=FILE out"):
        cascadezoo.export(mask_model, "onnx", weights="some.safetensors")
    with pytest.raises(UsageError, match="no files of 'coreml'"):
        cascadezoo.export(mask_model, "coreml")


@pytest.mark.parametrize("dynamic", ["batch,height", "batch", 2])
def test_axes_are_a_sequence_of_names(dynamic: Any) -> None:
    with pytest.raises(WrongType, match=rf"dynamic: give a sequence of names, such as .* not {dynamic!r}"):
        cascadezoo.export(NAME, "onnx", dynamic=dynamic)


def test_a_folder_to_calibrate_on_is_there(tmp_path: Path) -> None:
    for given in ("nope", tmp_path / "nope"):
        with pytest.raises(UsageError, match=r"no folder of images to calibrate on: .*nope"):
            cascadezoo.export(NAME, "onnx", precision="int8", calibration=given)


def test_a_model_that_is_no_network_as_written_is_refused(box_model: Detector) -> None:
    with pytest.raises(UsageError, match="export the model that it was made of"):
        cascadezoo.export(box_model.optimize(), "onnx")
    box_model.train()
    try:
        with pytest.raises(UsageError, match=r"call model.eval\(\) before export"):
            cascadezoo.export(box_model, "onnx")
    finally:
        box_model.eval()


def test_an_output_is_not_replaced_without_force(mask_model: Detector, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    with pytest.raises(OutputExists, match="pass --force"):
        cascadezoo.export(mask_model, "onnx", output=tmp_path / "there.onnx")


@pytest.mark.parametrize("name", ["model.bin", "model", "model.onnx", ".xml"])
def test_a_pair_of_files_is_named_by_its_first(run: Run, tmp_path: Path, name: str) -> None:
    """OpenVINO finds the weights by the name of the other file: a pair ``model.bin`` would be one file."""
    code, err = run("--format", "openvino", "-o", tmp_path / name)  # and no weights of this entry are here to load
    assert (code, err.count("\n")) == (2, 1)
    assert "end the first one's name in .xml" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "inputs", "output"),
    [
        ("onnx", ("--weights", "best.pth"), "best.pth"),
        ("pt2", ("--weights", "best.pth"), "link"),
        ("onnx", ("--weights", "model.onnx.data"), "model.onnx"),
        ("openvino", ("--weights", "model.bin"), "model.xml"),
        (
            "onnx",
            ("--precision", "int8", "--calibration", ".", "--val-json", "truth.json", "--val-images", "."),
            "truth.json",
        ),
        ("triton", ("--weights", "served/1/best.pth"), "served"),
    ],
)
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_input_is_never_replaced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, inputs: Any, output: str, force: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(next(word for word in inputs if "." in word[1:]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    Path("link").symlink_to(path)
    code, err = run("--format", format, *inputs, "-o", output, *force)
    assert (code, err.count("\n"), path.read_text()) == (2, 1, "mine")
    assert "an input" in err


def test_a_repository_is_not_replaced_by_what_is_made_of_it(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputExists, match="an input itself"):
            cascadezoo.export(f"local-dir:{tmp_path}", "onnx", output=tmp_path / name, force=True)


@pytest.mark.parametrize("format", [*GRAPHS])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr("cascadezoo.loading.load", lambda *_, **__: pytest.fail("loaded"))
    suffix = GRAPHS[format].suffix
    with pytest.raises(UnwritableOutput, match="in a folder that is there"):
        cascadezoo.export(NAME, format, output=tmp_path / f"no such folder/model{suffix}")
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="in a folder that is there"):
        cascadezoo.export(NAME, format, output=tmp_path / f"file/model{suffix}")
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    monkeypatch.chdir(tmp_path)
    for weights in (None, "weights.pth"):
        with pytest.raises(UnwritableOutput, match="cannot be written to: choose an output elsewhere"):
            cascadezoo.export(NAME, format, weights=weights)


def test_the_second_of_a_pair_can_be_written_too(tmp_path: Path) -> None:
    (tmp_path / "model.bin").mkdir()
    with pytest.raises(UnwritableOutput):
        cascadezoo.export(NAME, "openvino", output=tmp_path / "model.xml", force=True)


def test_without_the_extra_the_error_says_what_to_install(
    mask_model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an entry before its weights are fetched."""

    def load(*_: object, **__: object) -> Detector:
        raise AssertionError("loaded")

    monkeypatch.setattr("cascadezoo.loading.load", load)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for model, format in ((mask_model, "onnx"), (NAME, "onnx"), (NAME, "triton")):
        with pytest.raises(MissingResource, match=r"onnx is not installed: pip install onnx onnxscript onnxruntime"):
            cascadezoo.export(model, format, output=tmp_path / "model.onnx")
    for name in ("openvino", "onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingResource, match="nncf is not installed: pip install openvino onnx onnxscript nncf"):
        cascadezoo.export(NAME, "openvino", precision="int8", calibration=tmp_path)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_what_8_bits_are_measured_on_is_opened_first(
    format: str, mask_model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before minutes of translation and quantisation."""

    def translated(*_: object) -> bytes:
        raise AssertionError("translated")

    for module in (to_onnx, to_openvino):
        monkeypatch.setattr(module, "translated", translated)
    monkeypatch.setattr(Format, "require", lambda *_: None)
    (tmp_path / "image.png").touch()
    (tmp_path / "bad.json").write_text("{")
    int8 = {"precision": "int8", "calibration": tmp_path}
    for narrow in (int8, {"precision": "fp16"}):
        for model in (mask_model, NAME):  # whose weights need not be fetched for that
            with pytest.raises(UsageError, match="give --val-json and --val-images"):
                cascadezoo.export(model, format, **narrow)
    with pytest.raises(BadAnnotations, match="bad"):
        cascadezoo.export(mask_model, format, **int8, val_json=tmp_path / "bad.json", val_images=tmp_path)
    with pytest.raises(MissingResource, match="none"):
        cascadezoo.export(mask_model, format, **int8, val_json=tmp_path / "none.json", val_images=tmp_path)


@pytest.fixture
def untranslated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ONNX is made: what is written is a text, and what runs it stands in for a file that goes wrong."""
    monkeypatch.setattr(Format, "require", lambda *_: None)
    monkeypatch.setattr(to_onnx, "translated", lambda graph, options, about: about.encode())


def test_a_file_that_detects_something_else_is_not_written(
    mask_model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untranslated: None
) -> None:
    def wrong(content: bytes, graph: Graph) -> Callable[[Arrays], Arrays]:
        return lambda inputs: moved(graph, inputs)

    monkeypatch.setattr(to_onnx, "runner", wrong)
    with pytest.raises(DepartsFromModel, match="nothing was written") as raised:
        cascadezoo.export(mask_model, "onnx", output=tmp_path / "model.onnx")
    assert raised.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def moved(graph: Graph, inputs: Arrays) -> Arrays:
    """What the model finds, half a pixel away."""
    found = ran(graph, inputs)
    return {**found, "boxes": found["boxes"] + 0.5}


def ran(graph: Graph, inputs: Arrays) -> Arrays:
    """What the model finds."""
    import torch

    with torch.no_grad():
        outputs = graph(*(torch.from_numpy(inputs[name]) for name in graph.inputs))
    return {name: value.numpy() for name, value in zip(graph.outputs, outputs, strict=True)}


@pytest.mark.parametrize("format", ["onnx", "triton"])
@pytest.mark.parametrize("opset", [17, 22, 99])
def test_an_opset_that_lacks_operators_is_refused(format: str, opset: int) -> None:
    """Before anything is loaded, or looked for."""
    with pytest.raises(UsageError, match=f"--opset {opset}: choose one from 20 to 21"):
        cascadezoo.export("no such entry", format, opset=opset)


def test_a_model_of_half_precision_is_refused(untranslated: None) -> None:
    from tiny import lively, tiny

    with pytest.raises(UsageError, match="float32 on the CPU"):
        cascadezoo.export(lively(tiny()).bfloat16(), "onnx")


def test_the_report_says_what_was_compared(
    mask_model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untranslated: None
) -> None:
    monkeypatch.setattr(to_onnx, "runner", lambda content, graph: lambda inputs: ran(graph, inputs))
    report = cascadezoo.export(mask_model, "onnx", output=tmp_path / "model.onnx")
    assert (report.format, report.precision, report.images) == ("onnx", "fp32", 4)
    assert report.detections > 50
    assert (report.box_difference, report.score_difference, report.mask_iou) == (0, 0, 1)
    assert cascadezoo.export(mask_model, "onnx", output=tmp_path / "one.onnx", dynamic=()).images == 2


@pytest.mark.parametrize("full", [0, 1])
def test_of_two_files_none_is_put_in_place_where_one_does_not_fit(
    full: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes of a file are in a buffer until it is flushed; so a full disk is noticed no sooner."""
    made = tmp_path / "made.xml", tmp_path / "made.bin"
    for path in made:
        path.write_bytes(b"few bytes")
    targets = tmp_path / "model.xml", tmp_path / "model.bin"
    targets[0].write_text("earlier")
    synced = []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == full + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UnwritableOutput, match="No space left on device; nothing was left"):
        to_onnx.put(*zip(made, targets, strict=True))
    assert sorted(tmp_path.iterdir()) == sorted((*made, targets[0]))
    assert targets[0].read_text() == "earlier"
