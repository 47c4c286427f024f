"""``cascadezoo export``, as the shell sees it."""

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from cascadezoo.cli import main
from cascadezoo.cli.parameters import OutputOfExport
from cascadezoo.converters.canonical import write_canonical
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

from tiny import tiny

NAME = "cascade_r50_fpn_1x.mmdet"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    spec = tiny("cascade_r50_fpn")
    monkeypatch.setitem(SPECS["mmdet"], "cascade_r50_fpn", spec)
    path = tmp_path / "weights.safetensors"
    write_canonical(path, {name: torch.ones(shape) for name, shape in canonical_shapes(spec).items()}, {})
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


def test_export(run: Any, weights: Path) -> None:
    code, out, err = run("export", "cascade_rcnn_r50_fpn_1x_coco.mmdet", "--format", "mmdet", "--weights", weights)
    output = weights.with_name(f"{NAME}.pth")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["output", "tensors", "sha256"]
    assert out.split()[1] == str(output)
    # what was dropped is zeros, and named: tiny networks have 17 norms
    assert err.startswith("zeros in backbone.layer1.0.bn1.num_batches_tracked, ")
    assert err.endswith(" and 12 more: a counter\n")
    assert "backbone.conv1.weight" in torch.load(output, weights_only=True)["state_dict"]


def test_json(run: Any, weights: Path) -> None:
    output = weights.with_name("out.pth")
    code, out, _ = run("export", NAME, "--format", "mmdet", "--weights", weights, "-o", output, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["entry"], report["format"], report["output"]) == (NAME, "mmdet", str(output))
    assert len(report["zeroed"]) == 17


def test_force(run: Any, weights: Path) -> None:
    call = ("export", NAME, "--format", "mmdet", "--weights", weights)
    assert run(*call)[0] == 0
    code, out, err = run(*call)
    assert (code, out) == (2, "")
    assert "pass --force to replace it" in err
    assert run(*call, "--force")[0] == 0


def test_V1_a_fifo_gets_the_whole_file(run: Any, weights: Path) -> None:
    fifo, got = weights.with_name("fifo"), []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    code, out, _ = run("export", NAME, "--format", "mmdet", "--weights", weights, "-o", fifo)
    reader.join(60)
    assert (code, fifo.is_fifo()) == (0, True)
    assert out.split()[-1] == hashlib.sha256(got[0]).hexdigest()


@pytest.mark.parametrize("format", ["onnx", "openvino", "pt2", "triton", "mmdet"])
def test_nothing_is_exported_to_stdout(
    run: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("export", NAME, "--format", format, "--weights", weights, "-o", "-")
    assert (code, out) == (2, "")
    assert err.endswith("what is exported is a file or a folder: name it\n")
    assert not Path("-").exists()


def test_a_folder_of_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "served").mkdir()
    assert OutputOfExport().convert("~/served", None, None) == tmp_path / "served"


def test_errors_are_one_sentence(run: Any, weights: Path) -> None:
    for args, exit_code, said in (
        ((NAME, "--format", "paddle", "--weights", weights), 2, "cannot be a file of paddle"),
        ((NAME, "--format", "mmdet", "--weights", weights.with_name("none")), 3, "does not exist"),
        (("cascade_r51_fpn_1x", "--format", "mmdet"), 2, "no entry is called"),
    ):
        code, out, err = run("export", *args)
        assert (code, out) == (exit_code, "")
        assert err.startswith("cascadezoo: ")
        assert said in err
        assert err.count("\n") == 1
    assert run("export", NAME)[0] == 2
    assert run("export", NAME, "--format", "coreml")[0] == 2
