"""A report's row adds up, and says what copies."""

from cascadezoo.benchmarks.measure import launches
from cascadezoo.providers import SPECS

from tiny import tiny


def test_a_row_adds_up(monkeypatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_r50_fpn", tiny("cascade_r50_fpn"))
    row = launches.measure("cascade_r50_fpn_1x.mmdet")
    # 17 convolutions, 13 activations, 4 sums, a pooling; 8 convolutions, 3 enlargements, 3 sums, 4 for each second cell
    assert {stage: row["launches"][stage] for stage in ("backbone", "neck", "masks", "packing")} == {
        "backbone": 35,
        "neck": 18,
        "masks": 0,
        "packing": 1,
    }
    assert row["total"] == sum(row["launches"].values())
    assert row["copies"] == []
