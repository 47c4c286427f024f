"""Both ways run the same convolutions; folding runs more beside them."""

from cascadezoo.benchmarks.measure import folding
from cascadezoo.providers import SPECS

from tiny import tiny


def test_what_is_counted(monkeypatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_r50_fpn", tiny("cascade_r50_fpn"))
    found = folding.measure("cascade_r50_fpn_1x.mmdet", (64, 64), runs=2)
    # 17 convolutions, 13 activations, 4 sums and a pooling
    assert found["operators"][folding.KEPT] == 35
    # a fold: variance + eps, its root, scale, mean * scale, bias - that, weight * scale
    assert found["operators"][folding.ANEW] == 35 + 17 * 6
    assert found["times_faster"]["min"] > 0
