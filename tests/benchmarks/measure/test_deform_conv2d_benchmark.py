"""Every way computes the same, so that their times can be compared, and the operator's share is its own."""

import pytest
import torch

from cascadezoo.benchmarks.measure import deform_conv2d
from cascadezoo.benchmarks.measure.operator_sections import deform_conv2d as section
from cascadezoo.modeling import layers
from cascadezoo.providers import SPECS

from tiny import tiny

NAME = "cascade_mask_r50_dconv_c3c5_fpn"


def test_both_operators_compute_the_same() -> None:
    x, offset, weight = (deform_conv2d.noise(*shape) for shape in ((1, 32, 9, 8), (1, 18, 9, 8), (32, 8, 3, 3)))
    found = [compute(x, offset, weight, None, 1, 1, 4) for compute in deform_conv2d.OPERATORS.values()]
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


def test_inside_a_network_computes_by_the_operator_chosen_and_its_time_is_told() -> None:
    conv, x = layers.DeformConv(4, 4, 3), deform_conv2d.noise(1, 4, 6, 6)
    called = []
    ours = layers.deform_conv2d
    for way in deform_conv2d.OPERATORS:
        clock: dict[str, float] = {}
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(deform_conv2d.OPERATORS, way, lambda *given, way=way: called.append(way) or ours(*given))
            with deform_conv2d.operator(way, clock):
                conv(x)
        assert clock["operator"] > 0
    assert called == list(deform_conv2d.OPERATORS)
    assert layers.deform_conv2d is ours


def test_a_report_is_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NAME, NAME.replace("_dconv_c3c5", "")):
        monkeypatch.setitem(SPECS["mmdet"], name, tiny(name))
    rows = deform_conv2d.networks(NAME, ((64, 96), (128, 192)), runs=2)
    assert [row["input"] for row in rows] == [[64, 96], [128, 192]]
    assert all(0 < row["share_of_backbone"][way]["median"] < 1 for row in rows for way in deform_conv2d.OPERATORS)
    report = {
        "runs": 2,
        "load_average": 0.5,
        "layers": {"tiny": deform_conv2d.layer((32, 4, 9, 8), 2)},
        "networks": rows,
        "grows_with_pixels": dict.fromkeys(("compiled", "torchvision", "not deformable"), 0.87),
        "training": {"tiny": deform_conv2d.training((32, 4, 9, 8), 2)},
        "environment": {
            "cpu": "a CPU",
            "cores": 2,
            "date": "2026-11-27",
            "modified": False,
            "packages": {"torch": "2"},
        },
    }
    text = "\n".join(section(report))
    assert f"| `{NAME}` | 64x96 |" in text
    assert "| tiny | 32x9x8 |" in text
    assert "to the power of 0.87 (compiled)" in text
