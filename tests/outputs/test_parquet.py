"""The table as a Parquet file, read by pyarrow and pandas; ``make test-extras``."""

import json

import pytest
from pycocotools import mask as coco_mask

from cascadezoo.coco.categories import Categories
from cascadezoo.outputs import documents
from cascadezoo.outputs.outputs import Outputs

from painted import CATEGORIES, HEIGHT, WIDTH, masks_of, painted, shown

pytestmark = pytest.mark.integrations
parquet = pytest.importorskip("pyarrow.parquet")
pandas = pytest.importorskip("pandas")


def save(folder, kinds, numbers, with_masks=True):
    with Outputs(kinds, folder, CATEGORIES, has_masks=with_masks) as outputs:
        for number in numbers:
            outputs.add(shown(number, f"i{number}")._replace(name=f"photos/\udcff{number}.jpg"), painted(with_masks))
        return outputs.finish()


def test_it_is_the_table_of_the_csv_file(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_IN_MEMORY", 2)
    csv, path = save(tmp_path, ("parquet", "csv"), (3, 1, 2))
    table = pandas.read_parquet(path)
    assert parquet.ParquetFile(path).metadata.num_row_groups == 2
    pandas.testing.assert_frame_equal(table, pandas.read_csv(csv), check_dtype=False)
    assert table.file_name.tolist()[3:5] == ["photos/\\udcff1.jpg", "photos/\\udcff2.jpg"]
    assert table.score.dtype == table.area.dtype == "float64"
    assert table.image_id.dtype == "int64"
    rle = {"size": [HEIGHT, WIDTH], "counts": table.rle[0]}
    assert coco_mask.area(rle) == table.area[0] == masks_of()[0].sum()


def test_the_categories_are_in_its_metadata_and_no_image_makes_an_empty_table(tmp_path):
    (path,) = save(tmp_path, ("parquet",), ())
    table = parquet.read_table(path)
    assert table.num_rows == 0
    assert Categories.from_json(table.schema.metadata[b"categories"].decode()) == CATEGORIES
    assert json.loads(table.schema.metadata[b"categories"])["ids"] == [3, 7, 40]


def test_without_masks_there_is_no_rle(tmp_path):
    (path,) = save(tmp_path, ("parquet",), (1,), with_masks=False)
    assert parquet.read_table(path).column("rle").null_count == 4
