"""The conversion benchmark's own parts, on a small model."""

import json
from pathlib import Path

import pytest

from cascadezoo.benchmarks.measure import convert
from cascadezoo.providers import SPECS

from tiny import tiny


def test_a_random_checkpoint_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SPECS["mmdet"], convert.ARCHITECTURE, tiny(convert.ARCHITECTURE))
    source = convert.random_checkpoint(tmp_path)
    convert.measure(str(source), str(tmp_path / "out.safetensors"))
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"] == convert.ARCHITECTURE
    assert found["seconds"] > 0
    assert (tmp_path / "out.safetensors").stat().st_size > 0.9 * source.stat().st_size
