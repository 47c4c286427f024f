"""Random initialisation before training from scratch.

Source: mmdetection ``resnet.py``, ``fpn.py``, ``rpn_head.py``, ``convfc_bbox_head.py``, ``fcn_mask_head.py``.
"""

from torch import nn

from cascadezoo.modeling.box_head import BoxHead
from cascadezoo.modeling.fpn import FPN
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.modeling.resnet import ConvNorm, FrozenStatNorm
from cascadezoo.modeling.rpn import RPN


def initialise(model: nn.Module) -> None:
    """Fill every parameter and buffer in place, as the publishers do when no pretrained backbone is given."""
    for module in model.modules():
        match module:
            case ConvNorm():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            case FrozenStatNorm():
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
                nn.init.zeros_(module.running_mean)
                nn.init.ones_(module.running_var)
            case FPN():
                for conv in (*module.lateral, *module.output):
                    nn.init.xavier_uniform_(conv.get_parameter("weight"))
            case RPN():
                for conv in (module.conv, module.objectness, module.deltas):
                    nn.init.normal_(conv.weight, std=0.01)
            case BoxHead():
                for fc in module.fcs:
                    nn.init.xavier_uniform_(fc.get_parameter("weight"))
                nn.init.normal_(module.cls_score.weight, std=0.01)
                nn.init.normal_(module.bbox_pred.weight, std=0.001)
            case MaskHead():
                for conv in (*module.convs, module.deconv, module.mask_logits):
                    nn.init.kaiming_normal_(conv.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
