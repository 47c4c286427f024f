"""pandas and pyarrow, the real packages: `Detections.to_pandas`; ``make test-extras``."""

import numpy as np
import pytest
import torch

from cascadezoo.coco.categories import COCO
from cascadezoo.detections import Detections

pytestmark = pytest.mark.integrations
pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def found(masks: bool = True) -> Detections:
    return Detections(
        boxes=torch.tensor([[1.0, 2.0, 11.0, 12.5], [0.0, 0.0, 30.0, 20.0]]),
        scores=torch.tensor([0.9, 0.75]),
        labels=torch.tensor([COCO.index("dog"), COCO.index("person")]),
        image_size=(20, 30),
        mask_probs=torch.ones(2, 28, 28) if masks else None,
    )


def test_a_row_for_each_detection() -> None:
    table = found().to_pandas()
    assert list(table.columns) == ["name", "label", "category_id", "score", "x1", "y1", "x2", "y2", "segmentation"]
    assert table["name"].tolist() == ["dog", "person"]
    assert table["category_id"].tolist() == [18, 1]
    assert np.allclose(table[["x1", "y1", "x2", "y2"]], found().boxes)
    assert table["segmentation"].tolist() == found().rles()
    assert table.groupby("name")["score"].max().to_dict() == pytest.approx({"dog": 0.9, "person": 0.75})
    assert "segmentation" not in found(masks=False).to_pandas()


def test_none_found_is_a_table_of_the_same_types() -> None:
    full, empty = found().to_pandas(), found()[[]].to_pandas()
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert len(pandas.concat([full, empty])) == 2


def test_a_table_goes_through_a_parquet_file(tmp_path) -> None:
    found().to_pandas().to_parquet(tmp_path / "a.parquet")
    again = pandas.read_parquet(tmp_path / "a.parquet")
    assert again["name"].tolist() == ["dog", "person"]
    assert [dict(each, size=list(each["size"])) for each in again["segmentation"]] == found().rles()
