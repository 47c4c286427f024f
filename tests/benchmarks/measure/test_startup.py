"""The environment beside a result, and the start-up report."""

import json
import subprocess
import sys

from click.testing import CliRunner

from cascadezoo.benchmarks.measure import startup
from cascadezoo.environment import environment


def test_environment_names_machine_software_and_code():
    record = json.loads(json.dumps(environment()))
    assert record["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert record["cores"] >= 1
    assert record["packages"]["cascadezoo"]
    assert record["packages"]["torch"]
    assert len(record["manifest_sha256"]) == 64
    assert set(record) >= {"date", "commit", "modified", "cpu", "system"}


def test_environment_never_imports_torch():
    program = """
import sys
from cascadezoo.environment import environment
assert environment()["torch"] is None
assert "torch" not in sys.modules
import torch
assert environment()["torch"]["threads"] == torch.get_num_threads()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_startup_report(tmp_path):
    output = tmp_path / "new" / "startup.json"
    result = CliRunner().invoke(startup.main, ["--runs", "1", "--output", str(output)])
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text("utf-8"))
    assert set(report["cases"]) == set(startup.CASES)
    assert all(0 < case["min"] <= case["median"] <= case["max"] for case in report["cases"].values())
    assert report["environment"]["python"]
    assert "python -m cascadezoo list" in result.stdout
