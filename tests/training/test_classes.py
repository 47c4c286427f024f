"""Some classes of a data set, chosen or dropped by name; what there is of each is said."""

import json

import pytest
from click.testing import CliRunner

import cascadezoo
from cascadezoo.cli import cli
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import UsageError
from cascadezoo.loading import build
from cascadezoo.training.classes import ChosenClasses, chosen
from cascadezoo.training.config import TrainingConfig

from drawn import CATEGORIES, draw_set
from learning import adamw, log, options
from tiny_zoo import ENTRY, narrow

pytestmark = pytest.mark.usefixtures("one_thread")
ALL = Categories(["box", "disc", "bar", "-odd", "a, b"], [3, 7, 40, 41, 50])


@pytest.mark.parametrize(
    ("classes", "left"),
    [
        (["disc"], ["disc"]),
        (["bar,box"], ["box", "bar"]),  # in the data set's order
        (["bar", "box"], ["box", "bar"]),
        (["-disc"], ["box", "bar", "-odd", "a, b"]),
        (["-disc,-bar"], ["box", "-odd", "a, b"]),
        (["box,disc", "-disc"], ["box"]),
        (["-odd"], ["-odd"]),  # a name first of all
        (["--odd"], ["box", "disc", "bar", "a, b"]),
        (["a, b"], ["a, b"]),
        (["-a, b"], ["box", "disc", "bar", "-odd"]),
    ],
)
def test_T9_classes_are_chosen_and_dropped_by_name(classes, left):
    found = chosen(ALL, classes, "train.json")
    assert list(found) == left
    assert found.ids == tuple(ALL.ids[ALL.index(name)] for name in left)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["discs"], r"train\.json has no class 'discs'; did you mean 'disc'\?"),
        (["-discs"], r"train\.json has no class 'discs'; did you mean 'disc'\?"),
        (["zebra"], "has no class 'zebra'; it has box, disc, bar"),
        (["box", "-box"], r"leaves no class of train\.json to learn"),
    ],
)
def test_T9_a_class_that_is_not_there_is_named(classes, said):
    with pytest.raises(UsageError, match=said):
        chosen(ALL, classes, "train.json")


def test_T9_a_part_of_the_chosen_classes_is_enough_for_validation():
    assert list(chosen(Categories(["disc"], [7]), ["disc", "bar"], "val.json", partly=True)) == ["disc"]
    with pytest.raises(UsageError, match=r"leaves no class of val\.json"):
        chosen(Categories(["box"], [3]), ["disc", "bar"], "val.json", partly=True)


def test_T9_objects_of_other_classes_are_as_if_they_were_not_annotated(tmp_path):
    drawn = draw_set(tmp_path / "images", 6)
    document = json.loads(drawn.annotations.read_text())
    data = ChosenClasses(drawn.annotations, drawn.images, ["bar,disc"])
    ids = {3: None, 7: 0, 40: 1}
    for index, image_id in enumerate(data.image_ids):
        own = [a for a in document["annotations"] if a["image_id"] == image_id and ids[a["category_id"]] is not None]
        record = data.record(index)
        assert record.labels.tolist() == [ids[a["category_id"]] for a in own]
        assert record.boxes.tolist() == [
            [a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]] for a in own
        ]
        assert len(record.segmentations) == len(record.crowd) == data.objects[index] == len(own)
    counts = [sum(a["category_id"] == number for a in document["annotations"]) for number in (7, 40)]
    assert data.class_counts.tolist() == counts
    assert 0 < sum(counts) < len(document["annotations"])


def test_T9_a_run_learns_the_chosen_classes_and_is_scored_on_them_alone(tmp_path, small_zoo):
    drawn, run = draw_set(tmp_path / "images", 6), tmp_path / "run"
    document = json.loads(drawn.annotations.read_text())
    count = {c["name"]: sum(a["category_id"] == c["id"] for a in document["annotations"]) for c in CATEGORIES}
    command = [
        "train", "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--val-json",
        drawn.annotations, "--run-dir", run, "--workers", 0, "--device", "cpu", "--schedule", 0.5, "--min-size", 64,
        "--classes", "-box",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, [str(part) for part in command], catch_exceptions=False)
    assert result.exit_code == 0
    words = {f"disc {count['disc']}", f"bar {count['bar']}"}
    (line,) = [note["text"] for note in log(run, "note") if " objects of " in note["text"]]
    assert line.startswith(f"{count['disc'] + count['bar']} objects of 2 classes: ")
    assert set(line.split(": ")[1].split(", ")) == words
    _, metadata = read_canonical(run / "final.safetensors")
    assert json.loads(metadata["categories"]) == {"ids": [7, 40], "names": ["disc", "bar"]}
    resumed = CliRunner().invoke(cli, ["train", "--resume", "--run-dir", str(run), "--classes", "bar"])
    assert "was begun with --classes -box, now it has --classes bar" in str(resumed.exception)


def test_T9_the_figures_count_the_chosen_classes_alone(tmp_path):
    """All bars found, and nothing else: of bars alone the AP is 100, of all three classes a third."""
    from cascadezoo.coco.evaluation import evaluate

    drawn = draw_set(tmp_path / "images", 6)
    document = json.loads(drawn.annotations.read_text())
    found = [
        {"image_id": a["image_id"], "category_id": 40, "bbox": a["bbox"], "score": 0.9}
        for a in document["annotations"]
        if a["category_id"] == 40
    ]
    assert {a["category_id"] for a in document["annotations"]} == {3, 7, 40}
    assert evaluate(drawn.annotations, found, ["bbox"], category_ids=[40])["bbox"]["AP"] == pytest.approx(100)
    assert evaluate(drawn.annotations, found, ["bbox"])["bbox"]["AP"] == pytest.approx(100 / 3)


def test_T9_classes_without_objects_are_said_at_the_start(tmp_path, drawn):
    document = json.loads(drawn.annotations.read_text())
    document["categories"].append({"id": 99, "name": "ghost"})
    document["categories"].append({"id": 100, "name": "shade"})
    drawn.annotations.write_text(json.dumps(document))
    run = tmp_path / "run"
    config = TrainingConfig(**options(drawn, run))
    cascadezoo.train(config, model=build(narrow(num_classes=5)), recipe=adamw(1e-3, epochs=0.5))
    said = [note["text"] for note in log(run, "note")]
    assert "8 objects of 2 classes: box 5, disc 3" in said  # four images of two objects each; no bar among them
    assert "no objects to learn from: bar, ghost, shade; --classes can leave classes out" in said
