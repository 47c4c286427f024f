"""What is computed of the networks, held to the networks themselves."""

import math
from pathlib import Path

import pytest

from cascadezoo import registry
from cascadezoo.benchmarks.measure.computed import compute, digest, padded, parity_cases, text_of
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.computed import computed, load_computed
from cascadezoo.providers import SPECS

from tiny import tiny

ROOT = Path(__file__).parents[3]
AGAIN = "run python -m cascadezoo.benchmarks.measure.computed"
NETWORKS = {f"{name}.{publisher}": spec for publisher, specs in SPECS.items() for name, spec in specs.items()}


def test_every_network_is_there_and_of_its_present_spec() -> None:
    assert {name: row.spec for name, row in load_computed().items()} == {
        name: digest(spec) for name, spec in NETWORKS.items()
    }, AGAIN
    for entry in registry.entries():
        assert computed(entry).total_flops > 0


def test_files_are_as_large_as_the_tensors_of_their_networks() -> None:
    for name, spec in NETWORKS.items():
        numbers = sum(math.prod(shape) for shape in shapes_of(spec).values())
        assert load_computed()[name].tensor_bytes == 4 * numbers, AGAIN
        assert load_computed()[name].parameters <= numbers


def test_the_recorded_cases_are_those_of_the_tests() -> None:
    cases = parity_cases(ROOT / "tests" / "parity")
    assert {name: list(row.parity) for name, row in load_computed().items() if row.parity} == cases, AGAIN
    assert sum(map(len, cases.values())) == len([*(ROOT / "tests" / "parity").glob("[!t]*/*/case.json")])


@pytest.mark.parametrize(
    "name", ["cascade_mask_r50_fpn.mmdet", "mask_r50_c4.paddle", "cascade_mask_r18_fpn.cascadezoo"]
)
def test_counted_again_it_is_the_same(name: str) -> None:
    row = load_computed()[name]
    assert compute(NETWORKS[name], row.parity) == row, AGAIN


def test_an_image_fills_the_scale_and_is_padded_as_the_network_pads_it() -> None:
    assert padded(SPECS["mmdet"]["cascade_r50_fpn"]) == (800, 1344)  # 1333, to the next multiple of 32
    assert padded(SPECS["paddle"]["mask_r50_c4"]) == (800, 1333)  # not padded
    assert padded(SPECS["detectron2"]["cascade_mask_vitdet_b"]) == (1024, 1024)  # whatever the image


def test_a_small_network_is_counted_as_by_hand() -> None:
    spec = tiny()
    row = compute(spec)
    assert (row.proposals, row.detections) == (40, 100)
    # 40 proposals in 3 stages: 7 x 7 x 16 to 32, and these to 6 scores and to 4 deltas
    assert row.flops["box stages"] == 3 * 2 * 40 * (7 * 7 * 16 * 32 + 32 * 6 + 32 * 4)
    assert row.total_flops == sum(row.flops.values())


def test_the_file_is_text_that_says_what_it_holds() -> None:
    row = compute(tiny())
    assert '"x.y": {\n  "spec": ' in text_of({"x.y": row})
