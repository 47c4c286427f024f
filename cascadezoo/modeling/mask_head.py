"""The mask head (Mask R-CNN, https://arxiv.org/abs/1703.06870).

Shapes: R detections of all images, C channels, P side of the pooled features, M = 2 * P side of the mask logits.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.spec.model import MaskHeadSpec


class MaskHead(nn.Module):
    """Pooled features (R, C, P, P) to mask logits (R, masks, M, M), one mask per class."""

    def __init__(self, channels: int, masks: int, spec: MaskHeadSpec) -> None:
        super().__init__()
        widths = (channels, *spec.convs)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths))
        self.deconv = nn.ConvTranspose2d(widths[-1], spec.deconv, 2, stride=2)
        self.mask_logits = nn.Conv2d(spec.deconv, masks, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        x = pooled
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)
        x = F.relu(self.deconv(x), inplace=True)
        logits: Tensor = self.mask_logits(x)
        return logits
