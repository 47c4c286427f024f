"""docs/models.md: every entry, with the manifest's figures."""

import re
from pathlib import Path

from cascadezoo import registry
from cascadezoo.benchmarks.reports.models import models_page

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")


def test_the_page_in_the_tree_is_the_manifests() -> None:
    assert models_page() == PAGE, "run python -m cascadezoo.benchmarks.reports.models"


def test_every_entry_has_one_row() -> None:
    names = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert sorted(names) == sorted(entry.name for entry in registry.all_known())


def test_rows_say_what_the_publisher_printed() -> None:
    """The line without augmentation, of one from a later page, and one of whose backbone the table says more."""
    for row in (
        "`cascade_mask_r50_fpn_1x.mmdet` | 41.2 | 35.9 | R-50-FPN | 77.3 | Cascade Mask R-CNN | unstated | published",
        "`cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron` | 48.1 | 40.7 | X-152-32x8d-FPN-IN5k-cascade |",
        "`mask_x101_vd_64x4d_fpn_2x.paddle` | 44.6+ | 39.8+ | ResNeXt101-vd-FPN |",
        "`cascade_mask_vitdet_h_75ep.detectron2` | 58.7 | 51.0 | ViTDet, ViT-H (IN1K, MAE) | 691.5 |",
    ):
        assert row in PAGE
