"""The benchmark compares like with like, and its table shows what was measured."""

import torch

from cascadezoo.benchmarks.measure import ops


def test_grid_sample_computes_the_same() -> None:
    input, offset, mask = (t.double() for t in ops.inputs(6, 9, 2, "cpu"))
    ways = ops.contenders(2)
    expected = ways[ops.REFERENCE](input, offset, mask)
    torch.testing.assert_close(ways[ops.GRID](input, offset, mask), expected, rtol=0, atol=1e-12)


def test_the_table_has_a_row_a_stage() -> None:
    times = {name: {"min": 1.0, "median": 2.0, "max": 3.0} for name in (ops.OURS, ops.GRID, ops.REFERENCE)}
    stage = {"shape": [1, 2, 3, 4], "milliseconds": times, "times_faster_than": times, "peak_mib": {"a": 1.2, "b": 7.0}}
    lines = ops.table({"stages": [stage, stage], "threads": 2, "device": "cpu"}).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["2x3x4", "2.0", "2.0", "2.0", "2.0", "(1.0", "to", "3.0)", "1,", "7"]
