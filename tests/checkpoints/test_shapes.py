"""The table of tensors: it is what the networks themselves have, for any number of classes."""

import subprocess
import sys
from importlib.resources import files

import pytest

from cascadezoo.checkpoints.shapes import shapes_of, table
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

from tiny import tiny


def test_the_table_is_that_of_the_networks() -> None:
    text = files("cascadezoo.zoo_manifest").joinpath("tensors.tsv").read_text("utf-8")
    assert text == table(), "run python -m cascadezoo.checkpoints.shapes"


@pytest.mark.parametrize(
    ("publisher", "architecture"),
    [
        ("mmdet", "cascade_mask_r50_fpn"),
        ("paddle", "mask_r50_c4"),
        ("detectron", "faster_r50_fpn"),  # deltas for each class
        ("internimage", "cascade_mask_internimage_l_fpn"),
        ("convnext", "mask_convnext_t_fpn"),
        ("cascadezoo", "cascade_mask_r18_fpn"),
    ],
)
@pytest.mark.parametrize("count", [1, 3, 1230])
def test_any_number_of_classes(publisher: str, architecture: str, count: int) -> None:
    spec = SPECS[publisher][architecture].with_classes(count)
    assert shapes_of(spec) == canonical_shapes(spec)
    assert shapes_of(spec)["box_heads.0.cls_score.bias"] == (count + 1,)


def test_a_network_that_is_not_listed_is_built() -> None:
    assert shapes_of(tiny()) == canonical_shapes(tiny())
    assert shapes_of(tiny())["neck.output.0.bias"] == (16,)


def test_C3_the_table_is_read_without_torch() -> None:
    code = (
        "import sys; from cascadezoo.checkpoints.shapes import shapes_of; from cascadezoo.providers import SPECS;"
        "n = sum(len(shapes_of(spec)) for specs in SPECS.values() for spec in specs.values());"
        "assert n > 18000, n; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
