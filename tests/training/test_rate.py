"""The learning rate of a run, and what it says when a step is larger than the data."""

import pytest

import cascadezoo
from cascadezoo.spec.recipe import Recipe, Solver
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.introduction import rate_of

from learning import adamw, learner, log, options

pytestmark = pytest.mark.usefixtures("one_thread")
SOLVER = Solver(lr=0.02, batch=16, weight_decay=0)


def test_T12_the_rate_follows_the_images_of_a_step_but_never_beyond_the_recipes():
    assert rate_of(SOLVER, 2, None) == (0.0025, "learning rate 0.0025: 0.02 for 16 images per step, here 2")
    assert rate_of(SOLVER, 16, None).value == 0.02
    large = rate_of(SOLVER, 96, None)
    assert large.value == 0.02
    assert large.words.endswith("here 96; it is not scaled up: --lr 0.12 would be in proportion")


def test_T12_a_rate_that_is_given_is_taken():
    assert rate_of(SOLVER, 96, 0.12) == (0.12, "learning rate 0.12, as given")


@pytest.mark.parametrize(("batch", "accumulate", "is_larger"), [(6, 1, True), (4, 1, False), (2, 2, False)])
def test_T12_a_step_larger_than_the_data_is_warned_of(tmp_path, drawn, capsys, batch, accumulate, is_larger):
    """Four images."""
    run = tmp_path / "run"
    config = TrainingConfig(**options(drawn, run, batch_size=batch, accumulate=accumulate))
    recipe = Recipe.model_validate({**adamw(1e-3, epochs=1).model_dump(), "solver": SOLVER.model_dump()})
    cascadezoo.train(config, model=learner(), recipe=recipe)
    words = "a step takes 6 images, and there are 4 to learn from: each comes more than once in a step"
    assert (words in capsys.readouterr().err) == is_larger
    assert any(words in note["text"] for note in log(run, "note")) == is_larger
    assert log(run, "steps")[-1]["lr"] <= 0.02
