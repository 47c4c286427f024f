"""The manifest against the publishers' first five pages: `data/tables` are the pages as published, `data/zoo_rows.tsv`
their 67 rows under our names, `data/sources.tsv` and `data/corrections.md` what is known beyond them.  The entries of
other pages: test_later_entries.py."""

import csv
import html
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from operator import itemgetter
from pathlib import Path

import pytest
from pydantic import ValidationError

from cascadezoo import manifest
from cascadezoo.manifest import ZooEntry

DATA = Path(__file__).parent / "data"
FIGURES = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75")
LINKS = ("config", "checkpoint", "log", "boxes", "masks")


def read_tsv(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


ROWS = read_tsv("zoo_rows.tsv")
SOURCES = read_tsv("sources.tsv")
OF_THE_PAGES = {row["name"] for row in ROWS}
PUBLISHED = {
    publisher: [entry for entry in found if entry.name in OF_THE_PAGES]
    for publisher, found in manifest.load_manifest().items()
}
ENTRIES = {entry.name: entry for entries in PUBLISHED.values() for entry in entries}


# ---- the pages, parsed -------------------------------------------------------------------------------------------

COLUMNS = {
    "backbone": "backbone",
    "骨架网络": "backbone",
    "style": "style",
    "网络类型": "type",
    "每张gpu图片个数": "im_per_gpu",
    "lr schd": "schedule",
    "schd": "schedule",
    "学习率策略": "schedule",
    "mem (gb)": "mem_gb",
    "inf time (fps)": "fps",
    "推理时间(fps)": "fps",
    "box ap": "box_ap",
    "box map": "box_ap",
    "mask ap": "mask_ap",
    "mask map": "mask_ap",
    "train speed": "train_speed",
    "train time": "train_time",
    "#param": "params",
    "flops": "flops",
}
LABELS = {
    "config": "config",
    "配置文件": "config",
    "model": "checkpoint",
    "ckpt": "checkpoint",
    "下载链接": "checkpoint",
    "log": "log",
    "boxes": "boxes",
    "masks": "masks",
}
EMPTY = {"", "-", "--", "----"}


def pipe_tables(text: str) -> Iterator[dict[str, str]]:
    """Rows of Markdown tables, also of a page whose line breaks are lost: between two rows lies an empty cell."""
    cells = [cell.strip() for cell in text.replace(r"\|", "¦").split("|")]
    at = 0
    while at < len(cells):
        if COLUMNS.get(cells[at].lower()) != "backbone":
            at += 1
            continue
        columns = cells.index("", at) - at
        header = [COLUMNS.get(cell.lower(), "") for cell in cells[at : at + columns]]
        while cells[at + columns] == "":
            at += columns + 1
            values = cells[at : at + columns]
            if not set("".join(values)) <= set(":-"):
                links = {
                    LABELS[label]: url for value in values for label, url in re.findall(r"\[(.+?)\]\((.+?)\)", value)
                }
                yield {**dict(zip(header, values, strict=True)), **links}
        at += columns


def html_tables(text: str) -> Iterator[dict[str, str]]:
    header = ("backbone", "type", "schedule", "im_per_gpu", *FIGURES, "")
    for row in re.findall(r"<tr>(.*?)</tr>", text, re.S):
        cells = re.findall(r"<td.*?>(.*?)</td>", row, re.S)
        links = {LABELS[label]: html.unescape(url) for url, label in re.findall(r'<a href="(.+?)">(\w+)</a>', row)}
        yield {**dict(zip(header, (re.sub(r"<.+?>", "", cell) for cell in cells), strict=True)), **links}


def published_rows() -> Iterator[dict[str, str]]:
    """All rows of all pages, in the columns and the order of zoo_rows.tsv."""
    pages = (("paddle", "cascade"), ("paddle", "mask"), ("mmdet", "cascade"), ("internimage", "cascade"))
    for publisher, page in pages:
        text = (DATA / "tables" / f"{publisher}_{page}.txt").read_text("utf-8")
        for row in pipe_tables(text):
            yield {"publisher": publisher, **row}
    for row in html_tables((DATA / "tables" / "detectron_cascade.txt").read_text("utf-8")):
        yield {"publisher": "detectron", **row}


def test_the_rows_are_the_pages():
    named_by_us = {"name", "tta", "table"}
    columns = [column for column in ROWS[0] if column not in named_by_us]
    pages = [{key: "" if row.get(key, "") in EMPTY else row[key] for key in columns} for row in published_rows()]
    assert pages == [{key: row[key] for key in columns} for row in ROWS]
    assert len(pages) == 67


# ---- the manifest ------------------------------------------------------------------------------------------------


def rows_of(entry: ZooEntry) -> list[dict[str, str]]:
    """The entry's table rows, one for each evaluation, in the columns of zoo_rows.tsv that hold published facts."""
    same = ("publisher", "backbone", "style", "type", "schedule", "im_per_gpu", "fps", *FIGURES)
    same += ("params", "flops", "train_speed", "train_time")
    first = {key: getattr(entry, key) for key in same}
    first |= {"mem_gb": entry.memory_gb, **{key: getattr(entry.source, f"{key}_url") for key in LINKS}}
    rows = [{"name": entry.name, "tta": None, **first}]
    if len(entry.evaluations) == 2:
        plain = entry.evaluations[1]
        rows[0]["tta"] = "yes"
        rows.append({**dict.fromkeys(rows[0]), "name": entry.name, "tta": "no", "publisher": entry.publisher})
        rows[1] |= {"backbone": "[above without test-time aug.]", **{key: getattr(plain, key) for key in FIGURES}}
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def test_every_row_digit_for_digit():
    rows = [row for entry in ENTRIES.values() for row in rows_of(entry)]
    expected = [{key: row[key] for key in rows[0]} for row in ROWS]
    by_name = itemgetter("name")  # a stable sort: the second evaluation stays behind the first
    assert sorted(rows, key=by_name) == sorted(expected, key=by_name)
    assert len(rows) == 67
    assert len(ENTRIES) == 65


def test_entries_keep_the_order_of_their_tables():
    for publisher, entries in PUBLISHED.items():
        listed = dict.fromkeys(row["name"] for row in ROWS if row["publisher"] == publisher)
        assert [entry.name for entry in entries] == list(listed)


def test_every_table_heading_is_on_its_page():
    pages = {}
    for path in (DATA / "tables").iterdir():
        pages.setdefault(path.stem.split("_")[0], []).append(path.read_text("utf-8"))
    for entry in ENTRIES.values():
        assert any(f"# {entry.source.table}" in page for page in pages[entry.publisher]), entry.name


def test_sources_are_applied():
    for row in SOURCES:
        entry = ENTRIES[row["name"]]
        assert {key: getattr(entry, key) or "" for key in row} == row
    assert len(SOURCES) == 65
    counts = Counter(entry.availability for entry in ENTRIES.values())
    assert counts == {"published": 46, "moved": 9, "wrong_link": 6, "never_published": 4}
    assert all(entry.last_checked is None for entry in ENTRIES.values())


def test_later_figures_stand_beside_the_table():
    text = (DATA / "corrections.md").read_text("utf-8")
    figures = r"(\d+\.\d) / (\d+\.\d) / (\d+\.\d)"
    recorded = re.findall(rf"^\| ([a-z][^|]*?) \| {figures} \| (?:{figures} )?\|$", text, re.M)
    expected = {}
    for label, *scores in recorded:
        name = "mask_x152_32x8d_in5k_fpn_s1x" if label == "same, without TTA" else label.removesuffix(", with TTA")
        expected[f"{name}.detectron", label.endswith(", with TTA")] = tuple(scores)
    assert len(expected) == 11
    release_2_6 = re.search(r"`(mask_x101_vd_64x4d_fpn_2x)`.*?release 2\.6\) gives (\d+\.\d) / (\d+\.\d)", text)
    expected[f"{release_2_6[1]}.paddle", False] = (release_2_6[2], "", "", release_2_6[3], "", "")
    kept = {
        (entry.name, later.tta): tuple(str(getattr(later, key) or "") for key in FIGURES)
        for entry in ENTRIES.values()
        for later in entry.later_figures
    }
    assert kept == expected


def test_corrected_links_of_the_corrections():
    text = (DATA / "corrections.md").read_text("utf-8")
    links = dict(re.findall(r"^\| (\S+\.detectron) \| (http\S+) \|$", text, re.M))
    assert len(links) == 5
    assert {name: ENTRIES[name].corrected_url for name in links} == links
    for entry in ENTRIES.values():
        if entry.availability == "moved":
            old, new = "https://s3-us-west-2.amazonaws.com/detectron/", "https://dl.fbaipublicfiles.com/detectron/"
            assert entry.corrected_url == entry.source.checkpoint_url.replace(old, new)
            assert entry.source.md5_url == f"{entry.corrected_url}.md5sum"


def test_every_entry_can_be_judged():
    later = {name for name, entry in ENTRIES.items() if entry.evaluations[0].basis == "later"}
    assert later == {"mask_x101_vd_64x4d_fpn_2x.paddle", "cascade_mask_r101_fpn_1x.detectron"}
    judged = ENTRIES["mask_x101_vd_64x4d_fpn_2x.paddle"]
    assert (judged.box_ap, judged.evaluations[0].box_ap, judged.evaluations[0].mask_ap) == (
        None,
        Decimal("44.6"),
        Decimal("39.8"),
    )
    for entry in ENTRIES.values():
        assert [evaluation.tta for evaluation in entry.evaluations] in ([False], [True, False])
        for evaluation in entry.evaluations:
            assert evaluation.tolerance == Decimal("0.1")
            assert (evaluation.mask_ap is not None) == entry.has_masks, entry.name


def test_hash_prefixes_are_those_of_the_file_names():
    prefixes = {name: entry.source.sha256_prefix for name, entry in ENTRIES.items() if entry.source.sha256_prefix}
    assert len(prefixes) == 27
    for name, prefix in prefixes.items():
        assert name.endswith(".mmdet")
        assert ENTRIES[name].source.checkpoint_url.endswith(f"-{prefix}.pth")
    assert prefixes["cascade_r50_fpn_1x.mmdet"] == "3dc56deb"


def test_where_weights_are_downloaded_from():
    assert ENTRIES["cascade_r50_fpn_1x.paddle"].download_url == (
        "https://paddledet.bj.bcebos.com/models/cascade_rcnn_r50_fpn_1x_coco.pdparams"
    )
    assert ENTRIES["cascade_mask_internimage_xl_fpn_3x.internimage"].download_url == (
        "https://huggingface.co/OpenGVLab/InternImage/resolve/main/cascade_internimage_xl_fpn_3x_coco.pth"
    )
    assert ENTRIES["cascade_x101_64x4d_fpn_1x.detectron"].download_url is None


def test_epochs_are_those_of_the_publishers_configurations():
    stated = {(entry.publisher, entry.schedule, entry.epochs) for entry in ENTRIES.values()}
    assert stated == {
        ("mmdet", "1x", 12),
        ("mmdet", "20e", 20),
        ("mmdet", "3x", 36),
        ("internimage", "1x", 12),
        ("internimage", "3x", 36),
        ("paddle", "1x", 12),
        ("paddle", "2x", 24),
        ("detectron", "1x", None),
        ("detectron", "s1x", None),
    }


def test_architectures_leave_out_schedule_and_pretraining():
    for entry in ENTRIES.values():
        network = entry.bare_name.removesuffix(f"_{entry.schedule}").replace("_ssld", "").replace("_in5k", "")
        assert entry.architecture == network
    assert len({(entry.publisher, entry.architecture) for entry in ENTRIES.values()}) == 13 + 2 + 10 + 18


# ---- the record --------------------------------------------------------------------------------------------------


def test_schema_file_is_the_codes():
    assert files("cascadezoo.zoo_manifest").joinpath("schema.json").read_text("utf-8") == manifest.schema()


def test_json_keeps_digits_and_reads_back():
    entry = ENTRIES["cascade_r50_fpn_20e.mmdet"]
    text = entry.model_dump_json()
    assert json.loads(text)["box_ap"] == "41.0"
    assert list(json.loads(text))[:3] == ["name", "publisher", "architecture"]
    assert ZooEntry.model_validate_json(text) == entry


def test_records_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        ENTRIES["cascade_r50_fpn_20e.mmdet"].name = "other"


GOOD = """
[defaults]
publisher = "mmdet"
code_license = "MIT"
weights_license = "unstated"
attribution = "someone"
citation = ["something"]
evidence = "seen"

[[entry]]
name = "cascade_tiny_fpn_1x.mmdet"
architecture = "cascade_tiny_fpn"
family = "cascade"
backbone = "tiny"
schedule = "1x"
box_ap = 41.0
availability = "published"
aliases = ["tiny"]
[entry.source]
table = "Tiny"
config_url = "https://example.org/tiny.py"
checkpoint_url = "https://example.org/tiny-0123abcd.pth"
sha256_prefix = "0123abcd"
"""


def test_a_small_manifest_file():
    (entry,) = manifest.parse(GOOD)
    assert str(entry.box_ap) == "41.0"
    assert [(evaluation.tta, str(evaluation.box_ap)) for evaluation in entry.evaluations] == [(False, "41.0")]
    assert entry.download_url == "https://example.org/tiny-0123abcd.pth"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("box_ap = 41.0", "box_ap = 41", "has lost the digits"),
        ("box_ap = 41.0", "box_ap = 410.0", "less than 100"),
        ("box_ap = 41.0", "box_app = 41.0", "Extra inputs"),
        ("box_ap = 41.0", "", "box_ap"),
        ("box_ap = 41.0", "box_ap = 41.0\nmask_ap = 36.0", "mask AP for a model without masks"),
        ("box_ap = 41.0", "box_ap = 41.0\nfps = 16.1", "fps_device comes with fps"),
        ("box_ap = 41.0", 'box_ap = 41.0\nfps_device = "V100"', "fps_device comes with fps"),
        ("box_ap = 41.0", 'box_ap = 41.0\ninference_time = "0.052 s/im"', "fps_device comes with fps"),
        ("box_ap = 41.0", "box_ap = 41.0\nevaluations = [{ box_ap = 42.0 }]", "not the table's figures"),
        ("box_ap = 41.0", 'evaluations = [{ box_ap = 42.0, basis = "later" }]', "there are none"),
        ('schedule = "1x"', 'schedule = "2x"', "does not end with _2x.mmdet"),
        ("_1x.mmdet", "_1x.paddle", "does not end with _1x.mmdet"),
        ('family = "cascade"', 'family = "cascade_mask"', "does not belong to family cascade_mask"),
        ('name = "cascade_tiny', 'name = "cascade_mask_tiny', "does not belong to family cascade"),
        ('"published"', '"moved"', "they need it"),
        ('"published"', '"wrong_link"', "they need it"),
        ('"published"', '"published"\ncorrected_url = "https://example.org/x"', "for moved and wrong_link"),
        ('"published"', '"moved"\ncorrected_url = "https://example.org/tiny-0123abcd.pth"', "is the published link"),
        ('"published"', '"lost"', "availability"),
        ('sha256_prefix = "0123abcd"', 'sha256_prefix = "0123abce"', "not the 0123abcd of the file's name"),
        ('sha256_prefix = "0123abcd"', "", "not the 0123abcd of the file's name"),
        ('"0123abcd"', f'"0123abcd"\nsha256 = "{"0" * 64}"', "does not start with 0123abcd"),
        ("https://example.org", "ftp://example.org", "checkpoint_url"),
        ('aliases = ["tiny"]', 'aliases = ["cascade_tiny_fpn_1x"]', "given twice"),
        ('aliases = ["tiny"]', 'aliases = ["tiny", "tiny"]', "given twice: tiny"),
        ("tiny-0123abcd.pth", "tiny_0123ab.pkl", "md5_prefix None is not the 0123ab of the file's name"),
        (
            '"published"',
            '"published"\ncorrected_config_url = "https://example.org/tiny.py"',
            "corrected_config_url is the published link",
        ),
    ],
)
def test_a_wrong_entry_is_refused(old, new, complaint):
    assert old in GOOD
    with pytest.raises(ValueError, match=complaint):
        manifest.parse(GOOD.replace(old, new))


def test_two_entries_may_not_share_a_name():
    entry = GOOD[GOOD.index("[[entry]]") :]
    with pytest.raises(ValueError, match=r"given twice: cascade_tiny_fpn_1x$"):
        manifest.parse(GOOD + entry)


def test_two_entries_may_share_an_alias_but_none_is_anothers_name():
    entry = GOOD[GOOD.index("[[entry]]") :].replace("cascade_tiny_fpn_1x", "cascade_tiny_moby_fpn_1x")
    assert [each.aliases for each in manifest.parse(GOOD + entry)] == [("tiny",), ("tiny",)]
    with pytest.raises(ValueError, match=r"given twice: cascade_tiny_fpn_1x$"):
        manifest.parse(GOOD + entry.replace('"tiny"]', '"cascade_tiny_fpn_1x"]'))


def test_manifest_files_hold_figures_with_their_decimal_point():
    for publisher in manifest.PUBLISHERS:
        text = files("cascadezoo.zoo_manifest").joinpath(f"{publisher}.toml").read_text("utf-8")
        seen = []
        tomllib.loads(text, parse_float=lambda digits, seen=seen: seen.append(digits) or 0.0)
        assert seen
        assert all(re.fullmatch(r"\d+\.\d", digits) for digits in seen)
