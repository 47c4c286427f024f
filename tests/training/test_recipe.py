"""Recipes: every entry has one, with the numbers its publisher's configuration prints."""

import pytest
from pydantic import ValidationError

from cascadezoo import registry
from cascadezoo.errors import CorruptCheckpoint, MissingResource, UsageError
from cascadezoo.spec.model import PreprocessSpec
from cascadezoo.spec.recipe import (
    Augmentation,
    Crop,
    EmaRule,
    Exempt,
    Method,
    Recipe,
    ScaleJitter,
    Scales,
    Schedule,
    Solver,
)
from cascadezoo.training.config import TrainingConfig, recipe_of

PUBLISHED = PreprocessSpec(min_size=800, max_size=1333, mean=(0, 0, 0), std=(1, 1, 1), size_divisor=32)


def of(name: str, schedule: str | None = None) -> Recipe:
    return recipe_of(registry.info(name), schedule)


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda entry: entry.name)
def test_every_entry_has_a_recipe(entry):
    recipe = recipe_of(entry)
    if entry.epochs is not None:
        # detectron2 counts steps, and calls its epochs those of 118 000 images, where COCO has 117 266 with objects
        epochs = entry.epochs * 118_000 / 117_266 if entry.publisher == "detectron2" else entry.epochs
        assert recipe.schedule.epochs == pytest.approx(epochs, rel=1e-5)


def test_mmdet_three_times_is_multi_scale():
    recipe = of("cascade_mask_r50_fpn_3x.mmdet")
    assert recipe.schedule.milestones == (27, 33)
    assert recipe.augmentation == Augmentation(
        flip=0.5, min_sizes=(640, 800), max_size=1333, scales=Scales.RANGE
    )  # between 1333x640 and 1333x800
    assert (recipe.solver.lr, recipe.solver.batch) == (0.02, 16)
    assert of("cascade_r50_fpn_20e.mmdet").schedule.milestones == (16, 19)


def test_internimage_learns_deep_layers_more_slowly_the_longer_it_trains():
    short, long = of("cascade_mask_internimage_l_fpn_1x"), of("cascade_mask_internimage_l_fpn_3x")
    assert (short.solver.lr, short.solver.batch, short.solver.layer_decay, short.ema) == (1e-4, 16, 0.94, None)
    assert (long.solver.lr, long.solver.batch, long.solver.layer_decay) == (2e-4, 64, 0.90)
    assert long.ema == EmaRule(momentum=1e-4, warmup=2000)
    assert long.augmentation.crop == Crop(min_sizes=(400, 500, 600), max_size=1333, smallest=384, largest=600)
    assert long.drop_path is None  # 0.4, as the network has it
    assert of("cascade_mask_internimage_xl_fpn_3x").drop_path == 0.6
    assert all(r.solver.method is Method.ADAMW and r.solver.exempt is Exempt.VECTORS for r in (short, long))


def test_internimage_with_one_head_learns_all_layers_alike_without_an_average():
    for size in ("t", "s", "b"):
        short, long = (of(f"mask_internimage_{size}_fpn_{schedule}") for schedule in ("1x", "3x"))
        assert short.solver == long.solver
        assert (long.solver.lr, long.solver.batch, long.solver.layer_decay, long.solver.weight_decay) == (
            1e-4, 16, 1.0, 0.05,
        )  # fmt: skip
        assert (long.ema, long.drop_path) == (None, None)
        assert (short.schedule.milestones, long.schedule.milestones) == ((8, 11), (27, 33))
        assert short.augmentation.crop is None
        assert long.augmentation == of("cascade_mask_internimage_l_fpn_3x").augmentation


def test_mmdet_rows_that_differ_by_their_training_alone():
    boosted, again = of("cascade_mask_r50_fpn_instaboost_4x"), of("cascade_mask_r50_fpn_rsb_1x")
    assert (boosted.schedule.epochs, boosted.schedule.milestones) == (48, (32, 44))
    assert boosted.solver == of("cascade_mask_r50_fpn_1x.mmdet").solver
    assert again.solver == Solver(method=Method.ADAMW, lr=2e-4, batch=16, weight_decay=0.05, exempt=Exempt.NORMS)
    assert again.schedule == of("cascade_mask_r50_fpn_1x.mmdet").schedule
    assert of("cascade_mask_x101_32x4d_fpn_syncbn_1x") == of("cascade_mask_x101_32x4d_fpn_1x.mmdet")


def test_paddle_ssld_entries_hold_their_backbone_back():
    plain, ssld = of("cascade_mask_r50_fpn_1x.paddle"), of("cascade_mask_r50_vd_ssld_fpn_2x")
    assert (plain.solver.stage_lr, plain.schedule.warmup_steps, plain.schedule.warmup_factor) == ((), 1000, 0.001)
    assert ssld.solver.stage_lr == (0.05, 0.05, 0.1, 0.15)
    assert (ssld.schedule.milestones, ssld.schedule.warmup_factor) == ((12, 22), 0.1)
    one_head = [of(f"mask_r50_vd_ssld_fpn_{schedule}") for schedule in ("1x", "2x")]
    assert [recipe.schedule.milestones for recipe in one_head] == [(8, 11), (12, 22)]
    assert {(recipe.solver.stage_lr, recipe.schedule.warmup_factor) for recipe in one_head} == {
        ((0.05, 0.05, 0.1, 0.15), 0.1)
    }
    assert of("mask_x101_vd_64x4d_fpn_2x").schedule.milestones == (16, 22)
    assert of("mask_x101_vd_64x4d_fpn_2x").schedule.warmup_factor == 0.1


def test_detectron_counts_steps():
    recipe = of("cascade_r50_fpn_1x.detectron")
    # 90 000 steps of 16 images, of 117 266 that hold objects
    assert recipe.schedule.epochs == pytest.approx(90_000 * 16 / 117_266)
    assert recipe.schedule.milestones[0] / recipe.schedule.epochs == pytest.approx(60 / 90)
    wide = of("mask_x101_64x4d_fpn_1x.detectron")  # as long, at 8 images a step
    assert (wide.solver.lr, wide.solver.batch) == (0.01, 8)
    assert wide.schedule == recipe.schedule
    long = of("cascade_mask_x152_32x8d_in5k_fpn_s1x")
    assert (long.solver.lr, long.solver.batch) == (0.01, 8)
    assert long.schedule.epochs == pytest.approx(260_000 * 8 / 117_266)
    assert long.augmentation.min_sizes == (640, 672, 704, 736, 768, 800)


def test_detectron2_counts_steps_too():
    short, long = (of(f"cascade_mask_r50_fpn_{schedule}.detectron2") for schedule in ("1x", "3x"))
    assert short.solver == long.solver == Solver(lr=0.02, batch=16, weight_decay=1e-4)  # of biases as well
    assert short.augmentation == long.augmentation
    assert short.augmentation.min_sizes == (640, 672, 704, 736, 768, 800)
    for recipe, steps, milestones in ((short, 90_000, (60_000, 80_000)), (long, 270_000, (210_000, 250_000))):
        assert recipe.schedule.epochs == pytest.approx(steps * 16 / 117_266)
        assert recipe.schedule.milestones == pytest.approx([step * 16 / 117_266 for step in milestones])
        assert (recipe.schedule.warmup_steps, recipe.schedule.warmup_factor) == (1000, 0.001)


DETR = Augmentation(
    flip=0.5,
    min_sizes=(480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
    max_size=1333,
    crop=Crop(min_sizes=(400, 500, 600), max_size=1333, smallest=384, largest=600, probability=0.5),
)


def own_drop_path(name: str) -> float:
    """The rate that training takes: the recipe's, or without one the network's own."""
    entry = registry.info(name)
    rate = recipe_of(entry).drop_path
    return registry.spec_of(entry).backbone.drop_path if rate is None else rate


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "drop_path"),
    [
        ("mask_swin_t_fpn_1x", 12, (8, 11), 0.1),
        ("mask_swin_t_fpn_3x", 36, (27, 33), 0.2),
        ("mask_swin_s_fpn_3x", 36, (27, 33), 0.2),
        ("cascade_mask_swin_t_fpn_1x", 12, (8, 11), 0.0),
        ("cascade_mask_swin_t_fpn_3x", 36, (27, 33), 0.2),
        ("cascade_mask_swin_s_fpn_3x", 36, (27, 33), 0.2),
        ("cascade_mask_swin_b_fpn_3x", 36, (27, 33), 0.3),
        ("mask_swin_t_moby_fpn_1x", 12, (8, 11), 0.1),
        ("mask_swin_t_moby_fpn_3x", 36, (27, 33), 0.2),
        ("cascade_mask_swin_t_moby_fpn_1x", 12, (8, 11), 0.0),
        ("cascade_mask_swin_t_moby_fpn_3x", 36, (27, 33), 0.2),
    ],
)
def test_swin(name, epochs, milestones, drop_path):
    recipe = of(f"{name}.swin")
    assert recipe.schedule == Schedule(epochs=epochs, milestones=milestones, warmup_steps=500, warmup_factor=0.001)
    assert recipe.solver == Solver(
        method=Method.ADAMW, lr=1e-4, batch=16, weight_decay=0.05, exempt=Exempt.BACKBONE_NORMS, layer_decay=1.0
    )
    assert recipe.augmentation == DETR
    assert (recipe.clip, recipe.ema, own_drop_path(f"{name}.swin")) == (None, None, drop_path)


@pytest.mark.parametrize(
    ("name", "lr", "layer_decay", "drop_path", "warmup"),
    [
        ("mask_convnext_t_fpn_3x.convnext", 1e-4, 0.95, 0.4, 500),
        ("cascade_mask_convnext_t_fpn_3x.convnext", 2e-4, 0.7, 0.4, 500),
        ("cascade_mask_convnext_s_fpn_3x.convnext", 2e-4, 0.7, 0.6, 500),
        ("cascade_mask_convnext_b_fpn_3x.convnext", 2e-4, 0.8, 0.7, 500),
        ("cascade_mask_convnext_b_22k_fpn_3x.convnext", 1e-4, 0.8, 0.6, 500),
        ("cascade_mask_convnext_l_22k_fpn_3x.convnext", 1e-4, 0.7, 0.7, 500),
        ("cascade_mask_convnext_xl_22k_fpn_3x.convnext", 1e-4, 0.7, 0.8, 500),
        ("cascade_mask_convnext_t_fpn_3x.mmdet", 2e-4, 0.7, 0.4, 1000),
        ("cascade_mask_convnext_s_fpn_3x.mmdet", 2e-4, 0.7, 0.6, 1000),
    ],
)
def test_convnext(name, lr, layer_decay, drop_path, warmup):
    recipe = of(name)
    assert recipe.schedule == Schedule(epochs=36, milestones=(27, 33), warmup_steps=warmup, warmup_factor=0.001)
    assert recipe.solver == Solver(
        method=Method.ADAMW, lr=lr, batch=16, weight_decay=0.05, exempt=Exempt.VECTORS, layer_decay=layer_decay
    )
    assert recipe.augmentation == DETR
    assert (recipe.clip, recipe.ema, own_drop_path(name)) == (None, None, drop_path)


@pytest.mark.parametrize(
    ("name", "steps", "milestones", "warmup", "solver", "drop_path"),
    [
        # lr, decay of weights, what is exempt, decay by layer
        ("vitdet_b_100ep", 184_375, (163_889, 177_546), 250, (1e-4, 0.1, Exempt.BACKBONE_NORMS, 0.7), 0.1),
        ("vitdet_l_100ep", 184_375, (163_889, 177_546), 250, (1e-4, 0.1, Exempt.BACKBONE_NORMS, 0.8), 0.4),
        ("vitdet_h_75ep", 138_281, (122_916, 133_159), 187, (1e-4, 0.1, Exempt.NOTHING, 0.9), 0.5),
        ("swin_b_50ep", 92_187, (81_944, 88_773), 125, (4e-5, 0.05, Exempt.BACKBONE_NORMS, 1.0), 0.4),
        ("swin_l_50ep", 92_187, (81_944, 88_773), 125, (4e-5, 0.05, Exempt.BACKBONE_NORMS, 1.0), 0.4),
    ],
)
def test_vitdet(name, steps, milestones, warmup, solver, drop_path):
    entry = f"cascade_mask_{name}.detectron2"
    recipe, epoch = of(entry), 117_266 / 64
    assert recipe.schedule.epochs == pytest.approx(steps / epoch)
    assert recipe.schedule.milestones == pytest.approx([step / epoch for step in milestones])
    assert (recipe.schedule.warmup_steps, recipe.schedule.warmup_factor) == (warmup, 0.001)
    lr, weight_decay, exempt, layer_decay = solver
    assert recipe.solver == Solver(
        method=Method.ADAMW, lr=lr, batch=64, weight_decay=weight_decay, exempt=exempt, layer_decay=layer_decay
    )
    assert recipe.augmentation == Augmentation(flip=0.5, jitter=ScaleJitter(size=1024, smallest=0.1, largest=2.0))
    assert (recipe.clip, recipe.ema, own_drop_path(entry)) == (None, None, drop_path)


def test_a_schedule_of_other_networks_is_refused():
    """detectron2's 3x is SGD's; an entry that has a recipe of its own has no other, unless that is its own too."""
    with pytest.raises(UsageError, match="detectron2 has no schedule '3x': choose one of 100ep, or give a number"):
        of("cascade_mask_vitdet_b_100ep", "3x")
    with pytest.raises(UsageError, match="mmdet has no schedule '1x': choose one of 3x, or"):
        of("cascade_mask_convnext_t_fpn_3x.mmdet", "1x")
    assert of("cascade_mask_swin_t_fpn_3x.swin", "1x").drop_path == 0.0
    assert of("cascade_mask_internimage_xl_fpn_3x", "1x") == of("cascade_mask_internimage_xl_fpn_1x")
    assert of("cascade_mask_vitdet_b_100ep", "10").schedule.milestones == pytest.approx(
        [10 * 163_889 / 184_375, 10 * 177_546 / 184_375]
    )


def test_another_schedule_of_the_publisher_or_a_number_of_epochs():
    assert of("cascade_r50_fpn_1x.mmdet", "20e").schedule.epochs == 20
    assert of("cascade_mask_r50_vd_ssld_fpn_1x", "2x").schedule.milestones == (12, 22)
    stretched = of("cascade_r50_fpn_1x.mmdet", "6").schedule
    assert (stretched.epochs, stretched.milestones) == (6, (4, 5.5))
    with pytest.raises(UsageError, match="paddle has no schedule '20e': choose one of 1x, 2x, or give a number"):
        of("cascade_r50_fpn_1x.paddle", "20e")
    with pytest.raises(UsageError, match="positive number of epochs"):
        of("cascade_r50_fpn_1x.mmdet", "-3")


def test_schedules_that_make_no_sense_are_refused():
    with pytest.raises(ValidationError, match="in order"):
        Schedule(epochs=12, milestones=(11, 8))
    with pytest.raises(ValidationError, match="within 12 epochs"):
        Schedule(epochs=12, milestones=(8, 12))


RECIPE = Recipe(
    solver=Solver(lr=0.02, batch=16, weight_decay=0),
    schedule=Schedule(epochs=12),
    augmentation=Augmentation(
        min_sizes=(480, 800), max_size=1333, crop=Crop(min_sizes=(400,), max_size=4000, smallest=384, largest=600)
    ),
    clip=5.0,
)


def test_options_change_the_recipe(tmp_path):
    def adjusted(own=PUBLISHED, **options):
        config = TrainingConfig(train_json=tmp_path, train_images=tmp_path, run_dir=tmp_path, **options)
        return config.adjust(RECIPE, PUBLISHED, own)

    assert adjusted() == RECIPE
    assert adjusted(clip_grad=0).clip is None
    assert adjusted(clip_grad=35).clip == 35
    assert adjusted(ema=True).ema == EmaRule()
    jittered = RECIPE.model_copy(update={"augmentation": Augmentation(jitter=ScaleJitter(size=1024, largest=1.5))})
    square, half = (PUBLISHED.model_copy(update={"min_size": s, "max_size": s}) for s in (1024, 512))
    config = TrainingConfig(train_json=tmp_path, train_images=tmp_path, run_dir=tmp_path)
    assert config.adjust(jittered, square, half).augmentation.jitter == ScaleJitter(size=512, largest=1.5)
    small = adjusted(PUBLISHED.model_copy(update={"min_size": 400, "max_size": 600})).augmentation
    assert (small.min_sizes, small.max_size) == ((240, 400), 600)  # 1333 * 600 / 1333
    assert small.crop == Crop(min_sizes=(200,), max_size=round(4000 * 600 / 1333), smallest=192, largest=300)


def test_options_are_checked_and_kept(tmp_path):
    options = {"train_json": tmp_path, "train_images": tmp_path, "run_dir": tmp_path}
    with pytest.raises(UsageError, match="batch_size: a number of images, 1 or more, or auto is wanted, not 0"):
        TrainingConfig.of(**options, batch_size=0)
    with pytest.raises(UsageError, match="either pretrained or weights"):
        TrainingConfig.of(**options, pretrained=True, weights=tmp_path)
    with pytest.raises(UsageError, match="val_images without val_json"):
        TrainingConfig.of(**options, val_images=tmp_path)
    with pytest.raises(MissingResource, match="holds no run to resume"):
        TrainingConfig.read(tmp_path)
    config = TrainingConfig.of(**options, seed=7, lr=None)
    config.write()
    assert TrainingConfig.read(tmp_path) == config
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match="no record of a run"):
        TrainingConfig.read(tmp_path)


def contradictions(tmp_path, *, model: bool, recipe: bool, **options) -> str:
    config = TrainingConfig(train_json=tmp_path, train_images=tmp_path, run_dir=tmp_path, **options)
    with pytest.raises(UsageError) as caught:
        config.require_agreement(model=model, recipe=recipe)
    return str(caught.value)


MODELS_OWN = {"pretrained": True, "weights": "a.pth", "num_classes": 3, "min_size": 64, "max_size": 96}
RECIPES_OWN = {"schedule": "2x", "ema": False, "clip_grad": 0}


@pytest.mark.parametrize("name", MODELS_OWN)
def test_an_option_that_makes_the_model_contradicts_a_model(tmp_path, name):
    text = contradictions(tmp_path, model=True, recipe=False, **{name: MODELS_OWN[name]})
    assert text.startswith(f"options that contradict what is given with them: {name} beside a model. Leave them out")


@pytest.mark.parametrize("name", RECIPES_OWN)
def test_an_option_that_makes_the_recipe_contradicts_a_recipe(tmp_path, name):
    text = contradictions(tmp_path, model=False, recipe=True, **{name: RECIPES_OWN[name]})
    assert f": {name} beside a recipe. " in text


def test_contradictions_are_named_together(tmp_path):
    own = {**MODELS_OWN, **RECIPES_OWN, "entry": "cascade_r50_fpn_1x.mmdet"}
    del own["pretrained"]
    text = contradictions(tmp_path, model=True, recipe=True, **own)
    assert "weights, num_classes, min_size, max_size beside a model; schedule, ema, clip_grad beside a recipe; " in text
    assert "entry beside a model and a recipe. " in text


def test_options_that_still_have_a_use_contradict_nothing(tmp_path):
    def check(*, model: bool, recipe: bool, **options):
        config = TrainingConfig(train_json=tmp_path, train_images=tmp_path, run_dir=tmp_path, **options)
        config.require_agreement(model=model, recipe=recipe)

    entry = "cascade_r50_fpn_1x.mmdet"
    check(model=True, recipe=False, entry=entry, **RECIPES_OWN)  # the entry's recipe
    own = {name: value for name, value in MODELS_OWN.items() if name != "weights"}
    check(model=False, recipe=True, entry=entry, **own)  # the entry's network
    check(model=True, recipe=True, lr=0.1, batch_size=4, keep_empty=True, precision="bf16", seed=3, eval_every=2)
