"""Both ways keep the same boxes, so that their times can be compared."""

import json

import pytest

from cascadezoo.benchmarks.measure import nms
from cascadezoo.errors import OpsNotBuilt


@pytest.mark.skipif("cpu" not in nms.COMPILED, reason="not built: `cascadezoo build-ops`")
def test_each_case_at_three_sizes(monkeypatch, tmp_path) -> None:
    output = tmp_path / "nms.json"
    monkeypatch.setattr("sys.argv", ["nms", "--runs", "2", "--candidates", "10", "--output", str(output)])
    nms.main()
    cases = json.loads(output.read_text())["cases"]
    assert [case["name"] for case in cases] == [*nms.CASES]
    assert all([size["candidates"] for size in case["sizes"]] == [10, 100, 1000] for case in cases)
    assert all(size["times_faster"]["min"] > 0 for case in cases for size in case["sizes"])


def test_without_compiled_operators_it_says_what_to_run(monkeypatch) -> None:
    monkeypatch.setattr(nms, "COMPILED", ())
    monkeypatch.setattr("sys.argv", ["nms"])
    with pytest.raises(OpsNotBuilt, match="cascadezoo build-ops"):
        nms.main()
