"""The recorded cases, and the one way in which each is held against us."""

import collections
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import cascadezoo
from cascadezoo.converters import CONVERTERS

import compare
import procedural

HERE = Path(__file__).parent
# what leaves Python is held by: a cascade, a cascade with masks, a C4 with masks, two of Detectron, an InternImage
SIX = (
    "mmdet/cascade_r50_fpn",
    "mmdet/cascade_mask_r50_fpn",
    "paddle/mask_r50_c4",
    "detectron/cascade_r50_fpn",
    "detectron/mask_r50_fpn",
    "internimage/cascade_mask_internimage_l_fpn",
)
# and, as ONNX, one of each kind of network that came later
LATER = (
    "convnext/mask_convnext_t_fpn",
    "swin/mask_swin_t_fpn",
    "detectron2/cascade_mask_r50_fpn",
    "detectron2/cascade_mask_vitdet_b",
    "mmdet/cascade_r50_dconv_c3c5_fpn",
)

# of a gigabyte and more
HEAVY = ("cascade_mask_vitdet_l", "cascade_mask_vitdet_h", "cascade_mask_swin_l")


def feeds_bgr(provider: str, slug: str) -> bool:
    """Whether the publisher's network takes BGR; a canonical model takes RGB."""
    return (
        provider == "detectron"
        or (provider == "detectron2" and slug.startswith("cascade_mask_r50"))
        or (provider == "mmdet" and ("caffe" in slug or "x101_32x8d" in slug))
    )


class Later:
    """A tensor of a case that is made when it is pickled, as if it had been there."""

    def __init__(self, *row: object) -> None:
        self.row = row

    def __reduce_ex__(self, protocol):
        return procedural.make_tensor(*self.row).__reduce_ex__(protocol)


def write_by_and_by(path: Path, case: dict) -> None:
    """What ``procedural.write_checkpoint`` writes for detectron2, with one tensor in memory at a time."""
    model = collections.OrderedDict((row[0], Later(case["seed"], *row)) for row in case["tensors"])
    model._metadata = collections.OrderedDict({"": {"version": 2}})
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo, which would hold all tensors
        pickler.dump({"model": model, "__author__": "Detectron2 Model Zoo"})


@dataclass(frozen=True)
class Case:
    """One folder: an architecture, an image, and what the publisher's own code found on it."""

    folder: Path

    @staticmethod
    def root() -> Path:
        return HERE

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "case.json").read_text())

    @property
    def image(self) -> Path:
        return HERE / "images" / self.record["image"]

    def convert(self, folder: Path, device: str = "cpu"):
        """Write the checkpoint in the publisher's format, convert it, load the result: (model, report)."""
        case = procedural.load_case(self.folder)
        checkpoint = folder / f"checkpoint{CONVERTERS[case['provider']].suffix}"
        if self.folder.name in HEAVY:
            write_by_and_by(checkpoint, case)
        else:
            procedural.write_checkpoint(checkpoint, case["provider"], procedural.make_tensors(case))
        entry, sizes = case["entries"][0], {k: case[k] for k in ("min_size", "max_size")}
        report = cascadezoo.convert(checkpoint, source=case["provider"], entry=entry, output=folder / "c.safetensors")
        return cascadezoo.load(entry, weights=report.output, device=device, **sizes), report

    def compare(self, detections) -> dict:
        boxes, scores, labels = (x.cpu().numpy() for x in (detections.boxes, detections.scores, detections.labels))
        return compare.compare(compare.load_expected(self.folder), boxes, scores, labels, detections.rles())

    def stages(self, model) -> list[dict]:
        """Where we depart first: network input, each feature level, proposals."""
        batch = model.prepare([model.resize(self.image)])
        features = model.extract(batch.pixels)
        proposals = model.rpn(features, batch.sizes)
        pixels = batch.pixels.cpu().numpy()
        if feeds_bgr(self.record["provider"], self.record["slug"]):
            pixels = pixels[:, ::-1]
        found = proposals.boxes[0, : int(proposals.counts[0])].cpu().numpy()
        expected = compare.load_expected(self.folder)
        return compare.compare_stages(expected, pixels, [f.cpu().numpy() for f in features], found)


def cases(publisher: str) -> list[Case]:
    return [Case(path.parent) for path in sorted((HERE / publisher).glob("*/case.json"))]
