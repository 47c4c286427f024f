"""``cascadezoo export --format pt2`` and ``aoti``: packages of PyTorch, checked beside the model, and one run in C++.

`make test-standalone` runs those that compile; the recorded publishers' outputs are held by `make test-parity`.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.detector import Detector
from cascadezoo.errors import BuildError, DepartsFromModel, NoCompiler, UnwritableOutput, UsageError
from cascadezoo.exporting import packages
from cascadezoo.exporting.graph import Graph
from cascadezoo.ops import building
from cascadezoo.shapes.dataset import scene

from tiny import lively, tiny

TORCH = Path(str(find_spec("torch").origin)).parent
EXAMPLE = Path(__file__).parents[2] / "examples/aoti_detect/main.cpp"
PAGE = (Path(__file__).parents[2] / "docs/packages.md").read_text()
(BLOCK,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
EMBEDDED = "cascade_mask_r18_fpn_shapes"
FAMILIES = [
    pytest.param("faster_r50_fpn", "detectron"),
    *(
        pytest.param(*names, marks=pytest.mark.slow)
        for names in (
            ("cascade_mask_r50_vd_fpn", "paddle"),
            ("cascade_mask_r50_caffe_fpn", "mmdet"),
            ("cascade_mask_x101_32x8d_fpn", "detectron"),
            ("mask_r50_c4", "paddle"),
            ("cascade_mask_internimage_l_fpn", "internimage"),
            ("mask_convnext_t_fpn", "convnext"),
            ("mask_swin_t_fpn", "swin"),
            ("cascade_mask_vitdet_b", "detectron2"),
            ("cascade_r50_dconv_c3c5_fpn", "mmdet"),
        )
    ),
]


def small(architecture: str, publisher: str) -> Detector:
    """A tiny network of images that a package takes."""
    spec = tiny(architecture, publisher)
    sides = spec.preprocess.model_copy(update={"min_size": 160, "max_size": 256})
    return lively(spec.model_copy(update={"preprocess": sides})).eval()


@pytest.mark.parametrize(("architecture", "publisher"), FAMILIES)
def test_a_program_detects_what_its_model_does(architecture: str, publisher: str, tmp_path: Path) -> None:
    model = small(architecture, publisher)
    report = cascadezoo.export(model, "pt2", output=tmp_path / "a.pt2")
    assert report.images == 4  # two sizes, and a batch of two
    assert report.detections > 20
    extra = {"cascadezoo.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra["cascadezoo.json"])["outputs"] == list(Graph(model).outputs)
    own = [node for node in program.graph.nodes if "cascadezoo." in str(node.target)]
    operators = {str(node.target).split(".")[1] for node in own}
    numbers = [x for node in own for x in tree_leaves(node.args) if isinstance(x, float)]
    assert np.isfinite(numbers).all()  # AOTInductor writes the arguments of such operators as JSON
    assert operators <= compiled()  # none that a process without Python would miss


def compiled() -> set[str]:
    """The operators with a kernel for a CPU."""
    from cascadezoo.ops.library import KERNELS

    return {name for name, kinds in KERNELS.items() if "cpu" in kinds}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_package_of_detectrons_is_compiled(tmp_path: Path) -> None:
    """Its rules have an infinity, which AOTInductor, whose operators' arguments are JSON, does not take."""
    report = cascadezoo.export(small("cascade_r50_fpn", "detectron"), "aoti", output=tmp_path / "a.aoti.pt2")
    assert report.detections > 20


@pytest.mark.slow
def test_a_program_prepares_images_itself(tmp_path: Path) -> None:
    model = small("faster_r50_fpn", "detectron")
    report = cascadezoo.export(model, "pt2", output=tmp_path / "a.pt2", preprocess=True, dynamic=("batch",))
    assert report.detections > 20


@pytest.mark.parametrize("format", ["pt2", "aoti"])
def test_a_package_that_departs_is_not_left(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("faster_r50_fpn", "detectron")
    shape = (1, model.spec.conventions.selection.detections_per_img)

    def nothing(pixels: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        n = len(pixels)
        return (
            torch.zeros(n, shape[1], 4),
            torch.zeros(n, shape[1]),
            torch.zeros(n, shape[1]).long(),
            torch.zeros(n).long(),
        )

    monkeypatch.setattr(packages, "program", lambda *_: None)
    monkeypatch.setattr(torch.export, "save", lambda program, file, **_: file.write(b"PK"))
    monkeypatch.setattr(torch.export, "load", lambda file: type("Program", (), {"module": lambda self: nothing})())
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lambda program, package_path, **_: None)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda file: nothing)
    monkeypatch.setattr(packages, "_add", lambda file, words: None)
    with pytest.raises(DepartsFromModel, match="nothing was written"):
        cascadezoo.export(model, format, output=tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["pt2", "aoti"])
def test_a_full_disk_is_an_error_and_no_end_of_the_process(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = torch.export.export(torch.nn.Linear(256, 256), (torch.zeros(1, 256),))  # 256 KiB
    monkeypatch.setattr(packages, "program", lambda *_: layer)
    monkeypatch.setattr(
        torch._inductor,
        "aoti_compile_and_package",
        lambda made, package_path, **_: torch.export.save(made, package_path),
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, before[1]))  # bytes of any file
    try:
        with pytest.raises(UnwritableOutput, match="File too large; nothing was left"):
            cascadezoo.export(small("faster_r50_fpn", "detectron"), format, output=tmp_path / "a.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_compiler_is_needed_and_its_failure_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("faster_r50_fpn", "detectron")
    monkeypatch.setattr(packages, "program", lambda *_: None)

    def failing(*_: object, **settings: object) -> None:
        raise torch._inductor.exc.CppCompileError(["c++", "a.cpp"], "no space left")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", failing)
    with pytest.raises(BuildError, match="no space left"):
        cascadezoo.export(model, "aoti", output=tmp_path / "a.pt2")
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    with pytest.raises(NoCompiler):
        cascadezoo.export(model, "aoti", output=tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_a_package_has_a_least_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="96 pixels or more: load the model with a min_size above 64"):
        cascadezoo.export(lively(tiny("faster_r50_fpn", "detectron")).eval(), "pt2", output=tmp_path / "a.pt2")


def test_packages_are_written_in_float32_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a model in float32 on the CPU"):
        cascadezoo.export(small("faster_r50_fpn", "detectron").half(), "pt2", output=tmp_path / "a.pt2")
    with pytest.raises(UsageError, match="not written in int8"):
        cascadezoo.export(EMBEDDED, "aoti", output=tmp_path / "a.pt2", precision="int8")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The compiled operators: their schemas, and those for a CPU."""
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADEZOO_HOME", str(tmp_path_factory.mktemp("home")))
        return [building.build(kind) for kind in (building.SCHEMAS, "cpu")]


@pytest.mark.slow
def test_the_page_runs_without_this_package(
    libraries: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^cascadezoo (export .* --format pt2 .*)$", PAGE, re.MULTILINE)
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 0
    model = cascadezoo.load(EMBEDDED, pretrained=True)
    batch = model.prepare([model.resize(scene("val", 3).image)] * 2)
    torch.save(tuple(batch), tmp_path / "batch.pt")
    code = f"""
import sys, torch
operators = {str(libraries[0].parent)!r}
pixels, sizes, scales, original_sizes = torch.load("batch.pt")
{BLOCK}
assert not any(name.startswith("cascadezoo") for name in sys.modules)
torch.save(found, "found.pt")
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)
    found = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        expected = model.infer(batch)
    assert int(expected.counts.min()) > 2
    for name in Graph(model).outputs:
        torch.testing.assert_close(found[name], getattr(expected, name), atol=1e-3, rtol=1e-4)


@pytest.mark.slow  # AOTInductor compiles what it makes: minutes on two cores
@pytest.mark.timeout(1800)
def test_the_example_detects_without_python(libraries: list[Path], tmp_path: Path) -> None:
    model = cascadezoo.load(EMBEDDED, pretrained=True)
    package = tmp_path / "shapes.aoti.pt2"
    report = cascadezoo.export(model, "aoti", output=package, preprocess=True)
    assert report.detections > 10
    loaded = torch._inductor.aoti_load_package(str(package))
    document = json.loads(loaded.get_metadata()["cascadezoo"])
    assert document["inputs"][0] == "images"
    assert document["preprocess"]["bounds"] == "resized"  # as the example takes them

    program, line = tmp_path / "aoti_detect", re.search(r"// (g\+\+ -std.*) \\\n// (.*)\n", EXAMPLE.read_text())
    command = (
        " ".join(line.groups())
        .replace("main.cpp", str(EXAMPLE))
        .replace("-o aoti_detect", f"-o {program}")
        .replace("$T", str(TORCH))
    )
    subprocess.run(command.split(), check=True)
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    assert "libtorch_cpu" in linked
    assert "libpython" not in linked

    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    image = np.ascontiguousarray(scene("val", 3).image[:150])
    for given in (image, np.ascontiguousarray(image.transpose(1, 0, 2))):
        resized = model.resize(given).pixels
        cv2.imwrite(str(tmp_path / "image.ppm"), resized[..., ::-1])
        words = [program, package, tmp_path / "image.ppm", *map(str, given.shape[:2]), *libraries]
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        rows = np.array([line.split() for line in done.stdout.splitlines()], dtype=np.float64).reshape(-1, 6)
        expected = model.predict(given)
        assert len(expected) > 2
        np.testing.assert_allclose(rows[:, :4], expected.boxes, atol=0.1)
        np.testing.assert_allclose(rows[:, 4], expected.scores, atol=1e-3)
        assert rows[:, 5].tolist() == expected.labels.tolist()
