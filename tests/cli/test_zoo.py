"""`cascadezoo list` and `cascadezoo info`: what a user sees, on which stream, with which exit code."""

import json

import pytest

from cascadezoo.cli import main


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


def test_list_is_a_table(run):
    code, out, err = run("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["name", "box", "AP", "mask", "AP", "weights"]
    assert len(lines) == 1 + 109 + 1  # the published ones and our own
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["cascade_r50_fpn_20e.mmdet"] == ["41.0", "yes"]
    assert rows["cascade_mask_x101_64x4d_fpn_3x.mmdet"] == ["46.6", "40.3", "yes"]
    assert rows["cascade_mask_internimage_xl_fpn_3x.internimage"] == ["56.2", "48.8", "yes"]
    assert rows["faster_r50_fpn_1x.detectron"] == ["36.7", "yes"]
    assert rows["cascade_x101_64x4d_fpn_1x.detectron"] == ["45.4", "never"]
    assert rows["cascade_mask_vitdet_h_75ep.detectron2"] == ["58.7", "51.0", "yes"]
    assert rows["mask_x152_32x8d_in5k_fpn_s1x.detectron"] == ["48.1*", "41.5*", "yes"]
    assert rows["mask_x101_vd_64x4d_fpn_2x.paddle"] == ["44.6+", "39.8+", "yes"]
    assert "* with test-time augmentation" in err
    assert "+ from a later edition" in err
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in out


def test_C5_figures_of_another_data_set_than_coco_are_marked(run):
    _, out, err = run("list")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert rows["cascade_mask_r18_fpn_shapes.cascadezoo"] == ["85.1#", "79.4#", "inside"]
    assert sum("#" in line for line in out.splitlines()) == 1
    assert "# on the drawn shapes of `cascadezoo shapes`, not on COCO" in err.splitlines()
    assert "#" not in run("list", "--publisher", "mmdet")[2]
    sheet = run("info", "cascade_mask_r18_fpn_shapes")[1]
    assert "AP in percent on the drawn shapes of `cascadezoo shapes`, not COCO" in sheet
    assert "Other names" not in sheet
    assert "AP in percent on COCO" in run("info", "cascade_r50_fpn_1x.mmdet")[1]


def test_C5_weights_are_available_in_the_package_or_were_never_published(run):
    _, out, err = run("list")
    header, *lines = out.splitlines()
    states = [line[header.index("weights") :] for line in lines]
    # 4 were never published, one lies in the package; moved and wrong links have corrected ones
    assert {state: states.count(state) for state in set(states)} == {
        "yes": 105,
        "inside": 1,
        "never": 4,
    }
    assert "never: weights were never published\ninside: weights lie in the package\n" in err
    assert "never:" not in run("list", "--publisher", "swin")[2]
    for name in ("cascade_r50_fpn_1x.detectron", "faster_r50_fpn_1x.detectron", "cascade_r50_fpn_1x.mmdet"):
        assert "state available" in words(run("info", name)[1])
    assert "state in the package" in words(run("info", "cascade_mask_r18_fpn_shapes")[1])
    assert "state never published" in words(run("info", "cascade_x101_64x4d_fpn_1x.detectron")[1])


@pytest.mark.parametrize(
    ("name", "taken", "others"),
    [
        ("cascade_mask_r50_fpn_1x", "mmdet", ["paddle", "detectron", "detectron2"]),
        ("cascade_mask_convnext_t_fpn_3x", "mmdet", ["convnext"]),
        ("cascade_r101_fpn_1x", "mmdet", ["detectron"]),
        ("mask_r50_fpn_1x", "paddle", ["detectron"]),
        ("cascade_mask_rcnn_r50_fpn_1x_coco", "mmdet", ["paddle"]),  # a stem that two publishers gave their files
    ],
)
def test_C5_a_name_of_several_publishers_names_them_all(run, name, taken, others):
    code, out, err = run("info", name)
    bare = name.replace("cascade_mask_rcnn_r50_fpn_1x_coco", "cascade_mask_r50_fpn_1x")
    assert code == 0
    assert out.splitlines()[0] == f"{bare}.{taken}"
    listed = " and ".join(f"{bare}.{other}" for other in others)
    assert err == (
        f"{name} is taken for {bare}.{taken}; of that name there are also {listed}: give the whole name to choose\n"
    )
    assert json.loads(run("info", name, "--json")[1])["name"] == f"{bare}.{taken}"
    assert run("info", f"{name}.{others[0]}")[2] == ""


@pytest.mark.parametrize(
    "call",
    [
        "download {} {}",
        "cache path {}",
        "predict {} no.jpg",
        "export {} --format detectron",
        "publish {} --repo a/b",
        "verify {} {} --tolerance x",
        "bench {} no.jpg",
        "links {} nonsense",
        "train --entry {} --run-dir new",
        "convert --from mmdet --entry {} no.pth",
    ],
)
def test_C5_every_command_names_the_siblings_once(run, call, monkeypatch, tmp_path):
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    name = "cascade_mask_r50_fpn_1x"
    _, _, err = run(*call.replace("{}", name).split())
    assert err.count(f"{name} is taken for {name}.mmdet") == 1


def test_C5_another_process_of_a_run_is_silent(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("info", "cascade_r50_fpn_1x")[2] == ""


def test_list_columns_are_aligned(run):
    _, out, _ = run("list", "*r50_fpn_1x*")
    header, *lines = out.splitlines()
    for title in ("box AP", "weights"):
        column = header.index(title)
        assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def test_list_options(run):
    names = ["cascade_mask_r50_vd_ssld_fpn_1x.paddle", "cascade_mask_r50_vd_ssld_fpn_2x.paddle"]
    code, out, err = run("list", "*r50_vd*", "--publisher", "paddle", "--family", "cascade_mask", "--json")
    assert code == 0
    assert err == ""
    assert [entry["name"] for entry in json.loads(out)] == names
    count = {}
    for option in ("--masks", "--no-masks", "--available"):
        _, out, _ = run("list", option)
        count[option] = len(out.splitlines()) - 1
    assert count == {"--masks": 87, "--no-masks": 23, "--available": 106}


def test_list_of_nothing(run):
    assert run("list", "x101") == (0, "", "no entry fits: PATTERN is for the whole name, so try '*x101*'\n")
    code, out, err = run("list", "*nothing*")
    assert (code, out) == (0, "")
    assert "no entry fits" in err
    code, out, err = run("list", "*nothing*", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert "no entry fits" in err


def test_list_refuses_an_unknown_publisher(run):
    code, out, err = run("list", "--publisher", "mmdetection")
    assert (code, out) == (2, "")
    assert "'mmdet'" in err


def words(text):
    return " ".join(text.split())


def test_info_of_a_published_entry(run):
    code, out, err = run("info", "cascade-mask-rcnn_r50_fpn_1x_coco")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "cascade_mask_r50_fpn_1x.mmdet"
    text = words(out)
    assert "R-50-FPN (pytorch style)" in text
    assert "1x, 12 epochs" in text
    assert "box AP AP50 AP75 mask AP AP50 AP75 published 41.2 - - 35.9 - -" in text
    assert "11.2 images a second on one V100" in text
    assert "starts with 9d4dcb24" in text
    assert "code Apache-2.0 weights unstated" in text
    assert "cascade_mask_rcnn_r50_fpn_1x_coco_20200203-9d4dcb24" in text.split()
    assert "\x1b" not in out


def test_info_says_where_a_link_is_wrong(run):
    _, out, _ = run("info", "cascade_r50_fpn_1x.detectron")
    text = words(out)
    assert "available: the published table links another model's file, and the corrected link is used" in text
    assert (
        "corrected http://www.svcl.ucsd.edu/projects/cascade-rcnn/R50-FPN-cascade-rcnn.pkl published https://s3" in text
    )
    assert "the table links a baseline without cascade" in text
    _, out, _ = run("info", "cascade_x101_32x8d_fpn_1x.detectron")
    assert "never published" in out
    assert "bring your own file" in out


def test_info_shows_evaluations_and_later_figures(run):
    _, out, _ = run("info", "mask_x152_32x8d_in5k_fpn_s1x")
    text = words(out)
    assert "published, test-time augmentation 48.1 - - 41.5 - - published 45.2 - - 39.7 - -" in text
    assert "later edition, test-time augmentation 48.1 68.3 52.9 41.5 65.1 44.7" in text
    assert "later edition: a later commit of the same README" in text
    assert "available: the file has moved since it was published" in text
    assert "weights CC-BY-SA-3.0" in text
    _, out, _ = run("info", "mask_x101_vd_64x4d_fpn_2x")
    assert "later edition 44.6 - - 39.8 - -" in words(out)
    assert "within 0.1 AP of the later figures" in words(out)


def test_info_as_json(run):
    code, out, _ = run("info", "cascade_r50_fpn_20e", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["name"] == "cascade_r50_fpn_20e.mmdet"
    assert record["box_ap"] == "41.0"
    assert record["source"]["sha256_prefix"] == "e9872a90"
    assert record["availability"] == "published"


def test_info_of_an_unknown_name(run):
    code, out, err = run("info", "cascade_r50_fpn_5x")
    assert (code, out) == (2, "")
    assert err.startswith("cascadezoo: no entry is called 'cascade_r50_fpn_5x': did you mean cascade_r50_fpn_1x")
    assert err.count("\n") == 1


@pytest.mark.parametrize("columns", ["80", "120"])
def test_info_keeps_links_whole(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = run("info", "cascade_mask_x101_64x4d_fpn_3x")
    assert "/cascade_mask_rcnn_x101_64x4d_fpn_mstrain_3x_coco_20210719_210311-d3e64ba0.pth\n" in out
    assert all(len(line) <= int(columns) for line in out.splitlines() if "://" not in line)
