"""Entries on another data set than COCO: known by name, counted apart, with categories and terms of their own."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

import cascadezoo
from cascadezoo import manifest, registry
from cascadezoo.cli import main
from cascadezoo.coco.categories import COCO, OF_DATA, Categories, categories_of
from cascadezoo.errors import UsageError
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import Space
from cascadezoo.training.config import recipe_of

from tiny import tiny

# the page's rows (configs/nuimages/README.md of mmdetection3d fe25f7a51), under our names
PAGE = {
    "cascade_mask_r50_fpn_nuim_1x.mmdet": ("50.8", "40.4", "1147c036"),
    "cascade_mask_r50_fpn_nuim_coco20e_1x.mmdet": ("52.8", "42.2", "ad0540e3"),
    "cascade_mask_r50_fpn_nuim_coco20e_20e.mmdet": ("52.8", "42.2", "40963960"),
    "cascade_mask_r101_fpn_nuim_1x.mmdet": ("51.5", "40.7", "45215b1e"),
    "cascade_mask_x101_32x4d_fpn_nuim_1x.mmdet": ("52.8", "41.6", "e0e49778"),
}
NUIMAGES = OF_DATA["nuimages"]
NAME = "cascade_mask_r50_fpn_nuim_1x"


def test_figures_and_files_are_the_pages() -> None:
    entries = registry.entries("nuimages")
    assert {e.name: (str(e.box_ap), str(e.mask_ap), e.source.sha256_prefix) for e in entries} == PAGE
    for entry in entries:
        assert entry.source.sha256_prefix in entry.source.checkpoint_url
        assert (entry.data, entry.publisher, entry.availability) == ("nuimages", "mmdet", "published")


def test_they_are_none_of_the_zoos() -> None:
    zoo = [entry.name for entry in registry.entries()]
    assert not PAGE.keys() & set(zoo)
    assert {entry.data for entry in registry.entries()} == {"coco", "shapes"}
    assert cascadezoo.list_models() == zoo
    assert cascadezoo.list_models("*nuim*") == []
    assert cascadezoo.list_models(data="nuimages") == list(PAGE)
    assert cascadezoo.list_models("*r50*", data="nuimages", family="cascade_mask") == list(PAGE)[:3]
    assert [entry.name for entry in registry.all_known()] == [*zoo, *PAGE]
    with pytest.raises(UsageError, match="no entries are on 'kitti': choose nuimages, or leave it out"):
        cascadezoo.list_models(data="kitti")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cascade_mask_r50_fpn_nuim_1x", "cascade_mask_r50_fpn_nuim_1x.mmdet"),
        ("cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim", "cascade_mask_r50_fpn_nuim_coco20e_20e.mmdet"),
        ("cascade-mask-rcnn_r50_fpn_coco-20e-1x_nuim", "cascade_mask_r50_fpn_nuim_coco20e_1x.mmdet"),
        ("cascade_mask_rcnn_r101_fpn_1x_nuim_20201024_134804-45215b1e", "cascade_mask_r101_fpn_nuim_1x.mmdet"),
    ],
)
def test_they_are_known_by_name(name: str, meant: str) -> None:
    assert cascadezoo.info(name).name == meant


def test_no_name_of_theirs_means_an_entry_of_the_zoo() -> None:
    taken = {name for entry in registry.entries() for name in (entry.bare_name, *entry.aliases)}
    assert not taken & {name for entry in registry.entries("nuimages") for name in (entry.bare_name, *entry.aliases)}


def test_a_file_holds_entries_on_its_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    text = manifest._text

    def other(name: str) -> str:
        return text(name).replace('data = "nuimages"', 'data = "coco"') if name == "nuimages" else text(name)

    monkeypatch.setattr(manifest, "_text", other)
    with pytest.raises(ValueError, match=r"nuimages\.toml holds entries on other data or of nobody: cascade_mask_r50"):
        manifest.load_elsewhere.__wrapped__()


def test_categories_are_the_data_sets_own() -> None:
    assert tuple(NUIMAGES) == (
        *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle"),
        *("motorcycle", "pedestrian", "traffic_cone", "barrier"),
    )
    assert NUIMAGES.ids == tuple(range(10))
    assert categories_of("nuimages", 10) == NUIMAGES
    assert categories_of("coco", 80) == COCO
    assert categories_of("coco", 10) == categories_of("shapes", 10) == Categories.numbered(10)
    for data in manifest.ELSEWHERE:
        for entry in registry.entries(data):
            assert registry.spec_of(entry).num_classes == len(OF_DATA[data])


def test_networks_are_cocos_but_for_classes_scale_and_the_older_order_of_nms() -> None:
    for name in ("r50", "r101", "x101_32x4d"):
        coco, own = SPECS["mmdet"][f"cascade_mask_{name}_fpn"], SPECS["mmdet"][f"cascade_mask_{name}_fpn_nuim"]
        assert (own.preprocess.min_size, own.preprocess.max_size, own.num_classes) == (900, 1600, 10)
        assert own.conventions.selection.nms_space is Space.ORIGINAL
        back = own.model_copy(
            update={"preprocess": coco.preprocess, "conventions": coco.conventions, "num_classes": 80}
        )
        assert back == coco


def test_a_model_has_the_data_sets_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny("cascade_mask_r50_fpn_nuim", num_classes=10)
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn_nuim", small)
    assert cascadezoo.load(NAME).categories == NUIMAGES
    assert cascadezoo.load(NAME, num_classes=3).categories == Categories.numbered(3)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    def run(*words: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        return out, err

    return run


def test_recipes_are_cocos_but_for_the_scales() -> None:
    for entry in registry.entries("nuimages"):
        recipe, coco = recipe_of(entry), recipe_of(registry.info(f"cascade_mask_r50_fpn_{entry.schedule}.mmdet"))
        assert recipe.schedule.epochs == entry.epochs
        assert (recipe.augmentation.min_sizes, recipe.augmentation.max_size) == ((720, 1080), 1920)
        assert recipe.model_copy(update={"augmentation": coco.augmentation}) == coco


def test_list_shows_them_only_by_themselves(printed) -> None:
    assert "nuim" not in printed("list")[0]
    out, err = printed("list", "--data", "nuimages")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(PAGE)
    assert "50.8~" in out
    assert err == "~ on nuImages, not on COCO\n"
    rows = json.loads(printed("list", "--data", "nuimages", "--min-ap", "52", "--json")[0])
    assert {Decimal(row["box_ap"]) for row in rows} == {Decimal("52.8")}


def test_info_says_whose_figures_and_which_terms(printed) -> None:
    out, _ = printed("info", NAME)
    assert "Accuracy, AP in percent on nuImages, not COCO" in out
    assert "CC-BY-NC-SA-4.0" in out
    assert "no commercial use" in " ".join(out.split())
    entry = cascadezoo.info(NAME)
    assert "on nuImages" in repr(entry)
    assert "no commercial use" in entry._repr_html_()


def test_terms_travel_with_the_weights() -> None:
    for entry in registry.entries("nuimages"):
        assert "CC-BY-NC-SA-4.0" in entry.attribution  # which files made from the weights and model cards show
        assert entry.data_license is not None
    assert {entry.data_license for entry in registry.entries()} == {None}
