"""Losses on validation data, where they can be worked by hand, and what they do not depend on."""

import json
import math

import pytest
import torch

import cascadezoo
import cascadezoo.distributed as distributed
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.distributed import World
from cascadezoo.errors import BadAnnotations, OutOfMemory, UsageError
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.validation_loss import validation_losses, validation_set

from drawn import CATEGORIES, draw_set
from learning import adamw, learner, log, options

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
LN2, LN4 = math.log(2), math.log(4)


@pytest.fixture
def drawn(tmp_path):
    return draw_set(tmp_path / "images", 3)


def losses_of(drawn, model, world: World | None = None, seed: int = 0, **more) -> dict[str, float]:
    model.categories = CocoDataset(*draw_set(drawn.images.parent / "classes", 1)).categories
    images = validation_set(CocoDataset(*drawn), model, seed, keep_empty=False)
    return validation_losses(model, images, world or World(0, 1, CPU), lambda done: None, **more)


def undecided(model):
    """Every score the same: half for each anchor and pixel, a quarter for each of three classes and background."""
    for module in (
        model.rpn.objectness,
        *(h.cls_score for h in model.box_heads),
        *(h.mask_logits for h in model.mask_heads),
    ):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    return model


def test_losses_of_an_undecided_network_are_logarithms(drawn) -> None:
    """mmdetection weighs the three stages 1, 0.5 and 0.25."""
    losses = losses_of(drawn, undecided(learner()))
    assert losses["loss_objectness"] == pytest.approx(LN2, rel=1e-5)
    for stage, weight in ((1, 1.0), (2, 0.5), (3, 0.25)):
        assert losses[f"loss_classifier_{stage}"] == pytest.approx(weight * LN4, rel=1e-5)
        assert losses[f"loss_mask_{stage}"] == pytest.approx(weight * LN2, rel=1e-5)


class Shared(World):
    """One of two processes, of which the other has had its turn."""

    def all_gather(self, value):
        rows.append(value)
        return [rows[0], rows[-1]] if self.rank else [value, value]


rows: list[object] = []


def test_every_image_counts_once_however_they_are_shared_out(drawn) -> None:
    """Three images on two processes: the mean over images, not that of the processes' means, to the last bit."""
    rows.clear()
    model = learner()
    alone = losses_of(drawn, model)
    losses_of(drawn, model, Shared(0, 2, CPU))
    assert [len(part) for part in rows] == [2]
    assert losses_of(drawn, model, Shared(1, 2, CPU)) == alone
    assert losses_of(drawn, model, workers=1) == alone


def test_they_change_nothing_and_repeat(drawn) -> None:
    model = learner()
    model.backbone.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    first = losses_of(drawn, model)
    torch.manual_seed(99)
    assert losses_of(drawn, model) == first
    torch.set_rng_state(state)
    assert losses_of(drawn, model, seed=1) != first  # other anchors are sampled
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_validation_data_of_a_part_of_the_classes_keep_their_labels(drawn) -> None:
    document = json.loads(drawn.annotations.read_text())
    for annotation in document["annotations"]:
        annotation["category_id"] = 7
    results = []
    for categories in (CATEGORIES, CATEGORIES[1:2]):
        drawn.annotations.write_text(json.dumps({**document, "categories": categories}))
        results.append(losses_of(drawn, learner()))
    assert results[0] == results[1]


def test_data_that_have_no_losses_are_refused(drawn) -> None:
    document = json.loads(drawn.annotations.read_text())
    del document["annotations"][0]["segmentation"]
    drawn.annotations.write_text(json.dumps(document))
    with pytest.raises(BadAnnotations, match="an object of image 11 has no segmentation"):
        losses_of(drawn, learner())
    drawn.annotations.write_text(json.dumps(document | {"annotations": []}))
    with pytest.raises(UsageError, match="has no objects to learn from"):
        losses_of(drawn, learner())


def test_no_room_for_one_image_is_one_sentence(drawn) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    model = learner()
    model.rpn.conv.register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemory, match="cpu has too little memory for one image at a time"):
        losses_of(drawn, model)


def test_a_run_records_them_on_request(drawn, tmp_path, capfd) -> None:
    folder = tmp_path / "run"
    config = TrainingConfig(**options(drawn, folder, val_json=drawn.annotations, val_loss=True, batch_size=3))
    cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=2))
    first, second = log(folder, "evaluation")
    assert first["loss"] == pytest.approx(sum(first["losses"].values()))
    assert second["loss"] != first["loss"]
    assert f"validation loss {second['loss']:.4f}" in capfd.readouterr().err


def test_apart_from_the_others_a_process_counts_itself_alone(monkeypatch) -> None:
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    assert distributed.processes() == 2
    with distributed.apart():
        assert distributed.processes() == 1
        assert distributed.sum_of_processes(torch.ones(1)).item() == 1
    assert distributed.processes() == 2
