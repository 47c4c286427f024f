"""What the export of a whole detector wrote: a frozen record, printed as JSON by ``--json``."""

import json
from pathlib import Path

from pydantic import Field

from cascadezoo.spec.record import Record


class GraphReport(Record):
    """What an export read, wrote and compared."""

    entry: str | None = Field(description="the entry's full name; null for a network that no entry has")
    format: str = Field(description="the format that was written")
    output: Path = Field(description="the file, or the folder, that was written")
    output_sha256: str = Field(description="its SHA-256; of the largest file where there are several")
    precision: str = Field(description="fp32, fp16 (of the weights) or int8")
    images: int = Field(description="images on which its detections were compared with PyTorch's")
    detections: int = Field(description="PyTorch's detections on them")
    box_difference: float = Field(description="the largest difference of a coordinate, pixels of the original image")
    score_difference: float = Field(description="the largest difference of a score")
    mask_iou: float | None = Field(description="the least IoU of a detection's masks; null without masks")
    notes: tuple[str, ...] = Field(default=(), description="what else there is to know about the file")

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2)
