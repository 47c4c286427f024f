"""How the publishers train: publisher -> schedule, or entry with its schedule where that one differs -> recipe.

Sources: mmdetection 3.3.0 ``configs/_base_/schedules`` and ``configs/common/ms-3x_*``; OpenGVLab/InternImage
``detection/configs/coco``; PaddleDetection ``configs/{cascade_rcnn,mask_rcnn}``; Detectron e8942c8 and
zhaoweicai/Detectron-Cascade-RCNN ``configs``; detectron2 02b5c4e ``configs/Misc``, ``config/defaults.py`` and
``projects/ViTDet/configs``; Swin-Transformer-Object-Detection c7b20110 ``configs/swin``; ConvNeXt 048efce
``object_detection``.  Swin, ViTDet and most ConvNeXts were trained in half precision, which is no part of a recipe but
the option ``precision``.
"""

from cascadezoo.spec.recipe import (
    Augmentation,
    Crop,
    Curve,
    EmaRule,
    Exempt,
    Method,
    Recipe,
    ScaleJitter,
    Scales,
    Schedule,
    Solver,
)

_MIRRORED = Augmentation(flip=0.5)
_EVERY_32 = Augmentation(flip=0.5, min_sizes=tuple(range(640, 801, 32)), max_size=1333)
_DETR = Augmentation(  # half of the images are cropped before they are scaled
    flip=0.5,
    min_sizes=tuple(range(480, 801, 32)),
    max_size=1333,
    crop=Crop(min_sizes=(400, 500, 600), max_size=1333, smallest=384, largest=600),
)

# mmdetection; the backbones of its "syncbn" entries also learned their norms' statistics over all GPUs, which no recipe
# here does
_MMDET = Recipe(
    solver=Solver(lr=0.02, batch=16, weight_decay=1e-4),
    schedule=Schedule(epochs=12, milestones=(8, 11)),
    augmentation=_MIRRORED,
)
_MMDET_20E = _MMDET.model_copy(update={"schedule": Schedule(epochs=20, milestones=(16, 19))})
_MMDET_4X = _MMDET.model_copy(  # InstaBoost's, whose pasted copies of objects are not made here
    update={"schedule": Schedule(epochs=48, milestones=(32, 44))}
)
_MMDET_3X = _MMDET.model_copy(
    update={
        "schedule": Schedule(epochs=36, milestones=(27, 33)),  # its 12 epochs go over the data three times each
        "augmentation": Augmentation(flip=0.5, min_sizes=(640, 800), max_size=1333, scales=Scales.RANGE),
    }
)

# nuImages, of 1600 x 900 pixels: scales of 0.8 to 1.2.  The publisher draws the limit of the longer side as well, from
# 1280 to 1920, so that its scale is the lesser of two that are drawn
_NUIMAGES = {"augmentation": Augmentation(flip=0.5, min_sizes=(720, 1080), max_size=1920, scales=Scales.RANGE)}
# ResNet strikes back
_MMDET_RSB = _MMDET.model_copy(
    update={"solver": Solver(method=Method.ADAMW, lr=2e-4, batch=16, weight_decay=0.05, exempt=Exempt.NORMS)}
)

# InternImage: layers that lie deeper than the neck learn more slowly
_INTERNIMAGE = Recipe(
    solver=Solver(method=Method.ADAMW, lr=1e-4, batch=16, weight_decay=0.05, exempt=Exempt.VECTORS, layer_decay=0.94),
    schedule=Schedule(epochs=12, milestones=(8, 11)),
    augmentation=_MIRRORED,
)
_INTERNIMAGE_3X = Recipe(
    solver=_INTERNIMAGE.solver.model_copy(update={"lr": 2e-4, "batch": 64, "layer_decay": 0.90}),
    schedule=Schedule(epochs=36, milestones=(27, 33)),
    augmentation=_DETR,
    ema=EmaRule(momentum=1e-4, warmup=2000),
)
_MASK_INTERNIMAGE = {  # all layers learn alike, for as long as in the cascades
    schedule: recipe.model_copy(
        update={"solver": _INTERNIMAGE.solver.model_copy(update={"layer_decay": 1.0}), "ema": None}
    )
    for schedule, recipe in (("1x", _INTERNIMAGE), ("3x", _INTERNIMAGE_3X))
}

# Swin Transformer: one rate for all layers; the norms of the box heads do decay
_SWIN = Recipe(
    solver=Solver(method=Method.ADAMW, lr=1e-4, batch=16, weight_decay=0.05, exempt=Exempt.BACKBONE_NORMS),
    schedule=Schedule(epochs=12, milestones=(8, 11)),
    augmentation=_DETR,
)
_SWIN_3X = _SWIN.model_copy(update={"schedule": Schedule(epochs=36, milestones=(27, 33))})


# ConvNeXt, its publisher's and mmdetection's
def _convnext(lr: float, layer_decay: float, warmup_steps: int = 500, drop_path: float | None = None) -> Recipe:
    return Recipe(
        solver=Solver(
            method=Method.ADAMW,
            lr=lr,
            batch=16,
            weight_decay=0.05,
            exempt=Exempt.VECTORS,
            layer_decay=layer_decay,
        ),
        schedule=Schedule(epochs=36, milestones=(27, 33), warmup_steps=warmup_steps),
        augmentation=_DETR,
        drop_path=drop_path,
    )


# PaddleDetection
_PADDLE = Recipe(
    solver=Solver(lr=0.01, batch=8, weight_decay=1e-4),
    schedule=Schedule(epochs=12, milestones=(8, 11), warmup_steps=1000, warmup_factor=0.001),
    augmentation=_EVERY_32,
)
_PADDLE_2X = _PADDLE.model_copy(
    update={"schedule": Schedule(epochs=24, milestones=(16, 22), warmup_steps=500, warmup_factor=1 / 3)}
)
_SSLD = _PADDLE.solver.model_copy(update={"stage_lr": (0.05, 0.05, 0.1, 0.15)})  # its pretrained weights move little
_PADDLE_SSLD = _PADDLE.model_copy(update={"solver": _SSLD})
_PADDLE_SSLD_2X = Recipe(
    solver=_SSLD,
    schedule=Schedule(epochs=24, milestones=(12, 22), warmup_steps=1000, warmup_factor=0.1),
    augmentation=_EVERY_32,
)
_SLOW_START = {"warmup_steps": 1000, "warmup_factor": 0.1}
_PADDLE_X101, _PADDLE_X101_2X, _PADDLE_MASK_SSLD = (
    recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update=_SLOW_START)})
    for recipe in (_PADDLE, _PADDLE_2X, _PADDLE_SSLD)
)

# Detectron and detectron2 count steps, of 16 images (ResNeXt: of 8), on COCO's training images that hold objects
_IMAGES = 117_266
_RESNEXT = tuple(
    f"{kind}_x101_{width}_fpn" for kind in ("faster", "cascade", "mask", "cascade_mask") for width in ("64x4d", "32x8d")
)


def _detectron(batch: int, steps: int, milestones: tuple[int, int], augmentation: Augmentation) -> Recipe:
    epoch = _IMAGES / batch
    return Recipe(
        solver=Solver(lr=0.02 * batch / 16, batch=batch, weight_decay=1e-4, exempt=Exempt.BIASES, bias_lr=2.0),
        schedule=Schedule(
            epochs=steps / epoch,
            milestones=tuple(step / epoch for step in milestones),
            warmup_steps=500,
            warmup_factor=1 / 3,
        ),
        augmentation=augmentation,
    )


def _detectron2(steps: int, milestones: tuple[int, int]) -> Recipe:
    solver, epoch = Solver(lr=0.02, batch=16, weight_decay=1e-4), _IMAGES / 16
    schedule = Schedule(
        epochs=steps / epoch,
        milestones=tuple(step / epoch for step in milestones),
        warmup_steps=1000,
        warmup_factor=0.001,
    )
    return Recipe(solver=solver, schedule=schedule, augmentation=_EVERY_32)


def _vitdet(per_cent: int, solver: Solver) -> Recipe:
    """``per_cent``: how long it trains, of 184 375 steps of 64 images, which the publisher calls 100 epochs."""
    epoch = _IMAGES / solver.batch
    steps, *milestones = (number * per_cent // 100 for number in (184_375, 163_889, 177_546))
    schedule = Schedule(
        epochs=steps / epoch,
        milestones=tuple(step / epoch for step in milestones),
        warmup_steps=250 * per_cent // 100,  # a part of the run, as the milestones are
        warmup_factor=0.001,
    )
    return Recipe(solver=solver, schedule=schedule, augmentation=Augmentation(flip=0.5, jitter=ScaleJitter(size=1024)))


def _vit(layer_decay: float, exempt: Exempt) -> Solver:
    return Solver(method=Method.ADAMW, lr=1e-4, batch=64, weight_decay=0.1, exempt=exempt, layer_decay=layer_decay)


# detectron2's Swin Transformers: one rate for all layers
_VITDET_SWIN = _vitdet(
    50, Solver(method=Method.ADAMW, lr=4e-5, batch=64, weight_decay=0.05, exempt=Exempt.BACKBONE_NORMS)
)

# our own entry, from scratch on drawn shapes
_SHAPES = Recipe(
    solver=Solver(method=Method.ADAMW, lr=1e-3, batch=8, weight_decay=0.05, exempt=Exempt.VECTORS),
    schedule=Schedule(epochs=8, curve=Curve.COSINE, gamma=0.01, warmup_steps=200),
    augmentation=_MIRRORED,
    clip=5.0,
)

RECIPES: dict[str, dict[str, Recipe]] = {
    "mmdet": {
        "1x": _MMDET,
        "20e": _MMDET_20E,
        "3x": _MMDET_3X,
        "4x": _MMDET_4X,
        "cascade_mask_r50_fpn_rsb_1x": _MMDET_RSB,
        **{f"cascade_mask_convnext_{size}_fpn_3x": _convnext(2e-4, 0.7, warmup_steps=1000) for size in ("t", "s")},
        **{
            f"cascade_mask_{name}_1x": _MMDET.model_copy(update=_NUIMAGES)
            for name in ("r50_fpn_nuim", "r50_fpn_nuim_coco20e", "r101_fpn_nuim", "x101_32x4d_fpn_nuim")
        },
        "cascade_mask_r50_fpn_nuim_coco20e_20e": _MMDET_20E.model_copy(update=_NUIMAGES),
    },
    "internimage": {
        "1x": _INTERNIMAGE,
        "3x": _INTERNIMAGE_3X,
        "cascade_mask_internimage_xl_fpn_1x": _INTERNIMAGE,
        "cascade_mask_internimage_xl_fpn_3x": _INTERNIMAGE_3X.model_copy(update={"drop_path": 0.6}),
        **{
            f"mask_internimage_{size}_fpn_{schedule}": recipe
            for size in ("t", "s", "b")
            for schedule, recipe in _MASK_INTERNIMAGE.items()
        },
    },
    "paddle": {
        "1x": _PADDLE,
        "2x": _PADDLE_2X,
        **{f"{stem}_r50_vd_ssld_fpn_1x": _PADDLE_SSLD for stem in ("cascade", "cascade_mask")},
        "mask_r50_vd_ssld_fpn_1x": _PADDLE_MASK_SSLD,
        **{f"{stem}_r50_vd_ssld_fpn_2x": _PADDLE_SSLD_2X for stem in ("cascade", "cascade_mask", "mask")},
        "mask_x101_vd_64x4d_fpn_1x": _PADDLE_X101,
        "mask_x101_vd_64x4d_fpn_2x": _PADDLE_X101_2X,
    },
    "detectron": {
        "1x": _detectron(16, 90_000, (60_000, 80_000), _MIRRORED),
        "2x": _detectron(16, 180_000, (120_000, 160_000), _MIRRORED),
        **{f"{stem}_1x": _detectron(8, 180_000, (120_000, 160_000), _MIRRORED) for stem in _RESNEXT},
        **{f"{stem}_2x": _detectron(8, 360_000, (240_000, 320_000), _MIRRORED) for stem in _RESNEXT},
        "s1x": _detectron(8, 260_000, (200_000, 240_000), _EVERY_32),
    },
    "detectron2": {
        "1x": _detectron2(90_000, (60_000, 80_000)),
        "3x": _detectron2(270_000, (210_000, 250_000)),
        "cascade_mask_swin_b_50ep": _VITDET_SWIN,
        "cascade_mask_swin_l_50ep": _VITDET_SWIN,
        "cascade_mask_vitdet_b_100ep": _vitdet(100, _vit(0.7, Exempt.BACKBONE_NORMS)),
        "cascade_mask_vitdet_l_100ep": _vitdet(100, _vit(0.8, Exempt.BACKBONE_NORMS)),
        "cascade_mask_vitdet_h_75ep": _vitdet(75, _vit(0.9, Exempt.NOTHING)),
    },
    "swin": {
        "1x": _SWIN,
        "3x": _SWIN_3X,
        # T drops fewer paths in its short schedule, in a cascade none
        **{f"mask_swin_t_{kind}fpn_1x": _SWIN.model_copy(update={"drop_path": 0.1}) for kind in ("", "moby_")},
        **{f"cascade_mask_swin_t_{kind}fpn_1x": _SWIN.model_copy(update={"drop_path": 0.0}) for kind in ("", "moby_")},
        **{f"{stem}_swin_t_{kind}fpn_3x": _SWIN_3X for stem in ("mask", "cascade_mask") for kind in ("", "moby_")},
    },
    "convnext": {
        "mask_convnext_t_fpn_3x": _convnext(1e-4, 0.95),
        "cascade_mask_convnext_t_fpn_3x": _convnext(2e-4, 0.7),
        "cascade_mask_convnext_s_fpn_3x": _convnext(2e-4, 0.7),
        "cascade_mask_convnext_b_fpn_3x": _convnext(2e-4, 0.8),
        "cascade_mask_convnext_b_22k_fpn_3x": _convnext(1e-4, 0.8, drop_path=0.6),
        "cascade_mask_convnext_l_22k_fpn_3x": _convnext(1e-4, 0.7),
        "cascade_mask_convnext_xl_22k_fpn_3x": _convnext(1e-4, 0.7),
    },
    "cascadezoo": {"shapes": _SHAPES},
}
