"""The pieces of the simulated night: they sleep, write what a run writes, and import no torch."""

import sys
import time
from pathlib import Path

import pytest

from cascadezoo import registry
from cascadezoo.benchmarks.measure import night
from cascadezoo.benchmarks.verify.job import finished_parts, kept
from cascadezoo.files import write_json

ENTRY = registry.info("cascade_r50_fpn_1x.mmdet")


def test_an_entry_of_the_night_is_slept_through_and_kept(tmp_path: Path, monkeypatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    job = night._job(tmp_path)
    write_json(tmp_path / "lengths.json", {ENTRY.name: 300.0})
    with pytest.raises(RuntimeError, match="torch was imported"):
        night.detect(job, ENTRY, (), 1, 8)
    monkeypatch.delitem(sys.modules, "torch")
    slept.clear()
    detected = night.detect(job, ENTRY, (), 1, 8)
    assert sum(slept) == pytest.approx(300)
    report = night.judge(job, ENTRY, detected)
    assert sum(slept) == pytest.approx(315)  # and a twentieth for the evaluation
    assert (report.name, report.accuracy[0].images) == (ENTRY.name, 20)
    kept(ENTRY, job, finished_parts(ENTRY, job), report)
    assert finished_parts(ENTRY, job).parts == {"accuracy"}
