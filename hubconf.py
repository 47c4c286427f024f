"""The zoo for ``torch.hub``: one entry point for each model, under its bare and its full name.

    torch.hub.list(repo)  # names; repo is "owner/cascadezoo"; load takes the path of a clone with source="local"
    torch.hub.help(repo, "cascade_mask_r50_fpn_1x")
    model = torch.hub.load(repo, "cascade_mask_r50_fpn_1x", pretrained=True)
    detections = model.predict("photo.jpg")

A bare name means the first publisher that has it, as everywhere (``cascadezoo.registry``).
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

from cascadezoo import loading as _loading
from cascadezoo import registry as _registry
from cascadezoo.coco import metrics as _metrics

# what loading a model and detecting with it import; training, evaluation and the command line want more
dependencies = [
    "cv2", "filelock", "numpy", "PIL", "pycocotools", "pydantic", "requests", "rich", "torch", "torchvision",
]  # fmt: skip

_HELP = """{entry.name}: {output}; backbone {entry.backbone}, {entry.schedule} schedule.

Its publisher's figures, in percent: {figures}.
Licence of the weights: {entry.weights_license}.  Attribution: {entry.attribution}.

Args:
    pretrained: use the published weights; else the model is randomly initialised, for training.
    **options: as cascadezoo.load takes them: weights, device, num_classes, min_size, max_size, box_score_thresh, ...

Returns:
    a model in eval mode: predict(image) takes a path, bytes, an array or a PIL image.
"""


def _entry_point(name: str) -> _Callable[..., _Any]:
    """The function that ``torch.hub`` calls for a model, with its help."""
    entry = _registry.info(name)
    figures = _metrics.published(entry.evaluations[0])

    def load(*, pretrained: bool = False, **options: _Any) -> _Any:
        return _loading.load(entry.name, pretrained=pretrained, **options)

    load.__name__ = load.__qualname__ = name
    load.__doc__ = _HELP.format(
        entry=entry,
        output="boxes and masks" if entry.has_masks else "boxes",
        figures=", ".join(f"{_metrics.METRICS[field].heading} {value}" for field, value in figures.items()),
    )
    return load


for _entry in _registry.entries():
    for _name in (_entry.bare_name, _entry.name):
        globals()[_name] = _entry_point(_name)
