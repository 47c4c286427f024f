"""Suppression of a fixed size against a loop written out by hand."""

import numpy as np
import pytest
import torch

from cascadezoo.conventions import Nms
from cascadezoo.ops.nms import grouped_nms

RULE = Nms(iou=0.5)


def greedy(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float) -> list[int]:
    """Candidates kept, best first, by the definition; float32 shifts as the convention says."""
    boxes = (boxes + (groups * (boxes.max() + 1))[:, None]).astype(np.float32)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            w = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            h = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            inter = max(w, 0) * max(h, 0)
            if inter / (area[i] + area[j] - inter) > iou:
                break
        else:
            kept.append(int(i))
    return kept


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    low = rng.uniform(0, 60, (n, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (n, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition_and_pads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 120), rng.permutation(120).astype(np.float32) / 120
    groups, valid = rng.integers(0, 3, 120), rng.random(120) < 0.8
    expected = [int(np.flatnonzero(valid)[i]) for i in greedy(boxes[valid], scores[valid], groups[valid], 0.5)]
    inputs = [torch.from_numpy(a)[None] for a in (boxes, scores, groups, valid)]
    for size in (7, 200):
        keep, count = grouped_nms(*inputs, RULE, size)
        assert keep.shape == (1, size)
        assert count.tolist() == [min(size, len(expected))]
        assert keep[0, : count[0]].tolist() == expected[:size]
        assert (keep[0, count[0] :] == 0).all()


def test_equality_with_the_threshold_survives() -> None:
    # two 10 x 10 boxes overlapping by half: IoU 50 / 150 = 1/3 exactly at the threshold, then just above it
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]]])
    scores, groups = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.int64)
    valid = torch.ones(1, 2, dtype=torch.bool)
    third = float(np.float32(1) / np.float32(3))
    assert grouped_nms(boxes, scores, groups, valid, Nms(iou=third), 2)[1].tolist() == [2]
    assert grouped_nms(boxes, scores, groups, valid, Nms(iou=third - 1e-6), 2)[1].tolist() == [1]


def test_pictures_are_independent_and_nothing_valid_gives_nothing() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0]] * 2] * 2)
    scores, groups = torch.tensor([[0.1, 0.2]] * 2), torch.zeros(2, 2, dtype=torch.int64)
    valid = torch.tensor([[True, True], [False, False]])
    keep, count = grouped_nms(boxes, scores, groups, valid, RULE, 3)
    assert count.tolist() == [1, 0]
    assert keep.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_operator_is_registered_as_torch_demands() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 9.0, 9.0]]])
    arguments = (boxes, torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2) > 0, 0.5, 4)
    torch.library.opcheck(torch.ops.cascadezoo.grouped_nms.default, arguments)
