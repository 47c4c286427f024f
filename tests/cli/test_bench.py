"""``cascadezoo bench`` on a small network."""

import json

import pytest

from cascadezoo.benchmarks.measure import latency
from cascadezoo.benchmarks.verify.speed import STAGES
from cascadezoo.cli import main
from cascadezoo.providers import SPECS

from tiny import tiny

NAME = "cascade_mask_r50_fpn_1x"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    monkeypatch.setattr(latency, "CANDIDATES", 50)

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["bench", *args])
        return stop.value.code, *capsys.readouterr()

    return call


def test_every_stage_of_a_random_network(run) -> None:
    code, out, err = run(NAME, "--batch-size", "2", "--device", "cpu")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[-4:] == ["batch", "1", "batch", "2"]
    assert [line[:22].strip() for line in lines[1:7]] == list(STAGES)
    found = next(line for line in lines if line.startswith("detections"))
    assert float(found.split()[-1]) > 0
    assert "compiled operators" in err


def test_json_is_alone_on_stdout(run) -> None:
    code, out, _ = run(NAME, "--json", "--device", "cpu")
    report = json.loads(out)
    assert (code, report["entry"], len(report["batches"])) == (0, f"{NAME}.mmdet", 1)


def test_two_kinds_of_weights_are_refused(run) -> None:
    code, out, err = run(NAME, "--pretrained", "--weights", __file__)
    assert (code, out) == (2, "")
    assert "not both" in err
