"""The box head of one cascade stage (Cascade R-CNN, https://arxiv.org/abs/1906.09756)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.spec import BoxHeadSpec


class BoxHead(nn.Module):
    """Pooled features (R, C, P, P) to class logits (R, classes + 1), background last, and raw deltas (R, 4)."""

    def __init__(self, channels: int, num_classes: int, spec: BoxHeadSpec) -> None:
        super().__init__()
        widths = (channels * spec.resolution**2, *spec.fcs)
        self.fcs = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.cls_score = nn.Linear(widths[-1], num_classes + 1)
        self.bbox_pred = nn.Linear(widths[-1], 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        x = pooled.flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x), inplace=True)
        return self.cls_score(x).float(), self.bbox_pred(x).float()
