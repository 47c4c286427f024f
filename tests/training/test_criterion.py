"""By what the best weights of a run are chosen, from records of evaluations written by hand."""

import pytest

from cascadezoo.coco.curves import METRICS
from cascadezoo.errors import UsageError
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.criterion import FIGURES, Criterion

from learning import options


def record(step: int, **changes) -> dict:
    return {
        "step": step,
        "figures": {"bbox": {"AP": 10.0, "AP50": 30.0}, "segm": {"AP": 9.0, "APs": None}},
        "classes": {"bbox": {"cat": 4.0, "cat:tom": 5.0, "none": None}},
        **changes,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("bbox/AP", 10.0),
        ("bbox/AP50", 30.0),
        ("segm/AP", 9.0),
        ("segm/APs", None),
        ("bbox/AP:cat", 4.0),
        ("bbox/AP:cat:tom", 5.0),
        ("bbox/AP:none", None),
        ("loss", 2.5),
    ],
)
def test_a_figure_is_looked_up_by_its_name(text: str, value: float | None) -> None:
    criterion = Criterion.parse(text)
    assert criterion.value(record(1, loss=2.5)) == value
    assert str(criterion) == text


@pytest.mark.parametrize(
    "text", ["AP", "bbox", "bbox/", "bbox/AP5", "box/AP", "bbox/AP:", "bbox/AP50:cat", "loss:cat", ""]
)
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"best_by: .* is no figure: choose loss, bbox or segm with one of AP, AP50"):
        TrainingConfig.of(train_json="t.json", train_images=".", run_dir="run", val_json="v.json", best_by=text)


@pytest.mark.parametrize(
    "given", [{"best_by": "segm/AP"}, {"patience": 3}, {"val_loss": True}], ids=lambda d: next(iter(d))
)
def test_options_about_evaluations_need_validation_data(drawn, tmp_path, given) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(given))} without val_json: give annotations to evaluate on"):
        TrainingConfig.of(**options(drawn, tmp_path / "run", **given))


def test_the_figures_are_those_of_evaluations() -> None:
    assert FIGURES == METRICS


def test_the_first_of_equals_is_the_best_and_evaluations_after_it_are_counted() -> None:
    def evaluations(*values: float | None) -> list[dict]:
        return [record(i, figures={"bbox": {"AP": value}}, loss=value) for i, value in enumerate(values, start=1)]

    most, least = Criterion.parse("bbox/AP"), Criterion.parse("loss")
    nan = float("nan")
    for values, best, since in [
        ((1.0, 3.0, 2.0, 3.0), 2, 2),
        ((0.0,), 1, 0),
        ((None, nan, 1.0, None), 3, 1),
    ]:
        standing = most.standing(evaluations(*values))
        assert standing.best is not None
        assert (standing.best["step"], standing.since) == (best, since)
    assert most.standing(evaluations(None, nan)) == (None, 2)
    assert most.standing([]) == (None, 0)
    lowest = least.standing(evaluations(2.0, 1.0, nan, 1.0, 1.5))
    assert lowest.best is not None
    assert (lowest.best["step"], lowest.since) == (2, 3)


def test_evaluations_that_lack_the_figure_are_none() -> None:
    """Those of a run whose log is older than the option."""
    old = {"step": 1, "figures": {"bbox": {"AP": 1.0}}}
    assert Criterion.parse("loss").value(old) is None
    assert Criterion.parse("bbox/AP:cat").value(old) is None
    assert Criterion.parse("segm/AP").value(old) is None
