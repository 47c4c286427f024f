"""Box heads: Fast R-CNN's (https://arxiv.org/abs/1504.08083), one for each stage of a Cascade R-CNN
(https://arxiv.org/abs/1906.09756).

Shapes: R proposals of all images, C channels, P side of the pooled features, B = the number of classes where each has
box deltas of its own, else 1.
"""

from itertools import pairwise

from torch import Tensor, nn

from cascadezoo.modeling.layers import LinearReLU
from cascadezoo.modeling.norms import convolution
from cascadezoo.modeling.resnet import residual_stage
from cascadezoo.spec.model import BoxHeadSpec
from cascadezoo.spec.resnet import ResNetSpec


class BoxHead(nn.Module):
    """Pooled features (R, C, P, P) to class logits (R, classes + 1), background last, and raw deltas (R, B, 4)."""

    def __init__(self, channels: int, num_classes: int, spec: BoxHeadSpec) -> None:
        super().__init__()
        self.resolution = spec.resolution
        channels_in = (channels, *spec.convs)
        self.convs = nn.ModuleList(convolution(spec.norm, i, o, 3, relu=True) for i, o in pairwise(channels_in))
        self.flatten: nn.Module = nn.Flatten()
        widths = (channels_in[-1] * spec.resolution**2, *spec.fcs)
        self.fcs = nn.ModuleList(LinearReLU(i, o) for i, o in pairwise(widths))
        self.cls_score = nn.Linear(widths[-1], num_classes + 1)
        self.bbox_pred = nn.Linear(widths[-1], 4 * num_classes if spec.class_specific else 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        x = pooled
        for conv in self.convs:
            x = conv(x)
        x = self.flatten(x)
        for fc in self.fcs:
            x = fc(x)
        return self.cls_score(x).float(), self.bbox_pred(x).float().unflatten(1, (-1, 4))


class StageBoxHead(nn.Module):
    """The box head of C4: a ResNet's fourth stage and a global average (https://arxiv.org/abs/1506.01497)."""

    def __init__(self, channels: int, num_classes: int, spec: BoxHeadSpec, backbone: ResNetSpec) -> None:
        super().__init__()
        outputs = 2 * channels
        self.layer4 = residual_stage(3, channels, 3, backbone)
        self.cls_score = nn.Linear(outputs, num_classes + 1)
        self.bbox_pred = nn.Linear(outputs, 4 * num_classes if spec.class_specific else 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer4(pooled).mean((2, 3))
        return self.cls_score(x).float(), self.bbox_pred(x).float().unflatten(1, (-1, 4))
