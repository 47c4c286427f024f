"""Detections as what a client asks for: COCO's JSON with run-length encodings or with polygons, or a picture."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascadezoo.coco.annotations import annotation_file
from cascadezoo.detections import Detections
from cascadezoo.image_files import LONGEST_SIDE_OF_JPEG
from cascadezoo.images import Pixels

JSON, PNG, JPEG = "application/json", "image/png", "image/jpeg"
FORMATS = {"coco": JSON, "polygons": JSON, "png": PNG, "jpeg": JPEG}
"""The media type of each format."""

_BY_TYPE = {JSON: "coco", JPEG: "jpeg", PNG: "png"}  # the first of equal weight is taken


@dataclass(frozen=True)
class Asked:
    """What is to be answered.

    Attributes:
        format: a name of ``FORMATS``.
        image_id: of the image in COCO's records.
        file_name: the client's name of the image, if it gave one.
        score: lowest score, 0..1; None: all that was found.
    """

    format: str
    image_id: int = 1
    file_name: str | None = None
    score: float | None = None


def acceptable(accept: str) -> str | None:
    """The format that fits an ``Accept`` header best (RFC 9110, 12.5.1), "" being one that takes anything; None where
    there is none."""
    weights = dict(_ranges(accept or "*/*"))

    def weight(media_type: str) -> float:
        ranges = (media_type, f"{media_type.split('/')[0]}/*", "*/*")
        return next((weights[each] for each in ranges if each in weights), 0)

    best = max(_BY_TYPE, key=weight)
    return _BY_TYPE[best] if weight(best) > 0 else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for each in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in each.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            yield media_range, float(quality)
        except ValueError:
            yield media_range, 0


def refusal(format: str, image: Pixels) -> str | None:
    """Why no answer of this format can be given for an image; None where one can."""
    height, width = image.shape[:2]
    if format != "jpeg" or max(height, width) <= LONGEST_SIDE_OF_JPEG:
        return None
    most = f"{LONGEST_SIDE_OF_JPEG:,}"
    return f"the image has {width} x {height} pixels, and no side of a JPEG more than {most}: ask for format=png"


def answer(detections: Detections, image: Pixels, asked: Asked, description: str) -> bytes:
    """The body of the answer; ``description`` goes into COCO's ``info``."""
    if asked.score is not None:
        detections = detections[detections.scores >= asked.score]
    if FORMATS[asked.format] == JSON:
        return json.dumps(_document(detections, asked, description), allow_nan=False).encode()
    file, picture = io.BytesIO(), detections.plot(image)
    if asked.format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _document(detections: Detections, asked: Asked, description: str) -> dict[str, Any]:
    height, width = detections.image_size
    record: dict[str, Any] = {"id": asked.image_id, "height": height, "width": width}
    if asked.file_name is not None:
        record["file_name"] = asked.file_name
    results = detections.to_coco(asked.image_id, masks="polygon" if asked.format == "polygons" else "rle")
    return annotation_file(detections.categories, [record], results, description)
