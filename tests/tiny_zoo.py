"""The command line over a zoo whose cascade_mask_r50_fpn of mmdet is a small network, in a process of its own.

``python tests/tiny_zoo.py train …``, and the same under torchrun.
"""

import torch

from cascadezoo.cli import main
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from tiny import tiny

ENTRY = "cascade_mask_r50_fpn_1x.mmdet"


def narrow(num_classes: int = 5) -> ModelSpec:
    """A cascade mask network of 180 000 parameters."""
    record = tiny(num_classes=num_classes).model_dump()
    record["backbone"]["width"] = 8
    return ModelSpec.model_validate(record)


if __name__ == "__main__":
    torch.set_num_threads(1)
    SPECS["mmdet"]["cascade_mask_r50_fpn"] = narrow()
    main()
