"""Every architecture computes what its publisher's own code computed (recorded in the folders beside this file)."""

import pytest
import torch

from cases import Case, cases

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", cases("mmdet"), ids=lambda case: case.folder.name)
def test_checkpoint_converted_loaded_and_run_equals_the_publisher(case: Case, device: str, tmp_path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model, _ = case.convert(tmp_path, device)
    with torch.inference_mode():
        stages = case.stages(model)
    departed = [row for row in stages if not row["ok"]]
    report = case.compare(model.predict(case.image))
    assert not departed, f"departs first at {departed[0]}; then {report}"
    assert report["ok"], f"input, features and proposals agree, the detections do not: {report}"
    for file in tmp_path.iterdir():  # a few hundred megabytes a case
        file.unlink()
