"""The card of weights on another data set than COCO: whose figures they are, and the licence of the data."""

from pathlib import Path

import pytest
import yaml
from hub.publishing import canonical_file

from cascadezoo import registry
from cascadezoo.coco.categories import OF_DATA
from cascadezoo.providers import SPECS
from cascadezoo.publishing.package import _config, _weights
from cascadezoo.publishing.publish import publish

from tiny import tiny

NAME = "cascade_mask_r50_fpn_nuim_1x.mmdet"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn_nuim", tiny("cascade_mask_r50_fpn_nuim", num_classes=10))


def test_a_card_says_which_data_and_on_which_terms(tmp_path: Path) -> None:
    package = publish(NAME, "org/model", weights=canonical_file(tmp_path, NAME), license="Apache-2.0", dry_run=True)
    matter = yaml.safe_load(package.card.split("---\n")[1])
    assert "datasets" not in matter  # the Hub's tag would be COCO's
    assert {result["dataset"]["name"] for result in matter["model-index"][0]["results"]} == {"nuImages val"}
    assert "percent on nuImages val, **as published**" in package.card
    assert "- Data that the published weights were trained on: CC-BY-NC-SA-4.0" in package.card.replace("\\", "")


def test_its_config_has_the_data_sets_categories(tmp_path: Path) -> None:
    entry = registry.info(NAME)
    names = _config(entry, _weights(entry, canonical_file(tmp_path, NAME))).categories
    assert (tuple(names.names), tuple(names.ids)) == (tuple(OF_DATA["nuimages"]), tuple(range(10)))


def test_what_was_trained_from_scratch_owes_nothing_to_the_data(tmp_path: Path) -> None:
    weights = canonical_file(tmp_path, NAME, source_sha256=None, started_from="random", trained_by="me")
    package = publish(NAME, "org/model", weights=weights, license="Apache-2.0", dry_run=True)
    assert "CC-BY-NC" not in package.card.replace("\\", "")
