"""What is computed of each entry's network, where the manifest holds what its publisher printed: parameters, size,
work, and the recorded cases that hold the network to the publisher's code.

``zoo_manifest/computed.json`` has it by ``architecture.publisher``; ``python -m
cascadezoo.benchmarks.measure.computed`` writes it anew from the networks and from tests/parity.
Nothing here imports torch.
"""

import json
from functools import cache
from importlib.resources import files

from pydantic import Field

from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.record import Record

FILE = "computed.json"


class ParityCase(Record):
    """One image on which the publisher's own code was run, with reproducible weights; tests hold ours against it."""

    name: str = Field(description="folder under tests/parity")
    peer: str = Field(description="the publisher's program and what it ran with")
    scale: tuple[int, int] = Field(description="shorter side and limit of the longer one, pixels")
    detections: int = Field(ge=0, description="how many it found")


class Computed(Record):
    """One network; operations and tensors are those of the published number of classes."""

    spec: str = Field(description="digest of the spec that this was computed of")
    parameters: int = Field(gt=0, description="numbers that training may change")
    tensor_bytes: int = Field(gt=0, description="bytes of its tensors in float32: a canonical file, less its header")
    input: tuple[int, int] = Field(description="height and width of the padded image that operations are counted on")
    proposals: int = Field(gt=0, description="proposals that operations are counted on, the most it makes")
    detections: int = Field(gt=0, description="detections that operations are counted on, the most it makes")
    flops: dict[str, int] = Field(
        description="by stage: floating-point operations of convolutions and matrix products, two for a multiply-add"
    )
    parity: tuple[ParityCase, ...] = Field(default=(), description="recorded cases of inference")

    @property
    def total_flops(self) -> int:
        """Of all stages."""
        return sum(self.flops.values())


@cache
def load_computed() -> dict[str, Computed]:
    """Every network by ``architecture.publisher``; read once."""
    rows = json.loads(files("cascadezoo.zoo_manifest").joinpath(FILE).read_text("utf-8"))
    return {name: Computed.model_validate(row) for name, row in rows.items()}


def computed(entry: ZooEntry) -> Computed:
    """What is computed of an entry's network, which schedules share."""
    return load_computed()[f"{entry.architecture}.{entry.publisher}"]
