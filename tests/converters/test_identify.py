"""Which entry a file is, by clues and by shapes."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cascadezoo import registry
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import Clue, Identity, best_fits, clues, identify, named
from cascadezoo.errors import AmbiguousEntry, TensorMismatch
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

CASES = Path(__file__).parents[1] / "parity" / "mmdet"
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "mmdet"]
MMDET = CONVERTERS["mmdet"]
R50 = {"blocks": (3, 4, 6, 3), "groups": 1, "stride_in_1x1": False}
R50_CAFFE = {"blocks": (3, 4, 6, 3), "groups": 1, "stride_in_1x1": True}


def shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / architecture / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def expected() -> dict[str, dict[str, tuple[int, ...]]]:
    return {name: canonical_shapes(spec) for name, spec in SPECS["mmdet"].items()}


def found(
    architecture: str, file: str = "x.pth", described: Description | None = None, sha256: str = "0" * 64
) -> Identity:
    hints = clues(Path(file), sha256, described or Description(), ENTRIES, SPECS["mmdet"])
    return identify(Path(file), shapes(architecture), MMDET, ENTRIES, expected(), hints)


def given(architecture: str, name: str) -> Identity:
    hints = (Clue("the entry given", (registry.info(name),)),)
    return identify(Path("x.pth"), shapes(architecture), MMDET, ENTRIES, expected(), hints)


def names(entries: Sequence[ZooEntry]) -> list[str]:
    return [entry.name for entry in entries]


def test_shapes_decide_where_only_one_network_has_them() -> None:
    identity = found("cascade_mask_x101_64x4d_fpn")
    assert identity.architecture == "cascade_mask_x101_64x4d_fpn"
    assert names(identity.entries) == [f"cascade_mask_x101_64x4d_fpn_{s}.mmdet" for s in ("1x", "20e", "3x")]
    assert identity.found_by == "the shapes of its tensors"
    assert identity.fit.problems == 0


def test_styles_that_share_their_shapes_are_ambiguous() -> None:
    with pytest.raises(AmbiguousEntry) as error:
        found("cascade_r50_fpn")
    assert str(error.value) == (
        "x.pth: its tensors fit cascade_r50_caffe_fpn and cascade_r50_fpn, which compute differently, and neither its "
        "configuration nor its name says which: pass --entry with one of cascade_r50_caffe_fpn_1x.mmdet, "
        "cascade_r50_fpn_1x.mmdet, cascade_r50_fpn_20e.mmdet"
    )
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("backbone", "names_of"),
    [
        (R50, ["cascade_r50_fpn_1x.mmdet", "cascade_r50_fpn_20e.mmdet"]),
        (R50_CAFFE, ["cascade_r50_caffe_fpn_1x.mmdet"]),
    ],
)
def test_the_configuration_decides_the_style(backbone: dict[str, object], names_of: list[str]) -> None:
    identity = found("cascade_r50_fpn", described=Description(backbone=backbone))
    assert names(identity.entries) == names_of
    assert identity.found_by == "the configuration in the file"


def test_clues_narrow_each_other() -> None:
    identity = found(
        "cascade_mask_r50_fpn",
        file="cascade_mask_r50_fpn.pth",
        described=Description(backbone=R50, stems=("cascade_mask_rcnn_r50_fpn_20e_coco",)),
    )
    assert names(identity.entries) == ["cascade_mask_r50_fpn_20e.mmdet"]
    assert identity.found_by == "the configuration in the file and the configuration's name"


def test_an_earlier_clue_is_not_contradicted_by_a_later_one() -> None:
    identity = found("cascade_r50_fpn", file="cascade_r50_fpn_1x.pth", described=Description(backbone=R50_CAFFE))
    assert names(identity.entries) == ["cascade_r50_caffe_fpn_1x.mmdet"]


def test_the_published_hash_decides() -> None:
    identity = found("cascade_mask_r50_fpn", sha256="9d4dcb24" + "0" * 56)  # as in the published file's name
    assert names(identity.entries) == ["cascade_mask_r50_fpn_1x.mmdet"]
    assert identity.found_by == "the published sha256"


def test_the_published_hash_is_stronger_than_what_a_configuration_seems_to_say() -> None:
    caffe = registry.info("cascade_r50_caffe_fpn_1x.mmdet").source.sha256_prefix
    assert caffe is not None
    identity = found("cascade_r50_fpn", sha256=caffe.ljust(64, "0"), described=Description(backbone=R50))
    assert names(identity.entries) == ["cascade_r50_caffe_fpn_1x.mmdet"]


def test_the_entry_given_decides() -> None:
    assert names(given("cascade_r50_fpn", "cascade_r50_caffe_fpn_1x").entries) == ["cascade_r50_caffe_fpn_1x.mmdet"]


def test_shapes_have_the_last_word() -> None:
    with pytest.raises(TensorMismatch) as error:
        given("cascade_r101_fpn", "cascade_r50_fpn_1x")
    message = str(error.value)
    assert message.startswith("x.pth: its tensors are not those of cascade_r50_fpn, as the entry given would have it (")
    assert "backbone.layer3.10.bn1.bias" in message
    assert message.endswith(
        "they fit cascade_r101_caffe_fpn_1x.mmdet, cascade_r101_fpn_1x.mmdet, cascade_r101_fpn_20e.mmdet"
    )


def test_tensors_of_no_entry_name_the_closest() -> None:
    stray = {**shapes("cascade_mask_x101_32x8d_fpn"), "extra.weight": (1,)}
    with pytest.raises(TensorMismatch) as error:
        identify(Path("x.pth"), stray, MMDET, ENTRIES, expected(), ())
    assert str(error.value) == (
        "x.pth: its tensors fit no mmdet entry; the closest are cascade_mask_x101_32x8d_fpn_3x.mmdet: "
        "1 unexpected: extra.weight"
    )


def test_other_classes_are_named_by_shape() -> None:
    tensors = shapes("cascade_x101_32x4d_fpn")
    for k in range(3):
        tensors |= {f"roi_head.bbox_head.{k}.fc_cls.weight": (8, 1024), f"roi_head.bbox_head.{k}.fc_cls.bias": (8,)}
    with pytest.raises(TensorMismatch, match=r"roi_head\.bbox_head\.0\.fc_cls\.bias is \(8,\), expected \(81,\)"):
        identify(Path("x.pth"), tensors, MMDET, ENTRIES, expected(), ())


def test_best_fits() -> None:
    fits = best_fits(MMDET, shapes("cascade_mask_r50_fpn"), expected())
    assert list(fits) == ["cascade_mask_r50_caffe_fpn", "cascade_mask_r50_fpn"]
    assert all(fit.problems == 0 for fit in fits.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_published_file_names_mean_their_entry(entry: ZooEntry) -> None:
    file = entry.source.checkpoint_url.rsplit("/", 1)[1].removesuffix(".pth")
    assert names(named([file], ENTRIES)) == [entry.name]
    assert names(named([entry.name], ENTRIES)) == [entry.name]


@pytest.mark.parametrize(
    ("stem", "meant"),
    [
        ("cascade_mask_rcnn_r50_fpn_mstrain_3x_coco", ["cascade_mask_r50_fpn_3x.mmdet"]),
        ("cascade-mask-rcnn_r50_fpn_1x_coco_20230101_120000", ["cascade_mask_r50_fpn_1x.mmdet"]),
        ("cascade_r50_caffe_fpn", ["cascade_r50_caffe_fpn_1x.mmdet"]),
        ("cascade_r50_fpn-mine", ["cascade_r50_fpn_1x.mmdet", "cascade_r50_fpn_20e.mmdet"]),
        ("cascade_r50_fpn_1xyz", ["cascade_r50_fpn_1x.mmdet", "cascade_r50_fpn_20e.mmdet"]),
        ("cascade_r50_fpnx", []),
        ("epoch_12", []),
        ("my_cascade_r50_fpn", []),
    ],
)
def test_stems(stem: str, meant: list[str]) -> None:
    assert names(named([stem], ENTRIES)) == meant
