"""The mask head (Mask R-CNN, https://arxiv.org/abs/1703.06870).

Shapes: R detections of all images, C channels, P side of the pooled features, M = 2 * P side of the mask logits.
"""

from itertools import pairwise

from torch import Tensor, nn

from cascadezoo.modeling.layers import DeconvReLU
from cascadezoo.modeling.norms import convolution
from cascadezoo.spec.model import MaskHeadSpec


class MaskHead(nn.Module):
    """Pooled features (R, C, P, P) to mask logits (R, masks, M, M), one mask per class."""

    def __init__(self, channels: int, masks: int, spec: MaskHeadSpec) -> None:
        super().__init__()
        widths = (channels, *spec.convs)
        self.convs = nn.ModuleList(convolution(spec.norm, i, o, 3, relu=True) for i, o in pairwise(widths))
        self.deconv = DeconvReLU(widths[-1], spec.deconv, 2, stride=2)
        self.mask_logits = nn.Conv2d(spec.deconv, masks, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        x = pooled
        for conv in self.convs:
            x = conv(x)
        logits: Tensor = self.mask_logits(self.deconv(x))
        return logits

    def of_classes(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """The mask logits (R, M, M) of one class (R,) int64 each."""
        logits: Tensor = self(pooled)
        return logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))[:, 0]
