"""Who can be compared here, and on what: the files of one network's weights, and why a program is left out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.benchmarks.measure.peers import mmdetection, ours
from cascadezoo.benchmarks.measure.peers.contender import Contender, Setting, made
from cascadezoo.errors import UsageError
from cascadezoo.optimizing.difference import difference

from tiny_zoo import ENTRY

PADDLE = "cascade_mask_r50_fpn_1x.paddle"


def test_both_files_hold_the_network(given: Setting) -> None:
    canonical, published = (cascadezoo.load(ENTRY, weights=path) for path in (given.canonical, given.published))
    theirs = published.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in canonical.state_dict().items())
    assert "roi_head.bbox_head.0.fc_cls.weight" in torch.load(given.published)["state_dict"]


def test_who_is_left_out_is_named_with_the_reason(
    given: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_another_version.py").write_text("assert False, 'it needs version 7,\\nsurely'\n")
    (tmp_path / "here_indeed.py").write_text("__version__ = '1.2'\n")
    monkeypatch.syspath_prepend(tmp_path)

    def refuse(_: Setting) -> str:
        raise UsageError("not on this processor")

    ready, versions, missing = made(
        {
            "here": Contender(lambda given: given.entry, ("here_indeed", "os.path")),
            "nowhere": Contender(refuse, ("a_module_that_nobody_has",)),
            "old": Contender(refuse, ("of_another_version",)),
            "refused": Contender(refuse),
            "foreign": Contender(refuse, publishers=("paddle", "swin")),
        },
        given,
    )
    assert ready == {"here": ENTRY}
    assert versions == {"here": {"here_indeed": "1.2"}}
    assert missing == {
        "nowhere": "a_module_that_nobody_has: ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
        "old": "of_another_version: AssertionError: it needs version 7,",
        "refused": "not on this processor",
        "foreign": f"it runs the networks of paddle and swin, and {ENTRY} is one of mmdet",
    }


def test_mmdetection_runs_the_networks_of_its_own_publisher() -> None:
    assert (
        mmdetection.CONTENDER.why_not(PADDLE)
        == f"it runs the networks of mmdet and swin, and {PADDLE} is one of paddle"
    )


def test_names_of_configurations_are_found_in_either_spelling() -> None:
    old, new = "cascade_mask_rcnn_x101_32x4d_fpn_mstrain_3x_coco.py", "cascade-mask-rcnn_x101-32x4d_fpn_ms-3x_coco.py"
    assert mmdetection.spelt(old) == mmdetection.spelt(new)
    assert mmdetection.spelt(new) != mmdetection.spelt(new.replace("32x4d", "64x4d"))


class Instances(SimpleNamespace):
    """As mmengine's ``InstanceData``: fields, and whether there is one."""

    def __contains__(self, name: str) -> bool:
        return name in vars(self)


def test_what_mmdetection_found_is_compared_by_its_pasted_masks(given: Setting) -> None:
    own = ours.plain(given).found
    assert own is not None
    found = own()
    masks = found.masks
    assert masks is not None
    fields = {"bboxes": found.boxes, "scores": torch.stack([found.scores] * 5, 1)[:, 4], "labels": found.labels}
    sample = SimpleNamespace(pred_instances=Instances(**fields, masks=masks), ori_shape=(60, 80, 3))
    same = difference([found], [mmdetection.detections(sample)])
    assert (same.paired, same.box_max, same.mask_iou) == (len(found), 0, 1)
    sample.pred_instances.masks = masks & (torch.arange(80) < 40)
    cut = difference([found], [mmdetection.detections(sample)]).mask_iou
    assert cut is not None
    assert cut < 0.9
    without = mmdetection.detections(SimpleNamespace(pred_instances=Instances(**fields), ori_shape=(60, 80)))
    assert without.rles() is None
    assert np.array_equal(without.boxes, found.boxes)
