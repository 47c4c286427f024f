"""Kinds that are one file of all images, in the order of their ids: COCO's documents and tables.

Each is written from records of one image: ``image`` (COCO's record of it) and ``results`` (COCO's).  They are read one
image at a time, and each file appears whole or not at all.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from cascadezoo.coco.annotations import annotation_file, annotations
from cascadezoo.coco.categories import Categories
from cascadezoo.errors import MissingResource
from cascadezoo.files import whole_file, write_json_stream

Records = Iterable[Mapping[str, Any]]

_IN_MEMORY = 512  # images of a row group of Parquet


def write_annotations(
    path: Path, records: Records, categories: Categories, description: str, more: Mapping[str, Any]
) -> Path:
    """A COCO annotation file (``cascadezoo.coco.annotations``); ``more``: further members of it."""
    document = annotation_file(categories, (), (), description) | {
        "images": (record["image"] for record in records),
        "annotations": annotations(result for record in records for result in record["results"]),
    }
    return write_json_stream(path, {**document, **more})


def write_results(path: Path, records: Records) -> Path:
    """A list of COCO results, as evaluators take it."""
    return write_json_stream(path, (result for record in records for result in record["results"]))


def write_csv(path: Path, records: Records, categories: Categories) -> Path:
    """A table in UTF-8, a row for each detection; the first has the columns' names."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    with whole_file(path) as file:
        for record in records:
            table.writerows(_rows(record, categories))
            file.write(text.getvalue().encode(errors="backslashreplace"))
            text.seek(0)
            text.truncate()
        file.write(text.getvalue().encode())
    return path


def require_arrow() -> None:
    """Raise MissingResource where pyarrow, an optional library, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingResource(f"Parquet files need pyarrow ({error}): pip install pyarrow") from error


def write_parquet(path: Path, records: Records, categories: Categories) -> Path:
    """The same table as a Parquet file; the categories are JSON in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {int: pa.int64(), str: pa.string(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in _COLUMNS.items()])
    schema = schema.with_metadata({"categories": categories.to_json()})
    left = iter(records)
    with whole_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        while some := list(islice(left, _IN_MEMORY)):
            rows = [row for record in some for row in _rows(record, categories)]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return path


_COLUMNS = {
    "image_id": int,
    "file_name": str,
    "height": int,
    "width": int,
    "name": str,
    "label": int,
    "category_id": int,
    "score": float,
    "x1": float,
    "y1": float,
    "x2": float,
    "y2": float,
    "area": float,
    "rle": str,
}


def _rows(record: Mapping[str, Any], categories: Categories) -> Iterator[dict[str, Any]]:
    labels = {number: label for label, number in enumerate(categories.ids)}
    image = record["image"]
    for each in annotations(record["results"]):
        x, y, w, h = each["bbox"]
        yield {
            "image_id": image["id"],
            "file_name": image["file_name"].encode(errors="backslashreplace").decode(),  # both tables are UTF-8
            "height": image["height"],
            "width": image["width"],
            "name": categories[labels[each["category_id"]]],
            "label": labels[each["category_id"]],
            "category_id": each["category_id"],
            "score": each["score"],
            "x1": x,
            "y1": y,
            "x2": x + w,
            "y2": y + h,
            "area": each["area"],
            "rle": each["segmentation"]["counts"] if "segmentation" in each else None,
        }
