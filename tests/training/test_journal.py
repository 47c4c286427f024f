"""What a run says: records, lines, the picture of the curves."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from cascadezoo.errors import CorruptCheckpoint, UnwritableOutput
from cascadezoo.training.curves import draw
from cascadezoo.training.journal import Journal

SECONDS = {"data": 0.1, "forward": 0.2, "backward": 0.6, "optimizer": 0.1}


def tell(journal: Journal, steps: range) -> None:
    for step in steps:
        losses = {"loss_objectness": float(step), "loss_classifier_1": 1.0}
        journal.step(step, step / 2, 0.01, losses, norm=2.0 * step, seconds=SECONDS)


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_records_are_means_of_the_steps_since_the_last(tmp_path, capsys):
    with Journal(tmp_path, steps=5, images=4, every=2) as journal:
        tell(journal, range(1, 6))
    steps = records(tmp_path)
    assert [record["step"] for record in steps] == [2, 4, 5]
    first = steps[0]
    assert first["losses"] == {"loss_objectness": 1.5, "loss_classifier_1": 1.0}
    assert (first["loss"], first["grad_norm"], first["epoch"], first["lr"]) == (2.5, 3.0, 1.0, 0.01)
    assert first["images_per_second"] == pytest.approx(4.0)  # 4 images a second of all parts
    assert first["seconds"] == pytest.approx(SECONDS)
    line = capsys.readouterr().err.splitlines()[0]
    assert "step 2/5" in line
    assert "data 10%, forward 20%, backward 60%, optimizer 10%" in line
    assert "left 0:00:03" in line  # three steps of a second


def test_resuming_drops_what_is_done_again(tmp_path):
    with Journal(tmp_path, steps=9, images=1, every=1) as journal:
        tell(journal, range(1, 7))
        journal.evaluation(4, 2.0, {"bbox": {"AP": 12.5, "AP50": 20.0}}, 3.0)
        journal.evaluation(6, 3.0, {"bbox": {"AP": None, "AP50": None}}, 3.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "steps", "losses": {"loss_mask": 1.0}')  # the process was killed while it wrote
    again = Journal(tmp_path, steps=9, images=1, every=1)
    again.resume(5)
    assert [record["step"] for record in again.evaluations()] == [4]
    assert max(record["step"] for record in records(tmp_path)) == 5
    with again:
        tell(again, range(6, 8))
    assert [record["step"] for record in records(tmp_path) if record["kind"] == "steps"] == [1, 2, 3, 4, 5, 6, 7]


def test_a_damaged_log_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"kind": oops}\n')
    with pytest.raises(CorruptCheckpoint, match=r"log\.jsonl is damaged"):
        Journal(tmp_path, steps=9, images=1, every=1).resume(5)


def curve(values: list[float], figures: dict | None = None) -> list[dict]:
    steps = [
        {"kind": "steps", "step": i, "loss": v, "losses": {"loss_mask_1": v / 3}, "lr": 0.1}
        for i, v in enumerate(values, start=1)
    ]
    return steps + ([{"kind": "evaluation", "step": len(values), "figures": figures}] if figures else [])


def test_curves_have_a_panel_of_figures_only_after_an_evaluation():
    plain = draw(curve([4.0, 2.0, 1.0]))
    assert plain.size == (1200, 660)
    assert draw(curve([4.0, 2.0, 1.0], {"bbox": {"AP": 1.0, "AP50": 2.0}})).size == (1200, 990)


def test_curves_fall_where_the_losses_fall():
    pixels = np.asarray(draw(curve([10.0 ** (1 - i / 50) for i in range(101)])))[:330, 95:940].astype(int)
    blue = (pixels[..., 2] > 140) & (pixels[..., 0] < 90)  # the colour of the total, over ten to a tenth
    rows = [np.median(blue[:, x].nonzero()[0]) for x in (40, 420, 800)]
    assert rows[0] < rows[1] < rows[2]
    # a straight line on logarithmic paper: the middle is half-way
    assert rows[1] == pytest.approx((rows[0] + rows[2]) / 2, abs=4)


def test_a_validation_loss_is_drawn_beside_the_total():
    """A tenth of the total, on logarithmic paper of two decades: half the height lower."""
    records = curve([1.0] * 5)
    for record in records:
        record["losses"] = {}
    records += [{"kind": "evaluation", "step": i, "figures": {}, "loss": 0.1} for i in (1, 5)]
    pixels = np.asarray(draw(records))[:330, 300:900].astype(int)
    blue = (pixels[..., 2] > 140) & (pixels[..., 0] < 90)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 90)
    rows = [np.median(colour[:, 200].nonzero()[0]) for colour in (blue, red)]
    assert rows[1] - rows[0] == pytest.approx((330 - 44 - 48) / 2, abs=3)


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-9, 1e9], [3.0] * 2000, [float("nan"), 1.0]])
def test_curves_of_odd_runs(values):
    assert isinstance(draw(curve(values)), Image.Image)


def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path, steps=9, images=1, every=1)
    with pytest.raises(UnwritableOutput, match=r"log\.jsonl cannot be written: No space left"):
        journal.note(0, "a sentence")


def test_norms_that_overflowed_are_left_out(tmp_path):
    journal = Journal(tmp_path, steps=3, images=1, every=2)
    for step, norm in ((1, math.inf), (2, 3.0), (3, math.nan)):
        journal.step(step, 0.0, 0.1, {"loss_objectness": 1.0}, norm, SECONDS)
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "log.jsonl").open())
    assert (first["grad_norm"], second["grad_norm"]) == (3.0, None)


def test_v7_figures_are_rounded_as_in_reports_and_cards(tmp_path, capsys):
    """45.125 lies on the half and 45.135 is stored below it; printed with two digits both go up (V7)."""
    with Journal(tmp_path, steps=1, images=2, every=1) as journal:
        journal.evaluation(1, 1.0, {"bbox": {"AP": 45.125, "AP50": 0.0}, "segm": {"AP": 45.135, "AP50": 0.0}}, 3.0)
    assert "bbox AP 45.13, segm AP 45.14" in capsys.readouterr().err
