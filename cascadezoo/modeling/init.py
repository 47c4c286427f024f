"""Random initialisation before training from scratch, as the publishers do it without a pretrained backbone.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``resnet.py``, ``fpn.py``, ``rpn_head.py``,
  ``convfc_bbox_head.py`` and ``fcn_mask_head.py`` under ``mmdet/models``
"""

from typing import Protocol, runtime_checkable

from torch import nn

from cascadezoo.modeling.box_head import BoxHead, StageBoxHead
from cascadezoo.modeling.fpn import FPN
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.modeling.norms import ConvLayerNorm
from cascadezoo.modeling.resnet import AffineNorm, ConvNorm, FrozenStatNorm
from cascadezoo.modeling.rpn import RPN


@runtime_checkable
class Initialised(Protocol):
    """A module of a backbone that has a rule of its own for its direct tensors and layers."""

    def init_weights(self) -> None: ...


def initialise(model: nn.Module) -> None:
    """Fill every parameter and buffer in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.LayerNorm):
            module.reset_parameters()
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        match module:
            case ConvNorm():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            case AffineNorm():
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
                if isinstance(module, FrozenStatNorm):
                    nn.init.zeros_(module.running_mean)
                    nn.init.ones_(module.running_var)
            case FPN():
                for conv in (*module.lateral, *module.output):
                    nn.init.xavier_uniform_(conv.get_parameter("weight"))
            case RPN():
                for conv in (*module.convs, module.objectness, module.deltas):
                    nn.init.normal_(conv.weight, std=0.01)
            case BoxHead() | StageBoxHead():
                for fc in module.fcs if isinstance(module, BoxHead) else ():
                    nn.init.xavier_uniform_(fc.get_parameter("weight"))
                for conv in module.convs if isinstance(module, BoxHead) else ():
                    if isinstance(conv, ConvLayerNorm):
                        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.normal_(module.cls_score.weight, std=0.01)
                nn.init.normal_(module.bbox_pred.weight, std=0.001)
            case Initialised():
                module.init_weights()
            case MaskHead():
                for conv in (*module.convs, module.deconv, module.mask_logits):
                    nn.init.kaiming_normal_(conv.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
