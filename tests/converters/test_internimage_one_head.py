"""InternImage's table for Mask R-CNN: heads without a number, and the norms of T."""

import gzip
import json
from pathlib import Path

import pytest

from cascadezoo.converters import CONVERTERS
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

CASES = Path(__file__).parents[1] / "parity" / "internimage"
INTERNIMAGE = CONVERTERS["internimage"]
T, S = (f"mask_internimage_{size}_fpn" for size in ("t", "s"))


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.levels.0.blocks.3.norm1.0.weight", "backbone.stages.0.blocks.3.norm1.weight"),
        ("backbone.levels.3.norm.0.bias", "backbone.stages.3.norm.bias"),
        ("roi_head.bbox_head.shared_fcs.1.weight", "box_heads.0.fcs.1.weight"),
        ("roi_head.bbox_head.fc_reg.bias", "box_heads.0.bbox_pred.bias"),
        ("roi_head.mask_head.convs.3.conv.bias", "mask_heads.0.convs.3.bias"),
        ("roi_head.mask_head.conv_logits.weight", "mask_heads.0.mask_logits.weight"),
    ],
)
def test_names_of_one_head(theirs: str, ours: str) -> None:
    key_map = INTERNIMAGE.key_map(T)
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]


def test_norms_at_the_end_of_the_stages_are_of_t_alone() -> None:
    norms = {f"backbone.levels.{i}.norm.0.{p}": (80 * 2**i,) for i in range(4) for p in ("weight", "bias")}
    assert norms.keys() <= listed(T).keys()
    fit = INTERNIMAGE.key_map(S).fit(listed(S) | norms, canonical_shapes(SPECS["internimage"][S]))
    assert set(fit.unexpected) == norms.keys()
    fit = INTERNIMAGE.key_map(T).fit(
        {key: shape for key, shape in listed(T).items() if key not in norms}, canonical_shapes(SPECS["internimage"][T])
    )
    assert set(fit.missing) == norms.keys()
