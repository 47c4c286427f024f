"""``cascadezoo convert`` and ``cascadezoo inspect``, as the shell sees them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.cli import main
from cascadezoo.converters import CONVERTERS
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import FORMATS, SPECS

from tiny import tiny

# stem 5, four blocks of 4 convolutions and norms 80, neck 16, rpn 6, three heads of 6; a counter for each of 17 norms
MAPPED, COUNTERS = 125, 17

SAMPLES = Path(__file__).parents[1] / "parity" / "mmdet" / "formats"


@pytest.fixture(autouse=True)
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cascade_r50_fpn", "cascade_r50_caffe_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], name, tiny(name))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    shapes = canonical_shapes(SPECS["mmdet"]["cascade_r50_fpn"])
    state = to_publisher({name: torch.ones(shape) for name, shape in shapes.items()}, "cascade_r50_fpn_1x")
    path = tmp_path / "cascade_r50_fpn_1x.pth"
    torch.save({"meta": {"mmdet_version": "2.3.0", "CLASSES": ("a", "b"), "config": "x\ny"}, "state_dict": state}, path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


def test_every_publisher_with_networks_has_a_converter() -> None:
    assert tuple(CONVERTERS) == FORMATS  # what --from offers, and what takes it
    assert all(converter.publisher == name for name, converter in CONVERTERS.items())


def test_convert(run: Any, checkpoint: Path) -> None:
    code, out, err = run("convert", "--from", "mmdet", checkpoint)
    output = checkpoint.with_name("cascade_r50_fpn_1x.mmdet.safetensors")
    assert (code, err) == (0, "")
    assert output.is_file()
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["entry"].strip() == "cascade_r50_fpn_1x.mmdet"
    assert lines["tensors"].strip().startswith(f"{MAPPED} mapped, {COUNTERS} left out (a counter")
    assert lines["load it with"].strip() == f"cascadezoo.load('cascade_r50_fpn_1x.mmdet', weights='{output}')"


def test_convert_as_json(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    options = ("--entry", "cascade_r50_caffe_fpn_1x", "-o", output, "--json")
    code, out, err = run("convert", "--from", "mmdet", checkpoint, *options)
    assert (code, out) == (4, "")
    assert "the file name is cascade_r50_fpn_1x.pth" in err  # says another
    code, out, err = run("convert", "--from", "mmdet", checkpoint, *options, "--insist")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["architecture"] == "cascade_r50_caffe_fpn"
    assert report["found_by"] == "the entry given"
    assert report["output"] == str(output)


def test_convert_says_in_a_sentence_what_is_wrong(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    def fails(expected: int, words: str, *args: object) -> None:
        code, out, err = run("convert", *args)
        assert (code, out) == (expected, "")
        assert words in err
        assert "Traceback" not in err

    fails(2, "'caffe2' is not", "--from", "caffe2", checkpoint)
    fails(2, "no entry is called", "--from", "mmdet", checkpoint, "--entry", "nonsense")
    fails(3, "does not exist", "--from", "mmdet", tmp_path / "absent.pth")
    fails(4, "cannot be written", "--from", "mmdet", checkpoint, "-o", tmp_path / "no" / "x.safetensors")
    toy = shutil.copy(SAMPLES / "published_checkpoint_mmdet2.pth", tmp_path)
    fails(4, "its tensors are not those of cascade_mask_r50_fpn", toy)
    fails(4, "it is a file of mmdet", "--from", "paddle", checkpoint)

    unnamed = tmp_path / "epoch_12.pth"
    shutil.copy(checkpoint, unnamed)
    fails(2, "pass --entry with one of", "--from", "mmdet", unnamed)
    (tmp_path / "x.safetensors").touch()
    fails(2, "already there", "--from", "mmdet", checkpoint, "-o", tmp_path / "x.safetensors")
    assert run("convert", "--from", "mmdet", checkpoint, "-o", tmp_path / "x.safetensors", "--force")[0] == 0


def test_convert_keeps_nan_when_told(run: Any, checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["rpn_head.rpn_cls.bias"][0] = torch.nan
    torch.save(content, checkpoint)
    code, _, err = run("convert", "--from", "mmdet", checkpoint)
    assert code == 4
    assert "rpn_head.rpn_cls.bias" in err
    code, out, _ = run("convert", "--from", "mmdet", checkpoint, "--allow-nan")
    assert code == 0
    assert "rpn_head.rpn_cls.bias" in out


def test_V1_a_link_keeps_leading_to_the_output(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "out.safetensors"
    link.symlink_to("kept/weights.safetensors")
    assert run("convert", checkpoint, "-o", link)[0] == 0
    assert os.readlink(link) == "kept/weights.safetensors"
    assert (tmp_path / "kept" / "weights.safetensors").is_file()
    code, _, err = run("convert", checkpoint, "-o", link)
    assert (code, "already there" in err) == (2, True)
    link.unlink()
    link.symlink_to("gone/weights.safetensors")
    code, _, err = run("convert", checkpoint, "-o", link)
    assert (code, f"{link} cannot be written: give a file" in err) == (4, True)


def test_ctrl_c(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    assert run("convert", "--from", "mmdet", checkpoint)[0] == 130
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_inspect(run: Any, checkpoint: Path) -> None:
    code, out, err = run("inspect", checkpoint)
    assert (code, err) == (0, "")
    assert f"{MAPPED + COUNTERS} with" in out
    assert "mmdet_version" in out
    assert "2.3.0" in out
    fits = [line.split("  ", 1)[1].strip() for line in out.splitlines() if line.startswith("fits")]
    (names,) = fits
    schedules = {"cascade_r50_caffe_fpn_1x.mmdet", "cascade_r50_fpn_1x.mmdet", "cascade_r50_fpn_20e.mmdet"}
    assert set(names.split(", ")) == schedules
    assert "rpn_head.rpn_cls.bias" not in out
    assert "rpn_head.rpn_cls.bias" in run("inspect", checkpoint, "--tensors")[1]


def test_inspect_as_json(run: Any, checkpoint: Path) -> None:
    code, out, _ = run("inspect", checkpoint, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["container"] == "zip"
    assert found["tensor_count"] == MAPPED + COUNTERS
    assert found["metadata"] == {"mmdet_version": "2.3.0", "CLASSES": "2 items", "config": "text of 3 characters"}
    assert [match["problems"] for match in found["matches"]] == [0, 0]
    assert "tensors" not in found
    tensors = json.loads(run("inspect", checkpoint, "--json", "--tensors")[1])["tensors"]
    assert tensors["rpn_head.rpn_cls.bias"] == {"shape": [3], "dtype": "float32"}


def test_inspect_shows_what_is_refused(run: Any) -> None:
    code, out, _ = run("inspect", SAMPLES / "train_checkpoint_mmdet3.pth")
    assert code == 0
    refused = next(line for line in out.splitlines() if line.startswith("of them refused"))
    assert "__builtin__.getattr" in refused
    assert "mmengine.logging.history_buffer.HistoryBuffer" in refused
    assert "collections.OrderedDict" not in refused
    assert "closest to" in out


def test_inspect_says_whose_file_it_is_not(run: Any, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "x.pth")
    code, out, _ = run("inspect", tmp_path / "x.pth")
    assert code == 0
    assert "not of mmdet" in out


def test_inspect_a_canonical_file(run: Any, checkpoint: Path) -> None:
    run("convert", "--from", "mmdet", checkpoint)
    path = checkpoint.with_name("cascade_r50_fpn_1x.mmdet.safetensors")
    code, out, _ = run("inspect", path)
    assert code == 0
    assert "cascade_r50_fpn_1x.mmdet" in out
    assert out.rstrip().endswith("holds")

    broken = bytearray(path.read_bytes())
    broken[-1] ^= 1
    path.write_bytes(broken)
    code, out, err = run("inspect", path)
    assert code == 4
    assert out.rstrip().endswith("does not hold")
    assert "content digest" in err


def test_inspect_files_that_are_nothing(run: Any, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("<html>")
    assert run("inspect", tmp_path / "x.pth")[0] == 4
    assert run("inspect", tmp_path / "absent")[0] == 3
