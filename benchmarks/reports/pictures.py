"""The images with the most mistakes, from the folder of an analysis, as pictures that lie inside a page."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cascadezoo.benchmarks.reports.rows import counted, evaluation_name
from cascadezoo.benchmarks.reports.schema import Report
from cascadezoo.errors import FileError
from cascadezoo.manifest import load_manifest

MOST = 3  # of an evaluation
_WIDTH = 1000  # pixels
_QUALITY = 78


class Picture(NamedTuple):
    """One image, annotated at the left and detected at the right; ``source`` is its address, all of it."""

    entry: str
    title: str
    words: str
    source: str


def worst_pictures(analysis: Path, report: Report) -> Iterator[Picture]:
    """Of each evaluation in a report, as far as its images were drawn; by masks where there are any.

    Args:
        analysis: as ``verify --analysis`` wrote it: ``<entry>/<plain or tta>/<bbox or segm>/worst/1.png`` ….

    Raises FileError for what is there and no picture.
    """
    ours = {entry.name for entries in load_manifest().values() for entry in entries}
    for entry in report.entries:
        for part in entry.accuracy if entry.name in ours else ():  # a name may be anything in somebody's report
            folder = analysis / entry.name / ("tta" if part.tta else "plain")
            kind = next((name for name in ("segm", "bbox") if (folder / name / "worst").is_dir()), None)
            if kind is None:
                continue
            told = json.loads((folder / kind / "worst.json").read_text("utf-8"))
            for number, one in enumerate(told[:MOST], start=1):
                words = ", ".join(
                    f"{one[name]} {label}"
                    for name, label in (("missed", "missed"), ("spurious", "of nothing"), ("mistaken", "mistaken"))
                )
                title = f"{entry.name}, {evaluation_name(part)}, image {one['image_id']}"
                mistakes = counted(one["mistakes"], "mistake")
                source = _embedded(folder / kind / "worst" / f"{number}.png")
                yield Picture(entry.name, title, f"{mistakes}: {words}", source)


def _embedded(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(f"{path} is no picture of an analysis: make the analysis again") from error
    small.thumbnail((_WIDTH, _WIDTH))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
