"""Both ways pool the same, so that their times can be compared."""

from cascadezoo.benchmarks.measure import roi_align


def test_both_compute_the_same(monkeypatch) -> None:
    monkeypatch.setattr(roi_align, "LEVEL", (25, 38))
    monkeypatch.setattr(roi_align, "CHANNELS", 8)
    for case in roi_align.CASES.values():
        found = roi_align.measure_case(case._replace(boxes=20), runs=2)
        assert found["largest_difference"] < 1e-5
        assert found["times_faster"]["min"] > 0
