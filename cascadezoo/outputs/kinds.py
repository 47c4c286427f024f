"""The kinds of results that can be written, by name."""

from collections.abc import Collection
from difflib import get_close_matches

from cascadezoo.errors import UsageError

KINDS = {
    "picture": "the image with its detections drawn on it, JPEG",
    "coco": "detections.json, a COCO annotation file",
    "json": "results.json, a list of COCO results",
    "csv": "detections.csv, a row for each detection",
    "parquet": "detections.parquet, the same as a table of Arrow",
    "masks": "an 8-bit PNG for each mask, and a 16-bit PNG that numbers all of an image",
    "cutouts": "an RGBA PNG for each detection: the pixels of its mask alone",
    "crops": "an RGB PNG for each detection: the pixels of its box",
    "yolo": "labels and data.yaml as Ultralytics reads them",
    "labelme": "a JSON file for each image, for LabelMe",
    "labelstudio": "tasks with predictions, for Label Studio",
}
ANNOTATIONS = "detections.json"
DEFAULT = ("picture", "coco")
OF_MASKS = frozenset({"masks", "cutouts"})  # of which nothing is left without masks


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds in a text such as "picture,masks", each once, in the order given.  Raises UsageError."""
    kinds = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    require_kinds(kinds)
    return kinds


def require_kinds(kinds: Collection[str]) -> None:
    """Raise UsageError where one of these is no kind, or where there is none."""
    for name in kinds:
        if name not in KINDS:
            close = get_close_matches(name, KINDS, n=1)
            meant = f"did you mean {close[0]}?  There are " if close else "give "
            raise UsageError(f"{name!r} is no kind of results: {meant}{', '.join(KINDS)}")
    if not kinds:
        raise UsageError(f"no kind of results to save: give {', '.join(KINDS)}")
