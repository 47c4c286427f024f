"""The footprint benchmark on a tiny network."""

import pytest

import cascadezoo
from cascadezoo.benchmarks.measure import footprint
from cascadezoo.providers import SPECS

from tiny import tiny


@pytest.mark.parametrize("optimised", [False, True])
def test_detections_are_found_and_measured(optimised: bool, monkeypatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    row = footprint.measure("cascade_mask_r50_fpn_1x.mmdet", tta=False, optimised=optimised)
    assert 50 < row["detections"] <= 100
    assert row["seconds"] > 0
    assert row["peak_bytes"] > 50 * 2**20


def test_the_heaviest_of_each_kind_exist() -> None:
    assert all(cascadezoo.info(name).name == name for name, *_ in footprint.ENTRIES)
