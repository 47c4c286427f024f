"""Run lengths read again: what pycocotools decodes, in the smallest window that holds it."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from cascadezoo.coco.rle import decode_crop, encode_crop


def whole(rle):
    (height, width), (crop, top, left) = rle["size"], decode_crop(rle)
    mask = np.zeros((height, width), bool)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_any_mask_comes_back_in_its_smallest_window(mask):
    rle = encode_crop(mask, 0, 0, *mask.shape)
    assert (whole(rle) == mask).all()
    crop, _, _ = decode_crop(rle)
    assert crop.flags.c_contiguous
    if mask.any():
        assert crop.any(axis=0)[[0, -1]].all()
        assert crop.any(axis=1)[[0, -1]].all()
    else:
        assert crop.shape == (0, 0)


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=9), st.integers(1, 9))
def test_run_lengths_of_every_size_and_none_are_as_pycocotools_decodes_them(counts, height):
    counts.append(-sum(counts) % height)
    size = [height, sum(counts) // height]
    if size[1] == 0:
        return
    rle = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2 on pycocotools
        expected = coco_mask.decode(rle) > 0
    assert (whole(rle) == expected).all()


def test_it_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crop, top, left = decode_crop(encode_crop(np.ones((3, 2), bool), 4, 5, 20, 30))
    assert (crop.tolist(), top, left) == ([[True] * 2] * 3, 4, 5)


def test_only_the_window_takes_memory():
    side = 2**20  # squared, more than any memory
    rle = {"size": [side, side], "counts": encode_crop(np.ones((2, 1), bool), 7, 9, side, side)["counts"]}
    crop, top, left = decode_crop(rle)
    assert (crop.shape, top, left) == ((2, 1), 7, 9)


@pytest.mark.parametrize("counts", [b"04", "04"])
def test_counts_may_be_bytes(counts):
    crop, _, _ = decode_crop({"size": [2, 2], "counts": counts})
    assert crop.tolist() == [[True, True], [True, True]]
