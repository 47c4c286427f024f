"""The manifest against pages that came to the first five: `data/later_rows.tsv` holds the 44 rows as the pages print
them, each with its page at the commit that was read."""

import csv
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from cascadezoo import manifest, registry
from cascadezoo.computed import computed
from cascadezoo.manifest import ZooEntry

DATA = Path(__file__).parent / "data"
with (DATA / "later_rows.tsv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
ENTRIES = {row["name"]: registry.info(row["name"]) for row in ROWS}
SAME = ("publisher", "backbone", "pretraining", "style", "type", "schedule", "im_per_gpu", "fps", "inference_time")
SAME += ("box_ap", "mask_ap", "params", "flops", "train_speed", "train_time")
RAW = {  # where a publisher's page links its own folder
    "mmdet": "https://github.com/open-mmlab/mmdetection/tree/main/",
    "swin": "https://github.com/SwinTransformer/Swin-Transformer-Object-Detection/blob/master/",
    "convnext": "https://github.com/facebookresearch/ConvNeXt/blob/main/object_detection/",
    "detectron2": "https://github.com/facebookresearch/detectron2/blob/main/",
}


def stem(url: str) -> str:
    return PurePosixPath(url).stem


def row_of(entry: ZooEntry) -> dict[str, str]:
    """The entry in the columns of the rows, except for its page and its configuration."""
    row = {key: getattr(entry, key) for key in SAME}
    row |= {"name": entry.name, "table": entry.source.table, "mem_gb": entry.memory_gb}
    row |= {"checkpoint": entry.source.checkpoint_url, "log": entry.source.log_url}
    return {key: "" if value is None else str(value) for key, value in row.items()}


def test_every_row_digit_for_digit():
    rows = {name: row_of(entry) for name, entry in ENTRIES.items()}
    assert rows == {row["name"]: {key: row[key] for key in rows[row["name"]]} for row in ROWS}
    assert Counter(entry.publisher for entry in ENTRIES.values()) == {
        "mmdet": 11, "internimage": 6, "paddle": 2, "swin": 11, "convnext": 7, "detectron2": 7,
    }  # fmt: skip


def test_entries_keep_the_order_of_their_pages_and_come_after_those_of_earlier_ones():
    for publisher, entries in manifest.load_manifest().items():
        listed = [row["name"] for row in ROWS if row["publisher"] == publisher]
        assert [entry.name for entry in entries][len(entries) - len(listed) :] == listed
    first = {"mmdet": 27, "internimage": 4, "paddle": 16, "detectron": 18, "cascadezoo": 1}
    whole = Counter(entry.publisher for entry in registry.entries())
    assert whole == Counter(first) + Counter(row["publisher"] for row in ROWS)


def test_configurations_are_those_that_the_pages_link():
    """ConvNeXt's page links the folder alone."""
    for row in ROWS:
        linked = RAW.get(row["publisher"], "")
        linked += "projects/ViTDet/" if "projects/ViTDet" in row["page"] else ""
        config = ENTRIES[row["name"]].source.config_url
        if row["publisher"] == "convnext":
            assert config.rpartition("/")[0] == linked + row["config"]
            size, data = re.search(r"_(tiny|small|base|large|xlarge)_(\d+k)_3x$", stem(row["checkpoint"])).groups()
            assert f"_convnext_{size}_" in config
            assert config.endswith(f"_3x_coco_in{data}.py")
            assert stem(config).startswith(row["type"].lower().replace(" ", "_").replace("-", "") + "_")
        else:
            assert config == linked + row["config"]


def test_each_is_known_by_the_names_of_its_files():
    for name, entry in ENTRIES.items():
        assert stem(entry.source.checkpoint_url) in entry.aliases
        assert stem(entry.source.config_url) in entry.aliases
        for alias in entry.aliases:
            assert entry in registry.namesakes(alias), (name, alias)
    assert not any("model_final" in entry.aliases for entry in registry.entries())
    assert registry.info("model_final_e9d89b").name == "cascade_mask_r50_fpn_1x.detectron2"


def test_what_a_file_is_known_by_is_in_its_name_or_nothing_is():
    found = {name: (entry.source.sha256_prefix, entry.source.md5_prefix) for name, entry in ENTRIES.items()}
    for name, (sha256, md5) in found.items():
        link = ENTRIES[name].source.checkpoint_url
        assert (sha256 is not None) == name.endswith(".mmdet")
        assert (md5 is not None) == name.endswith(".detectron2")
        assert sha256 is None or link.endswith(f"-{sha256}.pth")
        assert md5 is None or link.endswith(f"/model_final_{md5}.pkl")
    assert found["cascade_mask_vitdet_h_75ep.detectron2"] == (None, "f05665")


def test_licences_are_those_that_the_pages_state():
    stated = {name: entry.weights_license for name, entry in ENTRIES.items() if entry.weights_license != "unstated"}
    assert stated == {f"cascade_mask_r50_fpn_{schedule}x.detectron2": "CC-BY-SA-3.0" for schedule in (1, 3)}
    for entry in registry.entries():
        said = entry.license_evidence or ""
        assert ("MODEL_ZOO.md" in said) == (entry.publisher == "detectron2")
        assert ("marked mit" in said) == (entry.publisher == "internimage")
        assert bool(said) == (entry.publisher in ("internimage", "swin", "convnext", "detectron2"))
    assert "does not list this model" in ENTRIES["cascade_mask_vitdet_b_100ep.detectron2"].license_evidence


def test_networks_leave_out_schedule_pretraining_and_training():
    training = r"_(moby|22k|ssld|instaboost|rsb|syncbn)(?=_|$)"
    for entry in ENTRIES.values():
        assert entry.architecture == re.sub(training, "", entry.bare_name.removesuffix(f"_{entry.schedule}"))
    old = {(e.publisher, e.architecture) for e in registry.entries() if e.name not in ENTRIES}
    new = {(entry.publisher, entry.architecture) for entry in ENTRIES.values()}
    assert Counter(publisher for publisher, _ in new - old) == {
        "mmdet": 7, "internimage": 3, "swin": 5, "convnext": 6, "detectron2": 6,
    }  # fmt: skip


def test_moved_configurations_of_paddle_lie_where_the_page_links_them_now():
    moved = {e.name: e for e in registry.entries() if e.corrected_config_url}
    assert len(moved) == 10
    for entry in moved.values():
        old, new = "/tree/master/dygraph/configs/mask_rcnn/", "/tree/develop/configs/mask_rcnn/"
        assert entry.publisher == "paddle"
        assert entry.corrected_config_url == entry.source.config_url.replace(old, new)


def test_every_published_entry_names_its_page():
    pages = Counter((entry.publisher, entry.page_url) for entry in registry.entries() if entry.page_url)
    assert pages.total() == 109
    assert all(url.startswith("https://github.com/") for _, url in pages)
    assert sorted(count for (publisher, _), count in pages.items() if publisher == "detectron2") == [2, 5]


def test_networks_have_the_parameters_that_their_pages_print():
    """To the million: the manifest's row is that of the network which its architecture names."""
    printed = [entry for entry in registry.entries() if entry.params]
    assert Counter(entry.publisher for entry in printed) == {"internimage": 10, "swin": 11, "convnext": 7}
    for entry in printed:
        assert f"{computed(entry).parameters / 1e6:.0f}M" == entry.params, entry.name


def test_how_a_file_is_known():
    known = Counter(re.sub(r":.*", "", entry.integrity or "-") for entry in registry.entries())
    assert known == {
        "8 digits of its sha256 are in its name": 38,
        "6 digits of its md5 are in its name, which is weak": 7,
        "its md5 is published in a file beside it": 9,
        "no hash of it is published": 51,
        "-": 5,  # never published, or in the package
    }
