"""Results in one piece, made of finished parts: read one part at a time, each file written whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from cascadezoo.batch.parts import Part, PartsFolder
from cascadezoo.coco.annotations import annotation_file, annotations
from cascadezoo.coco.categories import Categories
from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file, write_json_stream

_IMAGES = 512  # of a row group of Parquet, which are in memory together
_GROUPS = 16  # of a file


def write_annotation_file(
    path: Path,
    folder: PartsFolder,
    parts: Sequence[Part],
    categories: Categories,
    description: str,
    left_out: Sequence[Mapping[str, str]],
    failed: Sequence[Mapping[str, str]],
) -> None:
    """The COCO annotation file that ``cascadezoo predict`` writes of the same images in one process, byte for byte.

    ``left_out`` and ``failed``: of the arguments; images that failed follow.  Raises UnwritableOutput, CorruptData.
    """

    def images() -> Iterator[dict[str, Any]]:
        for record in _records(folder, parts):
            if "error" not in record:
                size = {"height": record["height"], "width": record["width"]}
                yield {"id": record["image_id"], "file_name": record["file_name"], **size}

    results = (result for record in _records(folder, parts) for result in record.get("detections", ()))
    bad = (
        {"file_name": record["file_name"], "error": record["error"]}
        for record in _records(folder, parts)
        if "error" in record
    )
    members = annotation_file(categories, (), (), description) | {
        "images": images(),
        "annotations": annotations(results),
        "left_out": left_out,
        "failed": chain(failed, bad),
    }
    write_json_stream(path, members)


def write_lines(path: Path, folder: PartsFolder, parts: Sequence[Part]) -> None:
    """A file of JSON lines, one for each image in order, as in the parts.  Raises UnwritableOutput, CorruptData."""
    with whole_file(path) as file:
        for part in parts:
            file.writelines(line for line, _ in folder.read(part))


def write_table(path: Path, folder: PartsFolder, parts: Sequence[Part], categories: Categories) -> None:
    """A folder of Parquet files, one row for each image in order.

    Columns: ``image_id``, ``file_name``, ``height``, ``width``, ``detections`` (a list of records of ``category_id``,
    ``bbox`` [x, y, width, height], ``score`` and ``segmentation``, COCO's RLE), ``error``, ``error_type``.  The
    categories are JSON in the schema's metadata.  Files that an earlier run left there under such names are replaced or
    removed.  Raises UnwritableOutput, CorruptData.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rle = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    detection = [("category_id", pa.int64()), ("bbox", pa.list_(pa.float64())), ("score", pa.float64())]
    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("file_name", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("detections", pa.list_(pa.struct([*detection, ("segmentation", rle)]))),
            ("error", pa.string()),
            ("error_type", pa.string()),
        ],
        metadata={"categories": json.dumps(categories.to_coco())},
    )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be made: {error.strerror or error}") from error
    # Arrow's texts are UTF-8: of a file name that is none, the bytes are shown as escapes
    records = ({**each, "file_name": _plain(each["file_name"])} for each in _records(folder, parts))
    files: set[Path] = set()
    group = list(islice(records, _IMAGES))
    while group:
        file_path = path / f"part-{len(files):05d}.parquet"
        files.add(file_path)
        with whole_file(file_path) as file, pq.ParquetWriter(file, schema) as writer:
            for _ in range(_GROUPS):
                if group:
                    writer.write_table(pa.Table.from_pylist(group, schema))
                    group = list(islice(records, _IMAGES))
    for old in set(path.glob("part-*.parquet")) - files:
        old.unlink()


def _records(folder: PartsFolder, parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    return (record for part in parts for _, record in folder.read(part))


def _plain(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
