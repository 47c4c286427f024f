"""What is frozen stays as it is, bit for bit, statistics of norms included."""

import pytest
import torch
from click.testing import CliRunner

import cascadezoo
from cascadezoo.cli import cli
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import UsageError
from cascadezoo.loading import build
from cascadezoo.modeling.resnet import BatchNorm
from cascadezoo.training.config import Part, TrainingConfig
from cascadezoo.training.network import all_learning, freeze, set_training

from learning import adamw, learner, log, options
from tiny import tiny
from tiny_zoo import ENTRY, narrow

pytestmark = pytest.mark.usefixtures("one_thread")


def from_scratch() -> torch.nn.Module:
    """Its batch norms learn their statistics."""
    torch.manual_seed(0)
    model = build(all_learning(narrow(3)))
    assert any(isinstance(module, BatchNorm) for module in model.backbone.modules())
    return model


def copy_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("parts", [["backbone"], ["neck"], ["rpn"], ["backbone", "neck", "rpn"]])
def test_T13_frozen_parts_are_bit_equal_after_20_steps(tmp_path, drawn, parts):
    model = from_scratch()
    before = copy_of(model)
    config = TrainingConfig(**options(drawn, tmp_path / "run", freeze=parts, batch_size=1, val_json=drawn.annotations))
    recipe = adamw(1e-3, epochs=5, ema={"momentum": 0.1, "warmup": 1.0})
    after, metadata = read_canonical(cascadezoo.train(config, model=model, recipe=recipe))
    assert metadata["steps"] == "20"
    assert {name.split(".")[0] for name in moved(before, after)} == {
        "backbone", "neck", "rpn", "box_heads", "mask_heads"
    } - set(parts)  # fmt: skip
    assert not {name for name in moved(before, after) if name.split(".")[0] in parts}
    if "backbone" not in parts:
        assert any("running_mean" in name for name in moved(before, after))


def test_T13_a_backbone_frozen_by_hand_keeps_its_statistics_in_training(tmp_path, drawn):
    model = from_scratch()
    model.backbone.requires_grad_(False)
    before = copy_of(model)
    config = TrainingConfig(**options(drawn, tmp_path / "run", val_json=drawn.annotations))
    after, _ = read_canonical(cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=2)))
    assert moved(before, after)
    assert not any(name.startswith("backbone") for name in moved(before, after))


def test_T13_a_backbone_frozen_by_hand_keeps_its_statistics_in_a_loop_of_ones_own():
    model = from_scratch()
    model.backbone.requires_grad_(False)
    before = copy_of(model)
    image = torch.rand(3, 64, 96)
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 64, 96)}
    sum(model.train()([image], [target]).values()).backward()
    assert moved(before, model.state_dict()) == set()
    model.backbone.requires_grad_(True)
    sum(model.train()([image], [target]).values()).backward()
    assert any("running_mean" in name for name in moved(before, model.state_dict()))


def test_T13_a_part_of_a_backbone_frozen_by_hand_keeps_its_own(tmp_path, drawn):
    model = from_scratch()
    model.backbone.stem.requires_grad_(False)
    before = copy_of(model)
    after, _ = read_canonical(
        cascadezoo.train(TrainingConfig(**options(drawn, tmp_path / "run")), model=model, recipe=adamw(1e-3, epochs=1))
    )
    assert not any(name.startswith("backbone.stem") for name in moved(before, after))
    assert any(name.startswith("backbone.layer4") and "running_mean" in name for name in moved(before, after))


def test_T13_a_frozen_backbone_drops_no_paths():
    model = build(tiny("cascade_mask_internimage_l_fpn", "internimage", num_classes=3))
    freeze(model, [Part.BACKBONE])
    set_training(model)
    assert not any(module.training for module in model.backbone.modules())
    assert model.training
    assert model.neck.training


def test_T13_a_part_without_weights_cannot_be_frozen():
    model = build(tiny("mask_r50_c4", "paddle", num_classes=3))
    with pytest.raises(UsageError, match="--freeze neck: the neck of this network has no weights"):
        freeze(model, [Part.NECK])


def test_T13_freeze_on_the_command_line(tmp_path, drawn, small_zoo):
    run = tmp_path / "run"
    command = [
        "train", "--entry", ENTRY, "--train-json", drawn.annotations, "--train-images", drawn.images, "--run-dir", run,
        "--workers", 0, "--device", "cpu", "--schedule", 0.5, "--min-size", 64, "--freeze", "backbone",
        "--freeze", "rpn",
    ]  # fmt: skip
    assert CliRunner().invoke(cli, [str(part) for part in command], catch_exceptions=False).exit_code == 0
    assert log(run, "begin")[0]["options"]["freeze"] == ["backbone", "rpn"]
    resumed = CliRunner().invoke(cli, ["train", "--resume", "--run-dir", str(run), "--freeze", "neck"])
    assert "begun with --freeze backbone --freeze rpn, now it has --freeze neck" in str(resumed.exception)


def test_T13_what_is_not_frozen_trains(tmp_path, drawn):
    model = learner()
    set_training(model)
    assert all(module.training for module in model.modules())
