"""AP does not depend on the ids of the validation data's annotations, which are internal."""

import json
from pathlib import Path

import pytest

import cascadezoo
from cascadezoo.shapes.dataset import generate

from learning import log

IDS = {"as drawn": lambda n: n + 1, "repeated": lambda n: n // 2 + 1, "from 0": lambda n: n, "from -5": lambda n: n - 5}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    generate("train", folder, 2)
    generate("val", folder, 3)
    return folder


@pytest.fixture(scope="module")
def figures(shapes: Path) -> dict[str, dict]:
    """Those in the log of the embedded entry after two steps, for each way to number the annotations."""
    document = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    found = {}
    for name, numbering in IDS.items():
        for place, annotation in enumerate(document["annotations"]):
            annotation["id"] = numbering(place)
        val = shapes / f"{name}.json"
        val.write_text(json.dumps(document))
        config = cascadezoo.TrainingConfig(
            entry="cascade_mask_r18_fpn_shapes", pretrained=True, schedule="2", batch_size=2, workers=0, device="cpu",
            train_json=shapes / "annotations" / "instances_train.json", train_images=shapes / "train",
            val_json=val, val_images=shapes / "val", eval_every=2, run_dir=shapes / name,
        )  # fmt: skip
        cascadezoo.train(config)
        (evaluation,) = log(shapes / name, "evaluation")
        assert evaluation["step"] == 2
        found[name] = evaluation["figures"]
    return found


@pytest.mark.parametrize("ids", list(IDS)[1:])
def test_T1_the_AP_of_a_run_is_the_same(figures: dict[str, dict], ids: str) -> None:
    assert figures["as drawn"]["bbox"]["AP"] > 50
    assert figures["as drawn"]["segm"]["AP"] > 50
    assert figures[ids] == figures["as drawn"]
