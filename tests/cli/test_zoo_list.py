"""`cascadezoo list`: sorted, cut down, with other columns, as CSV."""

import csv
import io
from decimal import Decimal

import pytest

import cascadezoo
from cascadezoo import registry
from cascadezoo.cli import main
from cascadezoo.cli.zoo_list import COLUMNS
from cascadezoo.computed import computed

OWN = "cascade_mask_r18_fpn_shapes.cascadezoo"


@pytest.fixture
def listed(capsys):
    """What `list` prints as CSV: a dict for each entry."""

    def call(*arguments: str) -> list[dict[str, str]]:
        with pytest.raises(SystemExit) as end:
            main(["list", *arguments, "--csv"])
        out, err = capsys.readouterr()
        assert (end.value.code, err) == (0, "")
        return list(csv.DictReader(io.StringIO(out)))

    return call


def test_csv_has_every_column_of_every_entry(listed) -> None:
    rows = listed()
    assert [row["name"] for row in rows] == cascadezoo.list_models()
    assert list(rows[0]) == list(COLUMNS)
    (row,) = [row for row in rows if row["name"] == "cascade_mask_r50_fpn_1x.mmdet"]
    assert row | {"params": "", "flops": ""} == {
        "name": "cascade_mask_r50_fpn_1x.mmdet", "publisher": "mmdet", "family": "cascade_mask",
        "backbone": "R-50-FPN", "pretraining": "", "schedule": "1x", "ap": "41.2", "ap50": "", "ap75": "",
        "mask_ap": "35.9", "mask_ap50": "", "mask_ap75": "", "tta": "no", "data": "coco", "fps": "11.2",
        "inference_time": "", "fps_device": "V100",
        "params": "", "flops": "", "weights": "available", "license": "unstated",
    }  # fmt: skip
    assert {row["data"] for row in rows} == {"coco", "shapes"}


def test_columns_are_chosen_in_their_order(listed) -> None:
    rows = listed("*r50_fpn_1x.mmdet", "--columns", "ap, name")
    assert [tuple(row.items()) for row in rows] == [
        (("ap", "40.3"), ("name", "cascade_r50_fpn_1x.mmdet")),
        (("ap", "41.2"), ("name", "cascade_mask_r50_fpn_1x.mmdet")),
    ]


@pytest.mark.parametrize("column", ["ap", "mask_ap", "fps"])
def test_the_highest_come_first_and_what_has_no_figure_last(listed, column: str) -> None:
    values = [row[column] for row in listed("--sort", column) if row["data"] == "coco"]
    known = [Decimal(value) for value in values if value]
    assert known == sorted(known, reverse=True)
    assert len(known) >= 7
    assert values[: len(known)] == [value for value in values if value]


def test_an_ap_on_other_data_is_not_ranked_among_those_on_coco(listed) -> None:
    names = [row["name"] for row in listed("--sort", "mask_ap", "--masks")]
    assert names[-1] == OWN  # whose 79.4 is none of COCO's
    assert OWN not in [row["name"] for row in listed("--min-ap", "1")]


@pytest.mark.parametrize("column", ["name", "license", "params", "flops"])
def test_texts_and_sizes_go_up(listed, column: str) -> None:
    rows = [row[column] for row in listed("--sort", column)]
    assert rows == sorted(rows, key=str if column in ("name", "license") else Decimal)


def test_min_ap_keeps_what_reaches_it(listed) -> None:
    kept = {row["name"]: Decimal(row["ap"]) for row in listed("--min-ap", "46.6")}
    assert min(kept.values()) == Decimal("46.6")
    expected = {e.name for e in registry.entries() if e.evaluations[0].box_ap >= Decimal("46.6") and e.data == "coco"}
    assert set(kept) == expected


def test_costs_are_the_computed_ones(listed) -> None:
    for row in listed("*r50*"):
        costs = computed(registry.info(row["name"]))
        assert row["params"] == f"{costs.parameters / 1e6:.1f}"
        assert row["flops"] == f"{costs.total_flops / 1e9:.0f}"


def test_the_table_shows_what_it_is_sorted_by(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["list", "*x101*", "--publisher", "mmdet", "--sort", "fps"])
    out, err = capsys.readouterr()
    header, first, *_ = out.splitlines()
    assert header.split() == ["name", "box", "AP", "mask", "AP", "fps", "weights"]
    assert Decimal(first.split()[-2]) > 10
    assert err == "fps: images a second, as published, on one V100\n"


def test_nothing_that_reaches_an_ap(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["list", "--min-ap", "99"])
    out, err = capsys.readouterr()
    assert (out, err) == ("", "no entry fits, or none reaches that AP: `cascadezoo list --sort ap` shows the highest\n")
