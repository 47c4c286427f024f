"""One step's losses, from prepared pixels and targets at network scale: the forward pass of training."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cascadezoo.errors import BadTarget
from cascadezoo.losses.cascade_loss import cascade_losses
from cascadezoo.losses.rpn_loss import rpn_losses
from cascadezoo.losses.targets import GivenTargets, Targets, checked_targets
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.rpn import propose
from cascadezoo.ops.roi_align import as_pooled


def losses(
    model: Network,
    batch: Batch,
    targets: Sequence[Targets],
    generators: Sequence[torch.Generator] | None = None,
) -> dict[str, Tensor]:
    """Every loss by name, scalars that are already weighted: training minimises their sum.

    ``generators``: one per image, on the CPU, for the samplers; without them, torch's global generator.

    Names: ``loss_objectness``, ``loss_rpn_box_reg``, then for each stage ``loss_classifier_1``, ``loss_box_reg_1`` and,
    where a mask head learns at that stage, ``loss_mask_1``; a network of one stage has no numbers.
    """
    spec, rule = model.spec, model.spec.objective.rpn
    device = batch.pixels.device
    objects = [target.to(device).single() for target in targets]
    samplers = list(generators) if generators is not None else [None] * len(objects)

    features = [as_pooled(level) for level in model.extract(as_pooled(batch.pixels))]
    anchors, coder = model.rpn.anchors_of(features), spec.conventions.proposals.coder
    head = partial(model.rpn.at, features)
    losses_of_rpn = rpn_losses(head, anchors, batch.resized_sizes, objects, coder, rule, samplers)

    proposing = spec.conventions.proposals.model_copy(
        update={"pre_nms_top_n": rule.pre_nms_top_n, "post_nms_top_n": rule.post_nms_top_n}
    )
    with torch.no_grad():  # after the losses: autocast keeps what it has cast, and what it casts here has no gradients
        outputs, widths = [model.rpn.head(level) for level in features], [level.shape[-1] for level in features]
        proposals = propose(outputs, widths, batch.sizes, model.rpn.anchors, proposing)
    boxes = [b[:n] for b, n in zip(proposals.boxes, proposals.counts.tolist(), strict=True)]
    return losses_of_rpn | cascade_losses(model, features, boxes, batch.sizes, objects, samplers)


def losses_of_images(model: Network, images: Sequence[Tensor], targets: Sequence[GivenTargets]) -> dict[str, Tensor]:
    """torchvision's interface: images (3, H, W) of any sizes, with targets in their own pixels; see ``losses``.

    Raises BadTarget, naming the image and the object.
    """
    if not isinstance(targets, Sequence):
        raise BadTarget(f"targets: give a list of dicts, one per image, not a {type(targets).__name__}")
    if len(images) != len(targets):
        raise BadTarget(f"{len(images)} images with {len(targets)} targets: give one target per image")
    resized = [model.resize(image) for image in images]
    checked = [
        checked_targets(given, image, i, model.spec)
        for i, (given, image) in enumerate(zip(targets, resized, strict=True))
    ]
    return losses(model, model.prepare(resized), checked)
