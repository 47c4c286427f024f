"""``best_by`` and ``patience`` in whole runs, whose evaluations are written by hand: one step an epoch."""

import json

import pytest

import cascadezoo
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import UsageError
from cascadezoo.training import validation
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.evaluation import Measured

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

AP = (10.0, 5.0, 5.0, 5.0)
AP50, DISC, LOSS = (1.0, 20.0, 19.0, 20.0), (1.0, None, 3.0, 2.0), (4.0, 3.0, 2.0, 1.0)
NONE = {"kind": "bbox", "score": 0.3, "iou": 0.5, "names": ["box", "disc", "bar", "background"], "counts": []}


def measured(ap: float | None, ap50: float | None = 0.0, disc: float | None = 0.0) -> Measured:
    classes = {"box": 0.0, "disc": disc, "bar": 0.0}
    figures = {"AP": ap, "AP50": ap50}
    return Measured({"bbox": figures, "segm": {"AP": 0.0, "AP50": ap50}}, {"bbox": classes, "segm": classes}, NONE)


@pytest.fixture
def script(monkeypatch):
    """Say what the evaluations to come will find; an exception is raised by its evaluation."""

    def write(*findings: Measured | BaseException, losses: tuple[float, ...] = ()) -> None:
        left, lost = list(findings), list(losses)

        def evaluate(*_, **__) -> Measured:
            found = left.pop(0)
            if isinstance(found, BaseException):
                raise found
            return found

        monkeypatch.setattr(validation, "evaluate", evaluate)
        monkeypatch.setattr(validation, "validation_losses", lambda *_, **__: {"loss_objectness": lost.pop(0)})

    return write


@pytest.fixture
def drawn(tmp_path):
    return draw_set(tmp_path / "images", 1)


def run(drawn, folder, epochs: int = 4, resume: bool = False, **changes) -> None:
    config = TrainingConfig(**options(drawn, folder, val_json=drawn.annotations, batch_size=1, **changes))
    cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=epochs), resume=resume)


def steps_of(path) -> int:
    return int(read_canonical(path)[1]["steps"])


@pytest.mark.parametrize(("best_by", "step"), [("bbox/AP", 1), ("segm/AP50", 2), ("bbox/AP:disc", 3), ("loss", 4)])
def test_the_best_weights_are_those_of_the_epoch_that_the_figure_names(drawn, tmp_path, script, best_by, step) -> None:
    script(*map(measured, AP, AP50, DISC), losses=LOSS)
    run(drawn, tmp_path / "run", best_by=best_by)
    assert steps_of(tmp_path / "run" / "best.safetensors") == step
    assert ["loss" in record for record in log(tmp_path / "run", "evaluation")] == [best_by == "loss"] * 4


def test_a_run_without_the_figure_has_no_best_weights(drawn, tmp_path, script) -> None:
    script(measured(None), measured(None))
    run(drawn, tmp_path / "run", epochs=2)
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert (tmp_path / "run" / "classes.png").exists()


def test_a_loss_that_is_not_finite_is_never_the_best_and_the_log_stays_json(drawn, tmp_path, script, capfd) -> None:
    script(measured(1.0), measured(1.0), losses=(float("nan"), 3.0))
    run(drawn, tmp_path / "run", epochs=2, best_by="loss")
    assert steps_of(tmp_path / "run" / "best.safetensors") == 2
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [record["loss"] for record in records if record["kind"] == "evaluation"] == [None, 3.0]
    assert "segm AP 0.00, validation loss not finite" in capfd.readouterr().err


def test_a_run_stops_when_its_patience_ends_and_finishes_as_it_would_at_the_end(drawn, tmp_path, script, capfd) -> None:
    script(*map(measured, (10.0, 20.0, 15.0, 20.0)))
    run(drawn, tmp_path / "run", epochs=9, patience=2)
    folder = tmp_path / "run"
    said = "stopped early after step 4: 2 evaluations in a row had no better bbox/AP than 20 of step 2"
    assert log(folder, "note")[-1]["text"] == said
    assert said in capfd.readouterr().err
    assert log(folder, "end")[0]["step"] == steps_of(folder / "final.safetensors") == 4
    assert steps_of(folder / "best.safetensors") == 2

    before = (folder / "final.safetensors").read_bytes()
    run(drawn, folder, epochs=9, patience=2, resume=True)  # without another step or evaluation
    assert (folder / "final.safetensors").read_bytes() == before

    script(*map(measured, (30.0, 1.0, 2.0, 3.0)))
    run(drawn, folder, epochs=9, patience=3, resume=True)
    assert steps_of(folder / "best.safetensors") == 5
    assert steps_of(folder / "final.safetensors") == 8


def test_a_resumed_run_goes_on_counting(drawn, tmp_path, script) -> None:
    script(measured(10.0), measured(9.0), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(drawn, tmp_path / "run", epochs=9, patience=3)
    script(measured(8.0), measured(7.0))
    run(drawn, tmp_path / "run", epochs=9, patience=3, resume=True)
    assert steps_of(tmp_path / "run" / "final.safetensors") == 4


def test_another_figure_makes_it_another_run_and_more_patience_does_not(drawn, tmp_path, script) -> None:
    script(measured(10.0))
    run(drawn, tmp_path / "run", epochs=1)
    run(drawn, tmp_path / "run", epochs=1, patience=5, resume=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["patience"] == 5
    with pytest.raises(UsageError, match="was begun with --best-by bbox/AP, now it has --best-by segm/AP"):
        run(drawn, tmp_path / "run", epochs=1, best_by="segm/AP", resume=True)


def test_figures_that_no_evaluation_will_have_are_refused_at_once(drawn, tmp_path) -> None:
    with pytest.raises(
        UsageError, match=r"--best-by bbox/AP:dsic: .*images.json has no class 'dsic'; did you mean 'disc'"
    ):
        run(drawn, tmp_path / "run", best_by="bbox/AP:dsic")
    with pytest.raises(UsageError, match=r"no class 'ring'; it has box, disc, bar"):
        run(drawn, tmp_path / "run", best_by="bbox/AP:ring")
    with pytest.raises(UsageError, match=r"images.json has no objects of class 'bar'"):
        run(drawn, tmp_path / "run", best_by="bbox/AP:bar")
    boxes = cascadezoo.build(tiny("cascade_r50_fpn", num_classes=3))
    config = TrainingConfig(**options(drawn, tmp_path / "run", val_json=drawn.annotations, best_by="segm/AP"))
    with pytest.raises(UsageError, match="--best-by segm/AP: this network finds no masks"):
        cascadezoo.train(config, model=boxes, recipe=adamw(1e-3, epochs=1))
    assert not (tmp_path / "run").exists()
