"""The compiled operators where there is no Python: their schemas, and a program of C++ that runs an exported module.

`make test-standalone` runs the slow one.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cascadezoo.ops.dcnv3  # noqa: F401  (it registers the operator)
from cascadezoo.ops import building
from cascadezoo.ops.nms import class_nms, grouped_nms
from cascadezoo.ops.paste_rle import paste_rle
from cascadezoo.ops.roi_align import pyramid_roi_align
from cascadezoo.ops.rpn_select import rpn_select
from cascadezoo.spec.conventions import (
    AnchorGrid,
    BoxCoder,
    LevelRule,
    MaskPaste,
    Nms,
    ProposalRule,
    RoIAlign,
    RpnScore,
)

pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here")
PROGRAM = Path(__file__).parent / "standalone/main.cpp"
TORCH = Path(str(find_spec("torch").origin)).parent


def names() -> list[str]:
    """Of all operators that Python has registered."""
    found = (name.split("::", 1) for name in torch._C._dispatch_get_all_op_names())
    return sorted({name.split(".")[0] for space, name in found if space == "cascadezoo"})


def schemas(space: object) -> dict[str, str]:
    return {name: str(getattr(space, name).default._schema) for name in names()}


def test_the_librarys_schemas_are_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    library = building.build(building.SCHEMAS)
    code = (
        f"import json, torch; torch.ops.load_library({str(library)!r});"
        "ops = {n.split('::')[1]: n for n in torch._C._dispatch_get_all_op_names() if n.startswith('cascadezoo::')};"
        "print(json.dumps({n: str(getattr(torch.ops.cascadezoo, n).default._schema) for n in ops}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == schemas(torch.ops.cascadezoo)


GRID = AnchorGrid(sizes=((32,), (64,)), ratios=(1,), strides=(4, 8), extent=0, rounded=False)
PROPOSALS = ProposalRule(
    score=RpnScore.PROBABILITY,
    coder=BoxCoder(stds=(0.1, 0.1, 0.2, 0.2), log_scale=(-4, 4), extent=0),
    nms=Nms(iou=0.7, extent=0, inclusive=False, rounded_shift=True),
    min_size=2,
    pre_nms_top_n=50,
    post_nms_top_n=20,
)


class Pooled(nn.Module):
    """Selection, suppression, pooling of what is kept, suppression by classes, and run lengths, for maps of two levels
    whose first channels are logits, deltas and masks."""

    def forward(self, fine: Tensor, coarse: Tensor, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, H, W), boxes (N, R, 4) and scores (N, R, classes)."""
        n, r = boxes.shape[:2]
        valid, groups = torch.ones(n, r, dtype=torch.bool), torch.arange(r).expand(n, r) % 2
        rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True)
        keep, count = grouped_nms(boxes, scores[..., 0], groups, valid, rule, 20, group_count=2)
        kept = boxes.gather(1, keep[..., None].expand(-1, -1, 4))
        levels = LevelRule(size=32, level=0, epsilon=1e-6, extent=0)
        align = RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False)
        pooled = pyramid_roi_align([fine, coarse], kept, [4, 8], levels, align, 7)
        best, found = class_nms(boxes[:, :, None], scores, valid, 0.3, rule, 10)
        logits, deltas = zip(*((x[:, 0].flatten(1), x[:, 1:5].flatten(2).mT) for x in (fine, coarse)), strict=True)
        sizes = torch.tensor([[150.0, 160.0]]).expand(n, -1)
        anchors = rpn_select(logits, deltas, [fine.shape[3], coarse.shape[3]], sizes, GRID, PROPOSALS)
        masks = fine[0, :, :28, :28].clamp(0, 1)
        runs = paste_rle(masks, boxes[0, : len(masks)], 120, 160, MaskPaste.BILINEAR)
        return keep, count, pooled, best, found, *anchors, *runs


@pytest.mark.slow  # AOTInductor compiles what it makes: half a minute and more
def test_a_program_without_python_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    libraries = [building.build(kind) for kind in (building.SCHEMAS, "cpu")]
    random = torch.Generator().manual_seed(0)
    low, side = torch.rand(2, 40, 2, generator=random) * 100, torch.rand(2, 40, 2, generator=random) * 60
    maps = [torch.randn(2, 8, size, size, generator=random) for size in (40, 20)]
    inputs = (*maps, torch.cat((low, low + side), -1), torch.rand(2, 40, 4, generator=random))
    package = torch._inductor.aoti_compile_and_package(
        torch.export.export(Pooled(), inputs), package_path=str(tmp_path / "pooled.pt2")
    )
    program = tmp_path / "program"
    command = ["c++", "-std=c++20", f"-isystem{TORCH / 'include'}", str(PROGRAM), "-o", str(program)]
    command += [f"-L{TORCH / 'lib'}", f"-Wl,-rpath,{TORCH / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    subprocess.run(command, check=True)
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    assert "libtorch_cpu" in linked
    assert "libpython" not in linked
    given = b"".join(x.numpy().tobytes() for x in inputs)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([program, package, *libraries], input=given, capture_output=True, check=True, env=environment)
    found = io.BytesIO(done.stdout)
    with torch.inference_mode():
        expected = Pooled()(*inputs)
    assert int(expected[1].min()) > 5
    assert int(expected[4].min()) > 5
    assert expected[8].all()  # valid anchors
    assert int(expected[10].max()) > 100  # runs
    for right in expected:
        mine = np.frombuffer(found.read(right.numel() * right.element_size()), right.numpy().dtype)
        assert right.is_floating_point() or np.array_equal(mine, right.flatten().numpy())
        np.testing.assert_allclose(mine, right.contiguous().flatten().numpy(), rtol=1e-4, atol=1e-5)
    assert not found.read()
