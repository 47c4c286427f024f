"""One conversion of real size: the tensors of a recorded case, and what it costs."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch

from cascadezoo.benchmarks.measure.convert import run_fresh
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.converters.canonical import read_canonical

from procedural import load_case, make_tensors, write_checkpoint

PARITY = Path(__file__).parents[1] / "parity" / "mmdet"


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in of a recorded case, in the publisher's own file format and size (280 MB)."""
    case = load_case(PARITY / "cascade_r50_caffe_fpn")
    path = tmp_path_factory.mktemp("full_size") / "cascade_r50_caffe_fpn.pth"
    write_checkpoint(path, case["provider"], make_tensors(case))
    return path


def test_a_checkpoint_of_real_size(full_size: Path) -> None:
    state = torch.load(full_size, weights_only=True, mmap=True)["state_dict"]
    report = convert(full_size)
    assert report.entries == ("cascade_r50_caffe_fpn_1x.mmdet",)
    assert report.output is not None
    tensors, _ = read_canonical(report.output)
    back = to_publisher(tensors, report.entries[0])
    with gzip.open(PARITY / "cascade_r50_caffe_fpn" / "tensors.json.gz", "rt") as file:
        assert back.keys() == {key for key, *_ in json.load(file)}
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert torch.equal(tensors["box_heads.2.fcs.0.weight"], state["roi_head.bbox_head.2.shared_fcs.0.weight"])
    assert torch.equal(tensors["backbone.stem.0.weight"].flip(1), state["backbone.conv1.weight"])

    costs = run_fresh(full_size, report.output)
    assert costs["peak_bytes"] < 1.5 * full_size.stat().st_size  # the file's own pages, and little beside them
    shutil.rmtree(full_size.parent)
