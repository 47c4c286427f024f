"""Parameters, size and work of every network of the zoo: ``python -m cascadezoo.benchmarks.measure.computed``, in the
root of a checkout, writes ``zoo_manifest/computed.json`` (``cascadezoo.computed``).

Operations are counted on tensors without memory (``measure.products``): on a landscape image that fills the publisher's
scale, such as 800 x 1333, padded as its network pads it (to a square, where it does that), with as many proposals and
detections as it makes at most, and with a mask for each class, as published.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from cascadezoo import registry
from cascadezoo.benchmarks.measure.products import count
from cascadezoo.computed import FILE, Computed, ParityCase
from cascadezoo.files import whole_file
from cascadezoo.modeling.build import build
from cascadezoo.modeling.preprocess import padded_size
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

PARITY = Path("tests/parity")
_UNCOUNTED = {"objective"}  # what changes training alone


def digest(spec: ModelSpec) -> str:
    """Of all that parameters and operations depend on."""
    return hashlib.sha256(spec.model_dump_json(exclude=_UNCOUNTED).encode()).hexdigest()[:16]


def padded(spec: ModelSpec) -> tuple[int, int]:
    """Height and width of the network's input for a landscape image that fills its scale."""
    pixels = spec.preprocess
    return padded_size((pixels.min_size, pixels.max_size), pixels)


def compute(spec: ModelSpec, parity: Sequence[ParityCase] = ()) -> Computed:
    """Count a network."""
    size = padded(spec)
    network = build(spec, device="meta")
    return Computed(
        spec=digest(spec),
        parameters=sum(tensor.numel() for tensor in network.parameters()),
        tensor_bytes=4 * sum(tensor.numel() for tensor in network.state_dict().values()),
        input=size,
        proposals=spec.conventions.proposals.post_nms_top_n,
        detections=spec.conventions.selection.detections_per_img,
        flops={stage: sum(work.flops for work in works) for stage, works in count(spec, size).items()},
        parity=tuple(parity),
    )


def parity_cases(folder: Path) -> dict[str, list[ParityCase]]:
    """The recorded cases by ``architecture.publisher``; those of training and of a data set stand elsewhere."""
    found: dict[str, list[ParityCase]] = defaultdict(list)
    for publisher in SPECS:
        for path in sorted((folder / publisher).glob("*/case.json")):
            case = json.loads(path.read_text("utf-8"))
            entry = registry.info(case["entries"][0])
            found[f"{entry.architecture}.{publisher}"].append(
                ParityCase(
                    name=f"{publisher}/{path.parent.name}",
                    peer=case["peer"],
                    scale=(case["min_size"], case["max_size"]),
                    detections=case["num_detections"],
                )
            )
    return found


def text_of(networks: Mapping[str, Computed]) -> str:
    """The file's text."""
    rows = {name: network.model_dump(mode="json") for name, network in networks.items()}
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Count every network and write the file."""
    torch.set_num_threads(1)
    cases = parity_cases(PARITY)
    networks = {}
    for publisher, specs in SPECS.items():
        for architecture in sorted(specs):
            name = f"{architecture}.{publisher}"
            networks[name] = compute(specs[architecture], cases.get(name, ()))
            print(f"{name:50}{networks[name].parameters:12,}{networks[name].total_flops / 1e9:10.1f} GFLOP", flush=True)
    path = Path("zoo_manifest") / FILE
    with whole_file(path) as file:
        file.write(text_of(networks).encode())
    print(f"written to {path}")


if __name__ == "__main__":
    main()
