"""The loop as a whole: it learns, it says what it did, and what it writes loads."""

import json
import logging
import multiprocessing
import os
import signal

import pytest
import torch
from click.testing import CliRunner

import cascadezoo
from cascadezoo.cli import cli
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import FileError, MissingResource, OutputExists, TrainingDiverged, UsageError
from cascadezoo.loading import build
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.recipe import Recipe
from cascadezoo.spec.resnet import NormLearning
from cascadezoo.training import setup
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.network import all_learning, set_drop_path

from drawn import draw_set
from learning import adamw, learner, log, options
from tiny import tiny
from tiny_zoo import ENTRY, narrow

pytestmark = pytest.mark.usefixtures("one_thread")


def test_overfits_one_image_and_finds_its_boxes_and_masks(tmp_path):
    drawn, run = draw_set(tmp_path / "one", 1), tmp_path / "run"
    config = TrainingConfig(
        **options(drawn, run, val_json=drawn.annotations, batch_size=1, eval_every=1000, log_every=10)
    )
    cascadezoo.train(config, model=learner(), recipe=adamw(2e-3, epochs=80))
    steps, (evaluation,) = log(run, "steps"), log(run, "evaluation")
    assert steps[-1]["loss"] < steps[0]["loss"] / 4
    assert evaluation["figures"]["bbox"]["AP50"] > 90
    assert evaluation["figures"]["segm"]["AP50"] > 90
    of_class = evaluation["classes"]["bbox"]
    assert of_class["bar"] is None  # the image has a box and a disc
    assert (of_class["box"] + of_class["disc"]) / 2 == pytest.approx(evaluation["figures"]["bbox"]["AP"])
    assert evaluation["confusion"]["names"] == ["box", "disc", "bar", "background"]
    assert [one for one in evaluation["confusion"]["counts"] if one[0] < 3] == [[0, 0, 1], [1, 1, 1]]
    assert {path.name for path in run.iterdir()} == {
        "config.json", "log.jsonl", "curves.png", "classes.png", "confusion.png", "checkpoint-00000080.pt",
        "best.safetensors", "final.safetensors",
    }  # fmt: skip


def fine_tune(drawn, run, *arguments: str):
    fixed = ["--train-json", drawn.annotations, "--train-images", drawn.images, "--run-dir", run, "--workers", 0]
    command = ["train", "--entry", ENTRY, *fixed, "--device", "cpu", "--schedule", "1", "--min-size", 64, *arguments]
    return CliRunner().invoke(cli, [str(part) for part in command], catch_exceptions=False)


def test_fine_tuning_twice_on_ids_with_gaps(tmp_path, small_zoo, drawn, caplog):
    first = tmp_path / "five.safetensors"
    _write_five_classes(first)
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        result = fine_tune(drawn, tmp_path / "first", "--weights", first, "--val-json", drawn.annotations)
    assert result.exit_code == 0
    final = tmp_path / "first" / "final.safetensors"
    assert result.stdout == f"{final}\n"
    (said,) = [record.getMessage() for record in caplog.records if "newly initialised" in record.getMessage()]
    assert "num_classes=3 instead of 5" in said
    assert "box_heads.0.cls_score.weight" in said
    assert "mask_heads.2.mask_logits.bias" in said
    assert "learning rate 0.0025: 0.02 for 16 images per step, here 2" in result.stderr

    model = cascadezoo.load(ENTRY, weights=final)
    assert model.categories == Categories(["box", "disc", "bar"], [3, 7, 40])
    found = model.predict(str(drawn.images / "011.png")).to_coco(11)
    assert {result["category_id"] for result in found} <= {3, 7, 40}

    caplog.clear()
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert fine_tune(drawn, tmp_path / "second", "--weights", final, "--lr", "1e-9").exit_code == 0
    assert "newly initialised" not in caplog.text
    before, metadata = read_canonical(final)
    after, _ = read_canonical(tmp_path / "second" / "final.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert metadata["publisher"] == "mmdet"
    assert metadata["entries"] == ENTRY
    assert metadata["started_from"].startswith("file five.safetensors, sha256 ")
    assert json.loads(metadata["data"])["images"] == 4
    assert json.loads(metadata["recipe"])["solver"]["lr"] == 0.02


def _write_five_classes(path) -> None:
    from cascadezoo.converters.canonical import write_canonical

    torch.manual_seed(1)
    write_canonical(path, build(narrow()).state_dict(), {"publisher": "mmdet", "architecture": "cascade_mask_r50_fpn"})


def test_frozen_layers_stay_when_fine_tuning_and_learn_from_scratch(tmp_path, small_zoo, drawn):
    first = tmp_path / "five.safetensors"
    _write_five_classes(first)
    tuned, scratch = tmp_path / "tuned", tmp_path / "scratch"
    result = fine_tune(drawn, tuned, "--weights", first)
    assert "15 tensors are frozen: in backbone.layer1, backbone.stem" in result.stderr
    before, _ = read_canonical(first)
    after, _ = read_canonical(tuned / "final.safetensors")
    assert torch.equal(before["backbone.stem.0.weight"], after["backbone.stem.0.weight"])
    assert not torch.equal(before["neck.lateral.0.weight"], after["neck.lateral.0.weight"])
    mean = "backbone.layer2.0.conv1.norm.running_mean"
    assert torch.equal(before[mean], after[mean])
    assert "all tensors are trained" in fine_tune(drawn, scratch).stderr
    assert read_canonical(scratch / "final.safetensors")[0][mean].abs().min() > 0  # from the images


def test_loss_that_is_not_finite_stops_the_run(tmp_path, drawn):
    run = tmp_path / "run"
    model, step_two = learner(), {"count": 0}
    head = model.box_heads[1].cls_score

    def poison(module, inputs, output):
        step_two["count"] += 1
        return output * float("nan") if step_two["count"] > 3 else output

    head.register_forward_hook(poison)
    config = TrainingConfig(**options(drawn, run, save_every=2))
    with pytest.raises(TrainingDiverged) as caught:
        cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=4))
    message = str(caught.value)
    assert message.startswith("step 4: loss_classifier_2 is nan")
    assert "on the images with id 1" in message
    assert caught.value.exit_code == 1
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-00000002.pt"]
    saved = torch.load(run / "checkpoint-00000002.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_no_worker_outlives_an_error(tmp_path, drawn):
    model = learner()
    model.neck.register_forward_hook(lambda module, inputs, output: [level * float("nan") for level in output])
    config = TrainingConfig(**options(drawn, tmp_path / "run", workers=1))
    with pytest.raises(TrainingDiverged) as caught:  # which holds the frames of the loop
        cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=4))
    assert caught.traceback
    assert multiprocessing.active_children() == []


def test_gradient_that_is_not_finite_leaves_the_weights(tmp_path, drawn):
    model = learner()
    model.rpn.conv.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="step 1: the gradients' norm is"):
        cascadezoo.train(TrainingConfig(**options(drawn, tmp_path / "run")), model=model, recipe=adamw(1e-3, epochs=1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_average_of_the_weights_is_what_is_written(tmp_path, drawn):
    model = learner()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = adamw(1e-3, epochs=1).model_dump() | {"ema": {"momentum": 1e-9, "warmup": 1e-9}}
    final = cascadezoo.train(
        TrainingConfig(**options(drawn, tmp_path / "run")), model=model, recipe=Recipe.model_validate(recipe)
    )
    written, _ = read_canonical(final)
    name = "neck.lateral.0.weight"
    torch.testing.assert_close(written[name], first[name], rtol=0, atol=1e-8)  # a momentum of almost nothing
    assert not torch.allclose(model.state_dict()[name], first[name], atol=1e-6)


def weights_after(tmp_path, drawn, name: str, **changes) -> dict[str, torch.Tensor]:
    config = TrainingConfig(**options(drawn, tmp_path / name, **changes))
    return read_canonical(cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1)))[0]


def test_accumulated_passes_are_close_to_one_large_pass(tmp_path, drawn):
    # two passes of two images each; the losses' own averages are taken a pass, hence the tolerance
    whole = weights_after(tmp_path, drawn, "whole", batch_size=4, lr=1e-3)
    parts = weights_after(tmp_path, drawn, "parts", batch_size=2, accumulate=2, lr=1e-3)
    name = "box_heads.0.cls_score.weight"
    start = learner().state_dict()[name]
    moved, also = whole[name] - start, parts[name] - start
    assert torch.cosine_similarity(moved.flatten(), also.flatten(), dim=0) > 0.8


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_too(tmp_path, drawn, precision, monkeypatch):
    monkeypatch.setattr(setup, "has_bfloat16", lambda: True)  # any processor can, if slowly
    run = tmp_path / "run"
    config = TrainingConfig(**options(drawn, run, precision=precision, log_every=1))
    final = cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=3))
    steps = log(run, "steps")
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(tensor.dtype == torch.float32 for tensor in read_canonical(final)[0].values())


def test_bf16_is_refused_where_the_processor_has_none(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(setup, "has_bfloat16", lambda: False)
    config = TrainingConfig(**options(drawn, tmp_path / "run", precision="bf16"))
    with pytest.raises(UsageError, match="neither avx512_bf16 nor AMX"):
        cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1))
    assert not (tmp_path / "run").exists()


def test_workers_change_nothing(tmp_path, drawn):
    alone, helped = (weights_after(tmp_path, drawn, f"workers{n}", workers=n) for n in (0, 2))
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_an_earlier_run_is_not_overwritten(tmp_path, drawn, small_zoo):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="pass --resume"):
        cascadezoo.train(TrainingConfig(**options(drawn, run)), model=learner(), recipe=adamw(1e-3, epochs=1))
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    config = TrainingConfig(**options(drawn, run / "notes.txt"))
    with pytest.raises(OutputExists, match="is a file"):
        cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1))


def test_wrong_calls_are_refused_before_anything_is_written(tmp_path, drawn, small_zoo):
    run = tmp_path / "run"

    def attempt(error, match, **changes):
        with pytest.raises(error, match=match):
            cascadezoo.train(TrainingConfig(**options(drawn, run, entry=ENTRY) | changes))

    attempt(UsageError, "name an entry", entry=None)
    attempt(UsageError, r"num_classes 7: .* has 3 categories", num_classes=7)
    attempt(UsageError, "accumulate 3: an epoch of 4 images has fewer passes, 2", accumulate=3)
    attempt(MissingResource, "no folder of images", train_images=tmp_path / "nowhere")
    attempt(MissingResource, "nothing.json", train_json=tmp_path / "nothing.json")
    attempt(MissingResource, "missing.pth is not there", weights=tmp_path / "missing.pth")
    other = draw_set(tmp_path / "other", 1)
    document = json.loads(other.annotations.read_text())
    document["categories"][0]["name"] = "crate"
    other.annotations.write_text(json.dumps(document))
    attempt(FileError, "other categories than", val_json=other.annotations, val_images=other.images)
    assert not run.exists()


def test_t11_options_that_contradict_a_model_or_a_recipe_are_refused_at_once(tmp_path, drawn):
    config = TrainingConfig(**options(drawn, tmp_path / "run", pretrained=True, ema=True, entry=ENTRY))
    words = "pretrained beside a model; ema beside a recipe; entry beside a model and a recipe"
    with pytest.raises(UsageError, match=words):
        cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1))
    assert not (tmp_path / "run").exists()


def test_an_entrys_recipe_follows_the_size_of_the_model_given(tmp_path, drawn, monkeypatch):
    """mmdetection's 3x recipe has shorter sides of 640 to 800 for a network tested at 800; for one tested at 64 …"""
    small = narrow(num_classes=3)
    published = small.model_copy(
        update={"preprocess": small.preprocess.model_copy(update={"min_size": 800, "max_size": 1333})}
    )
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", published)
    assert (small.preprocess.min_size, small.preprocess.max_size) == (64, 96)
    run = tmp_path / "run"
    config = TrainingConfig(**options(drawn, run, entry="cascade_mask_r50_fpn_3x.mmdet", schedule="0.5"))
    cascadezoo.train(config, model=build(small))
    (begun,) = log(run, "begin")
    assert begun["recipe"]["augmentation"]["min_sizes"] == [51, 64]  # 640 * 64 / 800 is 51.2
    assert begun["recipe"]["augmentation"]["max_size"] == 96  # 1333 * 96 / 1333


def test_the_command_says_what_is_missing(tmp_path):
    result = CliRunner().invoke(cli, ["train", "--run-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "Missing option '--entry'" in result.stderr
    assert not any(tmp_path.iterdir())


def test_ctrl_c_between_two_steps_loses_nothing(tmp_path, drawn, capfd):
    whole = weights_after(tmp_path, drawn, "whole", save_every=100)
    model, passes = learner(), {"count": 0}

    def press(*_):
        passes["count"] += 1
        if passes["count"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    model.rpn.register_forward_pre_hook(press)
    model.neck.register_forward_pre_hook(press)
    config = TrainingConfig(**options(drawn, tmp_path / "run", save_every=100))
    with pytest.raises(KeyboardInterrupt):
        cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=1))
    assert capfd.readouterr().err.count("stopping after this step; Ctrl-C once more stops at once") == 1
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000001.pt"]
    final = cascadezoo.train(config, model=learner(seed=9), recipe=adamw(1e-3, epochs=1), resume=True)
    resumed, _ = read_canonical(final)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_stops_an_evaluation_too(tmp_path, drawn):
    config = TrainingConfig(**options(drawn, tmp_path / "run", val_json=drawn.annotations))
    model, predicted = learner(), []

    def press(_, inputs):
        predicted.append(inputs)
        os.kill(os.getpid(), signal.SIGINT)

    model.neck.register_forward_pre_hook(lambda module, x: None if module.training else press(module, x))
    with pytest.raises(KeyboardInterrupt):
        cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=1))
    assert len(predicted) == 1
    assert (tmp_path / "run" / "checkpoint-00000002.pt").exists()  # all steps are done
    cascadezoo.train(config, model=learner(seed=9), recipe=adamw(1e-3, epochs=1), resume=True)
    assert len(log(tmp_path / "run", "evaluation")) == 1


def test_resuming_a_finished_run_changes_nothing(tmp_path, drawn):
    before = weights_after(tmp_path, drawn, "run")
    config = TrainingConfig(**options(drawn, tmp_path / "run"))
    again, _ = read_canonical(
        cascadezoo.train(config, model=learner(seed=9), recipe=adamw(1e-3, epochs=1), resume=True)
    )
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_with_another_seed_it_is_another_run(tmp_path, drawn):
    weights_after(tmp_path, drawn, "run")
    config = TrainingConfig(**options(drawn, tmp_path / "run", seed=4))
    with pytest.raises(UsageError, match="was begun with --seed 0, now it has --seed 4"):
        cascadezoo.train(config, model=learner(), recipe=adamw(1e-3, epochs=1), resume=True)
    assert TrainingConfig.read(tmp_path / "run").seed == 0  # and that one can still go on


DROPPING = [("internimage", "cascade_mask_internimage_l_fpn", 0.4), ("swin", "mask_swin_t_fpn", 0.2)]


@pytest.mark.parametrize(("publisher", "architecture", "published"), DROPPING, ids=["internimage", "swin"])
def test_a_recipe_may_drop_more_paths_than_the_network(
    tmp_path, drawn, publisher: str, architecture: str, published: float
):
    model = build(tiny(architecture, publisher, num_classes=3))
    blocks = [block for stage in model.backbone.stages for block in stage.blocks]
    parts = [index / (len(blocks) - 1) for index in range(len(blocks))]
    assert [block.drop_path.p for block in blocks] == pytest.approx([published * part for part in parts])
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size=1))
    cascadezoo.train(config, model=model, recipe=adamw(1e-3, epochs=0.25, drop_path=0.6))
    assert [block.drop_path.p for block in blocks] == pytest.approx([0.6 * part for part in parts])


def test_paths_are_dropped_whatever_the_network_has_and_only_where_it_has_some():
    model = build(tiny("mask_swin_t_fpn", "swin"))
    for rate in (0.0, 0.3):  # none of a cascade of 1x; then from none
        set_drop_path(model, rate)
        rates = [block.drop_path.p for stage in model.backbone.stages for block in stage.blocks]
        assert rates == pytest.approx([rate * index / 4 for index in range(5)])
    set_drop_path(build(tiny()), 0.0)
    with pytest.raises(UsageError, match=r"drop_path 0\.3: a backbone of kind resnet has no paths to drop"):
        set_drop_path(build(tiny()), 0.3)


@pytest.mark.parametrize("spec", [s for specs in SPECS.values() for s in specs.values()], ids=lambda s: s.backbone.kind)
def test_every_network_can_learn_from_scratch(spec) -> None:
    """What training from random numbers changes is a spec that validates, with nothing frozen."""
    free = all_learning(spec)
    assert ModelSpec.model_validate(free.model_dump()) == free
    if free.backbone.kind == "resnet":
        assert free.backbone.frozen_stages == -1
        assert free.backbone.norm_learning != NormLearning.NOTHING
